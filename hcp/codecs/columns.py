"""Decode many records of one class at once into Arrow columns; it vouches for what it returns and judges nothing.

Whatever is in doubt (does not decode, breaks a range, may have bytes left over) is left to `hcp.codecs.decode`, which
says why. So a record means the same by either way, and pyruhvro's traps cost time and never a row: its errors name no
record, it panics with a BaseException, it takes trailing bytes, and it hangs or dies on schemas that `plan_of` refuses.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from typing import Any, Final, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
import pyruhvro
import structlog

import schemas
from hcp.codecs.measures import ENUM_SYMBOLS_MAX, Measured, canonical_lengths
from hcp.codecs.single_object import HEADER_BYTES, MARKER, RECORD_BYTES_MAX, fingerprint_of
from hcp.model.fields import Field
from hcp.model.validation import plain, unwrap, without_none

INDEXES: Final = "device_indexes"
"""The column that names the row of every other."""
_FLOAT_LARGEST: Final = sys.float_info.max
Bools = np.typing.NDArray[np.bool_]
Ints = np.typing.NDArray[np.int64]
_ARROW: Final[dict[type, pa.DataType]] = {int: pa.int64(), float: pa.float64(), str: pa.string()}
HALVED_MIN: Final = 16
"""Records fewer than this are judged one by one sooner than decoded twice more (40 us each, against 1.2 ms a half)."""
_PATTERN_VALUES_MAX: Final = 65_536
BatchDecoder = Callable[[list[bytes], str], pa.RecordBatch]
"""Decodes bodies of one schema, given as JSON, into one row a record in their order; or raises whatever it likes."""
_log = structlog.get_logger(__name__)


def pyruhvro_batch(bodies: list[bytes], writer_schema: str) -> pa.RecordBatch:
    """Decode with pyruhvro; raises anything, a BaseException among it."""
    return pyruhvro.deserialize_array(bodies, writer_schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Records that decoded and passed every check of their class.

    Attributes:
        record: Their class.
        batch: A row a record, under the names of its fields; a columnar field is a list.
        places: Which of the records given, ascending.
    """

    record: type
    batch: pa.RecordBatch
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """A field, its Arrow type and what it must be."""

    name: str
    kind: pa.DataType
    spec: Field
    is_column: bool
    is_null: bool
    is_enum: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the records of one schema version are decoded and checked."""

    record: type
    writer_schema: str
    checked: tuple[_Checked, ...]

    @property
    def measured(self) -> tuple[Measured, ...]:
        """Return its fields as their encoding has them."""
        return tuple(Measured(name=each.name, is_null=each.is_null, is_enum=each.is_enum) for each in self.checked)


def decode_columns(
    records: Sequence[bytes | None], record: type, *, decoder: BatchDecoder = pyruhvro_batch
) -> tuple[list[Columns], list[int]]:
    """Decode what can be vouched for.

    Args:
        records: Values as they lie on the broker.
        record: Class wanted.
        decoder: Replaces pyruhvro in tests.

    Returns:
        The columns, one batch a schema version; and the places of all other records, ascending.
    """
    plans = plans_of(record)
    by_version: dict[bytes, list[int]] = {}
    doubtful: list[int] = []
    for place, data in enumerate(records):
        head = b"" if data is None or len(data) > RECORD_BYTES_MAX else data[:HEADER_BYTES]
        if head in plans:
            by_version.setdefault(head, []).append(place)
        else:
            doubtful.append(place)
    found: list[Columns] = []
    for head, places in by_version.items():
        bodies = [(records[place] or b"")[HEADER_BYTES:] for place in places]
        parts = _sound(plans[head], bodies, decoder)
        sound = [places[row] for _, rows in parts for row in rows]
        if sound:
            batch = pa.concat_batches([part for part, _ in parts]) if len(parts) > 1 else parts[0][0]
            found.append(Columns(record=record, batch=batch, places=tuple(sound)))
        doubtful += set(places).difference(sound) if len(sound) < len(places) else ()
    return found, sorted(doubtful)


def rows_per_record(columns: Columns) -> Ints:
    """Return how many devices each record has."""
    sizes: Ints = np.diff(columns.batch.column(INDEXES).offsets.to_numpy()).astype(np.int64)
    return sizes


@cache
def plans_of(record: type) -> dict[bytes, Plan]:
    """Return the versions that can be decoded in columns, by the first bytes of their records; looked at once."""
    plans: dict[bytes, Plan] = {}
    for _, schema in (*schemas.retired(), *schemas.current()):
        if schema["name"] != record.__name__:
            continue
        plan = plan_of(record, schema)
        if plan is None:
            _log.warning(
                "columns_not_decoded", record=record.__name__, why="the schema is not one for the fast decoder"
            )
        else:
            plans[MARKER + fingerprint_of(schema)] = plan
    return plans


def plan_of(record: type, schema: schemas.Schema) -> Plan | None:
    """Return the plan of a version; None when the fast decoder must not see it.

    It must have exactly the class's fields, of numbers, names and enums of the class, or lists of them by device. All
    else (bytes and fixed panic, an array of null never ends, nested records) is read by fastavro.
    """
    hints = get_type_hints(record, include_extras=True)
    checked: list[_Checked] = []
    if [field["name"] for field in schema["fields"]] != [field.name for field in fields(record)]:
        return None
    for field in schema["fields"]:
        spec, hint = unwrap(hints[field["name"]])
        hint, is_null = without_none(hint)
        avro, is_column = field["type"], get_origin(hint) is tuple
        if is_column:
            hint, is_null = without_none(get_args(hint)[0])
            if not isinstance(avro, dict) or avro.get("type") != "array" or spec is None or not spec.column:
                return None
            avro = avro["items"]
        arrow = _arrow_type(plain(hint), avro, is_null=is_null)
        if arrow is None or spec is None:
            return None
        is_enum = issubclass(plain(hint), Enum)
        checked.append(
            _Checked(name=field["name"], kind=arrow, spec=spec, is_column=is_column, is_null=is_null, is_enum=is_enum)
        )
    names = {each.name for each in checked if each.is_column}
    plan = Plan(record=record, writer_schema=json.dumps(schema), checked=tuple(checked))
    return plan if INDEXES in names and _is_decoded_as(plan) else None


def _arrow_type(kind: Any, avro: Any, *, is_null: bool) -> pa.DataType | None:  # noqa: ANN401  # types
    if is_null:
        if not isinstance(avro, list) or len(avro) != 2 or avro[0] != "null":  # noqa: PLR2004  # null and one more
            return None
        avro = avro[1]
    if isinstance(kind, type) and issubclass(kind, Enum):
        members = {member.value for member in kind}
        is_ours = isinstance(avro, dict) and avro.get("type") == "enum" and set(avro["symbols"]) <= members
        return pa.string() if is_ours and len(avro["symbols"]) <= ENUM_SYMBOLS_MAX else None
    wanted = {int: "long", float: "double", str: "string"}.get(kind)
    return _ARROW[kind] if wanted is not None and avro == wanted else None


def _is_decoded_as(plan: Plan) -> bool:
    """Whether pyruhvro makes of the schema what we expect; a new version of it may not."""
    try:
        found = pyruhvro_batch([], plan.writer_schema).schema
    except BaseException as error:  # noqa: BLE001  # its panics are no Exception
        _let_through(error)
        return False
    return all(_plain_type(found.field(each.name).type) == _listed(each) for each in plan.checked)


def _listed(each: _Checked) -> tuple[bool, pa.DataType]:
    return each.is_column, each.kind


def _plain_type(kind: pa.DataType) -> tuple[bool, pa.DataType]:
    return (True, kind.value_type) if pa.types.is_list(kind) else (False, kind)


def _let_through(error: BaseException) -> None:
    """Raise again what ends the process on purpose; a panic of the decoder does not."""
    if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
        raise error


def _sound(plan: Plan, bodies: list[bytes], decoder: BatchDecoder) -> list[tuple[pa.RecordBatch, list[int]]]:
    """Return batches with the places of their records within `bodies`; halves what fails until a few are left."""
    found: list[tuple[pa.RecordBatch, list[int]]] = []
    waiting = [(0, len(bodies))]
    while waiting:
        start, end = waiting.pop()
        try:
            batch = decoder(bodies[start:end], plan.writer_schema)
            good = _good(plan, batch, bodies[start:end])
        except BaseException as error:  # noqa: BLE001  # as above; the records are judged by fastavro, one by one
            _let_through(error)
            if end - start > HALVED_MIN:
                middle = (start + end) // 2
                waiting += [(middle, end), (start, middle)]
            continue
        if good.all():
            found.append((batch, list(range(start, end))))
        elif good.any():
            found.append((batch.filter(pa.array(good)), (np.flatnonzero(good) + start).tolist()))
    return found


def _good(plan: Plan, batch: pa.RecordBatch, bodies: list[bytes]) -> Bools:
    """Return which records are beyond doubt."""
    count = len(bodies)
    if batch.num_rows != count:
        raise ValueError(f"a batch must have {count} rows, was {batch.num_rows}")
    lengths = np.fromiter(map(len, bodies), dtype=np.int64, count=count)
    good: Bools = canonical_lengths(batch, plan.measured) == lengths
    indexes = batch.column(INDEXES)
    sizes = np.diff(indexes.offsets.to_numpy())
    owners = np.repeat(np.arange(count), sizes)
    for each in plan.checked:
        column = batch.column(each.name)
        if not each.is_column:
            good &= _within(each, column)
            continue
        is_equal = np.diff(column.offsets.to_numpy()) == sizes
        good &= is_equal
        cells = column.flatten()
        if is_equal.all():
            good[owners[~_within(each, cells)]] = False
        else:
            own = np.repeat(np.arange(count), np.diff(column.offsets.to_numpy()))
            good[own[~_within(each, cells)]] = False
    return good & _distinct(indexes.flatten().to_numpy(), owners, count)


def _within(each: _Checked, cells: pa.Array) -> Bools:
    """Return which cells are within the field's range; null is where it may be."""
    if each.is_enum:  # the decoder knows no other symbols
        return np.ones(len(cells), dtype=np.bool_)
    if pa.types.is_string(cells.type):
        return _matching(each.spec, cells)
    nulls = cells.is_null().to_numpy(zero_copy_only=False) if cells.null_count else None
    values = cells.to_numpy(zero_copy_only=False) if nulls is None else cells.fill_null(0).to_numpy()
    low = each.spec.minimum if each.spec.minimum is not None else -_FLOAT_LARGEST
    high = each.spec.maximum if each.spec.maximum is not None else _FLOAT_LARGEST
    within: Bools = (values >= low) & (values <= high)  # false for NaN too
    return within if nulls is None else np.where(nulls, each.is_null, within)


