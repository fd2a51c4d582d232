"""Metrics of a process and the trace context that travels with every record."""

from typing import Final
from uuid import UUID

from prometheus_client import REGISTRY, Counter, Histogram, start_http_server

RECORDS: Final = Counter("hcp_records", "Records handled.", ["process", "topic"])
REJECTED: Final = Counter(
    "hcp_records_rejected", "Records sent to a dead-letter topic.", ["process", "topic", "reason"]
)
IGNORED: Final = Counter(
    "hcp_records_ignored", "Records with no effect: late or duplicate.", ["process", "topic", "reason"]
)
SENT: Final = Counter("hcp_records_sent", "Records produced.", ["process", "topic"])
TRANSFORM_SECONDS: Final = Histogram("hcp_transform_seconds", "Time in the pure transformation.", ["process"])
KILL_SWITCH_FAILURES: Final = Counter(
    "hcp_kill_switch_failures", "Passes of the kill switch that failed; it looks again."
)


def serve_metrics(port: int) -> None:
    """Serve Prometheus on 127.0.0.1:`port`; 0 serves none."""
    if port:
        start_http_server(port, addr="127.0.0.1", registry=REGISTRY)


def traceparent(*, trace_id: str, span_id: str) -> str:
    """Return a W3C traceparent made of derived ids, so that a replay has the same trace.

    Args:
        trace_id: UUID of the record that began it all.
        span_id: UUID of this record; its first 8 bytes become the span.
    """
    return f"00-{UUID(trace_id).hex}-{UUID(span_id).hex[:16]}-01"
