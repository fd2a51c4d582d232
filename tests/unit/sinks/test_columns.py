"""Rows made in columns are the rows made record by record: generated, mutated, and a decoder that panics."""

import random
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import schemas
from hcp.codecs import decode, encode
from hcp.codecs.columns import HALVED_MIN, decode_columns, plan_of, plans_of, pyruhvro_batch
from hcp.codecs.derive import schema_of
from hcp.kafka.records import ConsumedRecord
from hcp.model.devices import DeviceMode
from hcp.model.ledger import AuditEvent
from hcp.model.rejections import DeadLetter, Rejected, RejectReason
from hcp.model.telemetry import AsicTelemetry, GpuTelemetry
from hcp.model.units import EpochMs
from hcp.topics import METRICS_ASIC, METRICS_GPU, TOPICS
from sinks.intake import ROWS_MAX, Intake, Part
from sinks.timescale.columns import Block, copy_bytes, is_for_columns, rows_of_block
from sinks.timescale.rows import rows_of, timestamp
from sinks.timescale.tables import table_of
from tests.examples import ASIC_TELEMETRY, AT, GPU_TELEMETRY

SEEDS, MUTANTS = 2_000, 49
"""With the seeds themselves 100,000 records."""
BATCH = 1_000
EDGES: tuple[float | None, ...] = (
    None,
    0.0,
    -0.0,
    1.0,
    0.5,
    100.0,
    5e-324,
    20_000.0,
    1e300,
    float("nan"),
    float("inf"),
    -1.0,
)


def _generated(dice: random.Random) -> AsicTelemetry | GpuTelemetry:
    """Return a valid record of 0 to 4 devices, some cells not measured."""
    example: Any = dice.choice((ASIC_TELEMETRY, GPU_TELEMETRY))
    count = dice.randrange(5)
    changes: dict[str, Any] = {"device_indexes": tuple(dice.sample(range(512), count))}
    for field in fields(example):
        old = getattr(example, field.name)
        if field.name == "modes":
            changes[field.name] = tuple(dice.choices(tuple(DeviceMode), k=count))
        elif isinstance(old, tuple) and field.name != "device_indexes":
            changes[field.name] = tuple(dice.choice((None, 0.0, 1.0, dice.random())) for _ in range(count))
    changes["shard_id"] = f"{example.cluster_id}/{dice.randrange(100):02d}"
    changes["observed_at_ms"] = AT + dice.randrange(10**6)
    return replace(example, **changes)  # type: ignore[no-any-return]


def _mutated(data: bytes, dice: random.Random) -> bytes:
    """Return the bytes damaged in one of the ways bytes are."""
    place, kind = dice.randrange(len(data)), dice.randrange(6)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data + dice.randbytes(dice.randrange(1, 9))
    if kind == 2:
        return data[:place] + data[place + 1 :]
    if kind == 3:
        return data[:place] + dice.randbytes(1) + data[place:]
    changed = bytearray(data)
    changed[place] = dice.randrange(256) if kind == 4 else changed[place] ^ (1 << dice.randrange(8))
    return bytes(changed)


def _record(
    data: bytes | None, *, offset: int, topic: str = METRICS_ASIC.name, at_ms: int = AT + 10**7
) -> ConsumedRecord:
    return ConsumedRecord(topic=topic, partition=offset % 5, offset=offset, timestamp_ms=at_ms, key=None, value=data)


def _consumed(data: bytes, offset: int) -> ConsumedRecord:
    gpu = encode(GPU_TELEMETRY)[:10]
    return _record(data, offset=offset, topic=METRICS_GPU.name if data[:10] == gpu else METRICS_ASIC.name)


def _is_refused_by_the_decoder(record: ConsumedRecord) -> bool:
    kind = AsicTelemetry if record.topic == METRICS_ASIC.name else GpuTelemetry
    data = record.value or b""
    plan = plans_of(kind).get(data[:10])
    if plan is None:
        return True
    try:
        pyruhvro_batch([data[10:]], plan.writer_schema)
    except BaseException:  # noqa: BLE001  # its panics are no Exception
        return True
    return False


