"""Schemas, dataclasses, enums and shipped bytes say the same."""

from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import schemas
from hcp.codecs import decode, encode, fingerprint_of
from hcp.codecs.derive import records, schema_of, snake_case
from tests.examples import EXAMPLES

GOLDEN = Path(__file__).parents[1] / "golden" / "records"
CURRENT = dict(schemas.current())


@pytest.mark.parametrize("record", records(), ids=lambda record: record.__name__)
def test_schema_file_is_what_the_dataclass_says(record: type) -> None:
    """A schema file and its dataclass agree on every field, unit, range, enum and doc; `make schemas` writes them."""
    assert CURRENT[snake_case(record.__name__)] == schema_of(record)


def test_every_schema_file_has_a_record() -> None:
    """No schema file is left over from a record that is gone."""
    assert set(CURRENT) == {snake_case(record.__name__) for record in records()}


@pytest.mark.parametrize("name", sorted(CURRENT))
def test_every_field_is_documented_with_unit_and_range(name: str) -> None:
    """A number has a unit and a range, a free string a pattern, and everything a doc."""
    for field in _all_fields(CURRENT[name]):
        assert field["doc"].endswith("."), field["name"]
        if _scalar(field["type"]) in ("long", "double"):  # nested types are unhashable
            assert {"unit", "minimum", "maximum"} <= set(field), field["name"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_round_trip(example: object) -> None:
    """What is encoded decodes to an equal value."""
    assert decode(encode(example)) == example


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_golden_bytes_of_today(example: object) -> None:
    """The bytes written today are the golden ones: a changed schema shows up here before it ships."""
    mark = fingerprint_of(CURRENT[snake_case(type(example).__name__)]).hex()
    golden = GOLDEN / f"{snake_case(type(example).__name__)}.{mark}.hex"
    assert encode(example).hex() == golden.read_text(encoding="ascii").strip()


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.hex")), ids=lambda path: path.stem)
def test_every_golden_record_ever_shipped_still_decodes(golden: Path) -> None:
    """Old bytes decode for ever: a schema that has shipped is only changed compatibly."""
    value = decode(bytes.fromhex(golden.read_text(encoding="ascii")))
    assert snake_case(type(value).__name__) == golden.name.split(".")[0]


def test_all_examples_cover_all_records() -> None:
    """Every record class has an example, so nothing above is skipped."""
    assert {type(example) for example in EXAMPLES} == set(records())


def _all_fields(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [field for arm in schema for field in _all_fields(arm)]
    if not isinstance(schema, dict):
        return []
    if schema["type"] == "array":
        return _all_fields(schema["items"])
    own: list[dict[str, Any]] = schema.get("fields", [])
    return own + [field for each in own for field in _all_fields(each["type"])]


def _scalar(kind: Any) -> Any:
    if isinstance(kind, list):
        return _scalar(kind[1])
    return _scalar(kind["items"]) if isinstance(kind, dict) and kind["type"] == "array" else kind


def test_enum_symbols_are_unique_strings() -> None:
    """Enums share one string in Python, Avro, SQL and JSON."""
    for example in EXAMPLES:
        for name in getattr(type(example), "__slots__", ()):
            value = getattr(example, name)
            if isinstance(value, Enum):
                assert value == value.value
