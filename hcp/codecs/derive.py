"""Derive the Avro schema of a record from its dataclass; `python -m hcp.codecs.derive` writes schemas/avro.

The dataclass is where a field's doc, unit and range are said. A test holds the files against this derivation, and
golden bytes hold shipped versions against change.
"""

import json
import sys
from dataclasses import MISSING, fields
from dataclasses import Field as DataclassField
from enum import Enum
from inspect import getdoc
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from hcp.model.fields import Field
from hcp.model.rejections import DeadLetter
from hcp.model.validation import plain, unwrap, without_none
from hcp.topics import TOPICS
from schemas import Schema

NAMESPACE = "hcp"
_PRIMITIVES: dict[type, str] = {int: "long", float: "double", str: "string", bool: "boolean", bytes: "bytes"}


def snake_case(name: str) -> str:
    """Turn `MarketPrice` into `market_price`, the stem of its schema file."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def records() -> tuple[type, ...]:
    """Return every record class that has a schema file, in the order of the topic registry."""
    return (*(topic.record for topic in TOPICS), DeadLetter)


def schema_of(record: type, known: set[str] | None = None) -> Schema:
    """Return the Avro schema of a record; a name used twice is defined where it stands first."""
    seen = known if known is not None else set()
    seen.add(record.__name__)
    hints = get_type_hints(record, include_extras=True)
    return {
        "type": "record",
        "name": record.__name__,
        "namespace": NAMESPACE,
        "doc": _first_paragraph(record),
        "fields": [_field(field, hints[field.name], seen) for field in fields(record)],
    }


def _first_paragraph(thing: type) -> str:
    return " ".join((getdoc(thing) or "").split("\n\n")[0].split())


def _field(declared: "DataclassField[Any]", hint: Any, seen: set[str]) -> Schema:  # noqa: ANN401  # a type hint
    spec, kind = unwrap(hint)
    assert spec is not None, f"{declared.name} must be Annotated with a Field"
    field: Schema = {"name": declared.name, "type": _type(kind, seen), "doc": _doc(spec)}
    if declared.default is not MISSING:  # added after the record had shipped: older bytes read as this
        field["default"] = [] if declared.default == () else declared.default
    for attribute in ("unit", "minimum", "maximum", "pattern"):
        value = getattr(spec, attribute)
        if value is not None:
            field[attribute] = value
    return field


def _doc(spec: Field) -> str:
    limits = f" Range: {spec.rule}." if spec.minimum is not None or spec.maximum is not None else ""
    unit = f" Unit: {spec.unit}." if spec.unit else ""
    return f"{spec.doc}{unit}{limits}"


def _type(kind: Any, seen: set[str]) -> Any:  # noqa: ANN401  # Avro types are strings, lists or objects
    kind, is_optional = without_none(kind)
    if is_optional:
        return ["null", _type(kind, seen)]
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _type(get_args(kind)[0], seen)}
    builtin = plain(kind)
    if builtin in _PRIMITIVES:
        return _PRIMITIVES[builtin]
    if builtin.__name__ in seen:
        return f"{NAMESPACE}.{builtin.__name__}"
    if issubclass(builtin, Enum):
        return _enum(builtin, seen)
    return schema_of(builtin, seen)


def _enum(kind: type[Enum], seen: set[str]) -> Any:  # noqa: ANN401  # as _type
    symbols = [member.value for member in kind]
    if any(not symbol.isidentifier() for symbol in symbols):
        return "string"  # Avro symbols are identifiers; event types hold a dot, so the codec checks them instead
    seen.add(kind.__name__)
    return {
        "type": "enum",
        "name": kind.__name__,
        "namespace": NAMESPACE,
        "doc": _first_paragraph(kind),
        "symbols": symbols,
    }


def write(folder: Path) -> None:
    """Write every schema file."""
    folder.mkdir(parents=True, exist_ok=True)
    for record in records():
        text = json.dumps(schema_of(record), indent=2, ensure_ascii=False) + "\n"
        (folder / f"{snake_case(record.__name__)}.avsc").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "schemas/avro"))
