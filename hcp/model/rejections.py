"""Bad input as a value: why a record was refused, and the dead letter that keeps it whole."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from hcp.model.fields import Field


class RejectReason(StrEnum):
    """The vocabulary of dead letters."""

    NOT_A_RECORD = "not_a_record"
    UNKNOWN_SCHEMA = "unknown_schema"
    UNDECODABLE = "undecodable"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    UNEQUAL_COLUMNS = "unequal_columns"
    FROM_THE_FUTURE = "from_the_future"
    UNKNOWN_FACILITY = "unknown_facility"
    UNKNOWN_SHARD = "unknown_shard"
    UNKNOWN_DEVICE = "unknown_device"
    UNKNOWN_DEVICE_CLASS = "unknown_device_class"
    TOO_LARGE = "too_large"
    STORE_REFUSED = "store_refused"
    TRANSFORM_FAILED = "transform_failed"
    REPLAYED = "replayed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A record that is not acted on; `detail` says what must be and what was."""

    reason: RejectReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A refused record with its address, its raw bytes and the reason, so that it can be mended and redriven."""

    source_topic: Annotated[str, Field("Topic it was on.", pattern=r"[A-Za-z0-9._-]{1,249}")]
    source_partition: Annotated[int, Field("Its partition.", unit="1", minimum=0, maximum=2**31)]
    source_offset: Annotated[int, Field("Its offset.", unit="1", minimum=0, maximum=2**53)]
    source_timestamp_ms: Annotated[
        int,
        Field("Its broker timestamp; -1 when it had none.", unit="ms since epoch", minimum=-1, maximum=2**53),
    ]
    reason: Annotated[RejectReason, Field("Why it was refused.")]
    detail: Annotated[str, Field("What must be and what was.", pattern=r"[\s\S]{0,2000}")]
    rejected_by: Annotated[str, Field("Process that refused it.", pattern=r"[A-Za-z0-9_.-]{1,128}")]
    record_key: Annotated[bytes | None, Field("Its key, as it was.")]
    record_value: Annotated[bytes | None, Field("Its value, as it was.")]