def _population() -> Iterator[list[ConsumedRecord]]:
    dice, batch = random.Random(7), []
    for number in range(SEEDS):
        seed = encode(_generated(dice))
        batch += [_consumed(seed, number * 50)]
        batch += [_consumed(_mutated(seed, dice), number * 50 + place + 1) for place in range(MUTANTS)]
        if len(batch) >= BATCH:
            yield sorted(batch, key=_is_refused_by_the_decoder)  # or no batch of mutants would ever decode at once
            batch = []


def _by_table(part: Part) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of a part by table, in the order of offset and device."""
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for decoded in part.good:
        table, own = rows_of(decoded.value, decoded.record)
        rows.setdefault(table.name, []).extend(own)
    for block in part.blocks:
        made = rows_of_block(block)
        assert tuple(made.schema.names) == table_of(block.record).column_names()
        rows.setdefault(table_of(block.record).name, []).extend(
            zip(*(column.to_pylist() for column in made.columns), strict=True)
        )
    return {name: sorted(own, key=itemgetter(-1, -4)) for name, own in rows.items() if own}


def _letters(part: Part) -> list[tuple[ConsumedRecord, RejectReason]]:
    """Return what is refused and why; fastavro's own words hold addresses of objects."""
    return [(record, rejected.reason) for record, rejected in part.refused]


def test_columns_and_records_give_equal_rows_and_letters() -> None:
    """On 100,000 generated and mutated records: the same rows, and the same refused for the same reasons."""
    in_columns, by_record = Intake(), Intake(is_by_record=True)
    seen = in_blocks = refused = 0
    for batch in _population():
        [fast], [slow] = in_columns.parts(batch), by_record.parts(batch)
        assert _by_table(fast) == _by_table(slow)
        assert _letters(fast) == _letters(slow)
        assert (fast.following, fast.counts, fast.rows) == (slow.following, slow.counts, slow.rows)
        assert slow.blocks == ()
        seen += len(batch)
        in_blocks += sum(len(block.records) for block in fast.blocks)
        refused += len(fast.refused)
    assert seen == SEEDS * (MUTANTS + 1)
    assert in_blocks > SEEDS
    assert refused > SEEDS


def test_good_records_are_decoded_in_columns_whatever_lies_beside_them() -> None:
    """A poisoned batch is halved: few good ones are judged by record, for the bad one's sake, and all are stored."""
    records = [encode(replace(ASIC_TELEMETRY, observed_at_ms=EpochMs(AT + place))) for place in range(999)]
    records[123] = records[123][:-3]
    records[500] = records[500][:10] + b"\xff" * 40
    found, doubtful = decode_columns(records, AsicTelemetry)
    assert {123, 500} <= set(doubtful)
    assert len(doubtful) <= 2 * HALVED_MIN
    assert [columns.places for columns in found] == [tuple(sorted(set(range(999)) - set(doubtful)))]
    times = found[0].batch.column("observed_at_ms").to_pylist()
    assert times == [AT + place for place in found[0].places]
    [part] = Intake().parts([_record(data, offset=place) for place, data in enumerate(records)])
    assert [record.offset for record, _ in part.refused] == [123, 500]
    assert len(_by_table(part)["asic_telemetry"]) == 997 * 2


class Panic(BaseException):
    """As pyruhvro's panics are: no Exception."""


def test_a_decoder_that_panics_costs_time_and_no_record() -> None:
    """Whatever it raises, for one record or for all, the rows are those of the slow way."""
    bad = encode(replace(ASIC_TELEMETRY, observed_at_ms=EpochMs(AT + 3)))

    def panics_at_one(bodies: list[bytes], writer_schema: str) -> pa.RecordBatch:
        if bad[10:] in bodies:
            raise Panic
        return pyruhvro_batch(bodies, writer_schema)

    def panics(_bodies: list[bytes], _writer_schema: str) -> pa.RecordBatch:
        raise Panic

    def loses_one(bodies: list[bytes], writer_schema: str) -> pa.RecordBatch:
        return pyruhvro_batch(bodies[1:], writer_schema)

    records = [
        _record(encode(replace(ASIC_TELEMETRY, observed_at_ms=EpochMs(AT + place))), offset=place)
        for place in range(99)
    ]
    [wanted] = Intake(is_by_record=True).parts(records)
    for decoder, by_record in ((panics_at_one, 12), (panics, 99), (loses_one, 99)):
        [part] = Intake(decoder=decoder).parts(records)
        assert len(part.good) == by_record  # of 99 records 12 are the last half's half's half
        assert _by_table(part) == _by_table(wanted)
        assert part.refused == ()