def _matching(spec: Field, cells: pa.Array) -> Bools:
    encoded = cells.dictionary_encode()
    if len(encoded.dictionary) > _PATTERN_VALUES_MAX:
        raise ValueError(f"names in a batch must be {_PATTERN_VALUES_MAX} or fewer, was {len(encoded.dictionary)}")
    names = encoded.dictionary.to_pylist()  # raises for what is no UTF-8
    if spec.pattern is None or not names:
        return np.ones(len(cells), dtype=np.bool_)
    matches = re.compile(spec.pattern).fullmatch
    fits = np.fromiter((matches(name) is not None for name in names), dtype=np.bool_, count=len(names))
    found: Bools = fits[encoded.indices.to_numpy(zero_copy_only=False)]
    return found


def _distinct(indexes: Ints, owners: Ints, count: int) -> Bools:
    """Return which records name no device twice; ascending ones, which is what there is, need no sorting."""
    distinct = np.ones(count, dtype=np.bool_)
    same = owners[1:] == owners[:-1]
    if (np.diff(indexes)[same] > 0).all():
        return distinct
    order = np.lexsort((indexes, owners))
    twice = (np.diff(indexes[order]) == 0) & (np.diff(owners[order]) == 0)
    distinct[owners[order][1:][twice]] = False
    return distinct
