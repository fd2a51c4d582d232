"""Faults on request, and the corrupt bytes that only a simulator of faults may send."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from io import BytesIO
from typing import Any, Final

import msgspec
from fastavro import parse_schema, schemaless_writer

import schemas
from hcp.codecs import fingerprint_of
from hcp.errors import FleetError
from hcp.model.facilities import Fleet
from hcp.model.telemetry import AsicTelemetry, GpuTelemetry

Batch = GpuTelemetry | AsicTelemetry
MARKER: Final = b"\xc3\x01"
_DEVICE: Final = re.compile(r"(?P<shard>.+/[0-9]{2,4})(/(?P<index>[0-9]{1,3}))?")


class FaultKind(StrEnum):
    """What may go wrong."""

    OVERHEAT = "overheat"
    SILENT = "silent"
    NAN = "nan"
    UNEQUAL = "unequal"
    DROPOUT = "dropout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault.

    Attributes:
        kind: What goes wrong.
        shard_id: Where; "" for `dropout`, which is everywhere.
        index: Which device of the shard; None is all of them.
        ratio: Share of batches that `dropout` loses.
    """

    kind: FaultKind
    shard_id: str = ""
    index: int | None = None
    ratio: float = 0.0


def parse_fault(text: str, *, fleet: Fleet) -> Fault:
    """Parse `overheat:tx-north.asic-1/00/3`, `silent:…`, `nan:…`, `unequal:tx-north.asic-1/00` or `dropout:0.1`.

    Raises:
        FleetError: No such fault, shard or device.
    """
    name, _, target = text.partition(":")
    if name not in set(FaultKind):
        raise FleetError(f"fault must be one of {', '.join(FaultKind)} with a colon, was {text}")
    kind = FaultKind(name)
    if kind is FaultKind.DROPOUT:
        return Fault(kind=kind, ratio=_ratio(target))
    match = _DEVICE.fullmatch(target)
    shard = fleet.shard(match["shard"]) if match is not None else None
    if match is None or shard is None:
        raise FleetError(f"{name} must name a shard of the fleet, such as tx-north.asic-1/00/3, was {target}")
    index = int(match["index"]) if match["index"] is not None else None
    if index is not None and index >= shard.device_count:
        raise FleetError(f"{name} must name a device below {shard.device_count} of {shard.shard_id}, was {index}")
    return Fault(kind=kind, shard_id=shard.shard_id, index=index)


def _ratio(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = math.nan
    if not 0.0 <= ratio <= 1.0:
        raise FleetError(f"dropout must be a ratio from 0 to 1, was {text}")
    return ratio


def corrupted(batch: Batch, faults: Sequence[Fault]) -> bytes | None:
    """Return the bytes of a batch made wrong on purpose, or None when no fault corrupts it."""
    power = list(batch.power_watts)
    is_wrong = False
    for fault in faults:
        if fault.kind is FaultKind.NAN:
            is_wrong = True
            for index in range(len(power)) if fault.index is None else (fault.index,):
                power[index] = math.nan
        elif fault.kind is FaultKind.UNEQUAL:
            is_wrong = True
            power = power[:-1]
    return encode_unchecked(replace(batch, power_watts=tuple(power))) if is_wrong else None


def encode_unchecked(batch: Batch) -> bytes:
    """Encode as hcp.codecs does, but without its refusal of what is out of range."""
    mark, schema = _written(type(batch).__name__)
    body = BytesIO()
    body.write(MARKER + mark)
    schemaless_writer(body, schema, msgspec.to_builtins(batch))
    return body.getvalue()


@cache
def _written(name: str) -> tuple[bytes, Any]:
    schema = next(schema for _, schema in schemas.current() if schema["name"] == name)
    return fingerprint_of(schema), parse_schema(schema)