def test_an_interrupt_is_no_panic() -> None:
    """Ctrl-C within the decoder ends the process, as it should."""

    def interrupted(_bodies: list[bytes], _writer_schema: str) -> pa.RecordBatch:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_columns([encode(ASIC_TELEMETRY)], AsicTelemetry, decoder=interrupted)


@pytest.mark.parametrize("value", EDGES)
@pytest.mark.parametrize("example", [ASIC_TELEMETRY, GPU_TELEMETRY])
def test_values_at_the_edges_are_judged_alike(value: float | None, example: Any) -> None:
    """Each measured column: what the checks refuse is in doubt, what they take is vouched for."""
    plan = schema_of(type(example))
    for field in plan["fields"]:
        if not isinstance(field["type"], dict) or not isinstance(field["type"]["items"], list):
            continue
        data = _unchecked(replace(example, **{field["name"]: (1.0, value)}))
        found, doubtful = decode_columns([data], type(example))
        assert (doubtful == [0]) == isinstance(decode(data), Rejected), field["name"]
        assert len(found) == 1 - len(doubtful)


def _unchecked(value: Any) -> bytes:
    """Encode without the ranges' check, as an outside producer may."""
    from io import BytesIO  # noqa: PLC0415

    import msgspec  # noqa: PLC0415
    from fastavro import parse_schema, schemaless_writer  # noqa: PLC0415

    body = BytesIO()
    body.write(encode(ASIC_TELEMETRY if isinstance(value, AsicTelemetry) else GPU_TELEMETRY)[:10])
    schemaless_writer(body, parse_schema(schema_of(type(value))), msgspec.to_builtins(value))
    return body.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"device_indexes": (1, 1)},
        {"device_indexes": (1, 512)},
        {"device_indexes": (-1, 0)},
        {"device_indexes": (2, 1)},
        {"device_indexes": (1,)},
        {"power_watts": (1.0,)},
        {"power_watts": (1.0, 2.0, 3.0)},
        {"modes": (DeviceMode.MINING,)},
        {"shard_id": "nowhere"},
        {"facility_id": "Ä"},
        {"facility_id": ""},
        {"observed_at_ms": 0},
        {"observed_at_ms": 2**62},
        {"observed_at_ms": -(2**63)},
    ],
)
def test_records_that_are_not_what_they_should_be_are_judged_alike(changes: dict[str, Any]) -> None:
    """Lengths, names, times, doubled devices: alone and between good neighbours."""
    data = _unchecked(replace(ASIC_TELEMETRY, **changes))
    good = encode(ASIC_TELEMETRY)
    found, doubtful = decode_columns([good, data, good], AsicTelemetry)
    vouched = {place for columns in found for place in columns.places}
    assert sorted(vouched | set(doubtful)) == [0, 1, 2]
    assert (1 in vouched) != isinstance(decode(data), Rejected)


def test_only_schemas_that_the_decoder_is_safe_with_are_given_to_it() -> None:
    """Bytes panic, nested records and foreign fields are not rows: none of them has a plan."""
    assert len(plans_of(AsicTelemetry)) == len(plans_of(GpuTelemetry)) == 2
    assert plan_of(DeadLetter, schema_of(DeadLetter)) is None
    assert plan_of(AuditEvent, schema_of(AuditEvent)) is None
    schema = next(each for _, each in schemas.current() if each["name"] == "AsicTelemetry")
    assert plan_of(AsicTelemetry, schema) is not None
    for avro in ({"type": "array", "items": "null"}, {"type": "array", "items": "bytes"}, "bytes", "double"):
        foreign = {**schema, "fields": [*schema["fields"][:-1], {**schema["fields"][-1], "type": avro}]}
        assert plan_of(AsicTelemetry, foreign) is None
    assert plan_of(AsicTelemetry, {**schema, "fields": schema["fields"][:-1]}) is None
    names = [topic.name for topic in TOPICS if is_for_columns(topic.record)]
    assert names == [METRICS_GPU.name, METRICS_ASIC.name]
    assert not is_for_columns(int)


