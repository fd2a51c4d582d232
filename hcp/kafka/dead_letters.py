"""Make the dead letter of a refused record; sending it is the producer's."""

from hcp.kafka.records import ConsumedRecord
from hcp.model.rejections import DeadLetter, Rejected

DETAIL_CHARACTERS_MAX = 2_000


def dead_letter(record: ConsumedRecord, rejected: Rejected, *, rejected_by: str) -> DeadLetter:
    """Return the letter that keeps `record` whole: its address, its bytes and why it was refused."""
    return DeadLetter(
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        source_timestamp_ms=max(record.timestamp_ms, -1),
        reason=rejected.reason,
        detail=rejected.detail[:DETAIL_CHARACTERS_MAX],
        rejected_by=rejected_by,
        record_key=record.key,
        record_value=record.value,
    )