def test_a_poll_is_cut_into_parts_in_the_order_of_its_records() -> None:
    """Parts of about ROWS_MAX rows: every offset of a part comes after those of the part before."""
    size = 500
    wide = {
        field.name: getattr(ASIC_TELEMETRY, field.name)[:1] * size
        for field in fields(ASIC_TELEMETRY)
        if isinstance(getattr(ASIC_TELEMETRY, field.name), tuple)
    }
    data = encode(replace(ASIC_TELEMETRY, **{**wide, "device_indexes": tuple(range(size))}))
    count = ROWS_MAX // size * 2 + 3
    records = [replace(_record(data if place % 7 else b"bad", offset=place), partition=0) for place in range(count)]
    parts = list(Intake().parts(records))
    ends = [part.following[METRICS_ASIC.name, 0] for part in parts]
    assert ends == sorted(set(ends))
    assert ends[-1] == count
    assert max(part.rows for part in parts) < ROWS_MAX + size
    offsets = [
        [record.offset for block in part.blocks for record in block.records]
        + [record.offset for record, _ in part.refused]
        for part in parts
    ]
    assert sorted(chain.from_iterable(offsets)) == list(range(count))
    assert all(max(own) < end for own, end in zip(offsets, ends, strict=True))
    assert sum(part.rows for part in parts) == sum(
        rows_of_block(block).num_rows for part in parts for block in part.blocks
    )


def test_rows_lie_in_the_order_of_the_index() -> None:
    """By device, then time, however the records came."""
    values = [
        replace(
            ASIC_TELEMETRY,
            shard_id=f"tx-north.asic-1/{shard:02d}",
            observed_at_ms=EpochMs(AT + tick),
            device_indexes=(3, 1),
        )
        for tick, shard in ((5, 2), (1, 10), (5, 1), (1, 2), (9, 1))
    ]
    records = [_record(encode(value), offset=place) for place, value in enumerate(values)]
    [part] = Intake().parts(records)
    rows = rows_of_block(part.blocks[0])
    keys = list(zip(rows.column("device_id").to_pylist(), rows.column("observed_at").to_pylist(), strict=True))
    assert keys == sorted(keys)
    assert len(keys) == 10


def test_a_record_from_the_future_is_refused_by_either_way() -> None:
    """More than a minute ahead of its own broker timestamp: refused with that reason, its neighbours stored."""
    records = [_record(encode(ASIC_TELEMETRY), offset=place, at_ms=AT + 5) for place in range(3)]
    records[1] = replace(records[1], timestamp_ms=AT - 60_001)
    [part] = Intake().parts(records)
    assert [(record.offset, rejected.reason) for record, rejected in part.refused] == [
        (1, RejectReason.FROM_THE_FUTURE)
    ]
    assert [record.offset for block in part.blocks for record in block.records] == [0, 2]
    records[1] = replace(records[1], timestamp_ms=-1)
    [part] = Intake().parts(records)
    assert [decoded.record.offset for decoded in part.good] == [1]


def test_a_binary_copy_has_its_head_its_rows_and_its_trailer() -> None:
    """The format that PostgreSQL documents: signature, a count of fields a row, -1 for null, -1 at the end."""
    [columns], _ = decode_columns([encode(ASIC_TELEMETRY)], AsicTelemetry)
    block = Block(record=AsicTelemetry, records=(_record(b"", offset=7),), batch=columns.batch)
    data = b"".join(copy_bytes(rows_of_block(block)))
    names = table_of(AsicTelemetry).column_names()
    assert data.startswith(b"PGCOPY\n\xff\r\n\x00")
    assert data[19:21] == len(names).to_bytes(2)
    assert data.endswith(b"\xff\xff")
    assert data.count(b"\xff\xff\xff\xff") >= np.count_nonzero([cell is None for cell in ASIC_TELEMETRY.power_watts])
    assert timestamp(AT) in rows_of_block(block).column("observed_at").to_pylist()
