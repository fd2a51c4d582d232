"""How many bytes partitions take on the brokers' disks: a question that neither client library has a call for.

librdkafka has no DescribeLogDirs (2.16), so aiokafka carries a request of its own shape here. Where the broker does not
answer it (too old, or it may not say), there is no figure, rather than a guess.
"""

import asyncio
from collections import defaultdict
from typing import Any, Final

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String

from hcp.clock import seconds
from hcp.kafka.ranges import Place

ANSWER_MS_MAX: Final = 10_000
_DESCRIBE_LOG_DIRS: Final = 35
_log = structlog.get_logger(__name__)


class _Answer(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = _DESCRIBE_LOG_DIRS
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "log_dirs",
            Array(
                ("error_code", Int16),
                ("log_dir", String("utf-8")),
                (
                    "topics",
                    Array(
                        ("name", String("utf-8")),
                        (
                            "partitions",
                            Array(("partition", Int32), ("size", Int64), ("offset_lag", Int64), ("is_future", Boolean)),
                        ),
                    ),
                ),
            ),
        ),
    )


class _Question(RequestStruct):  # type: ignore[misc]  # as above
    API_KEY = _DESCRIBE_LOG_DIRS
    API_VERSION = 1
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(("topics", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))))


class _Ask(Request[_Question]):  # type: ignore[misc]  # as above
    API_KEY = _DESCRIBE_LOG_DIRS

    def build(self, request_struct_class: type[_Question]) -> _Question:
        return request_struct_class(None)  # null: every topic


def bytes_on_disk(bootstrap: str) -> dict[Place, int] | None:
    """Return the bytes of each partition, those of its largest replica; None when no broker would say."""
    try:
        return asyncio.run(asyncio.wait_for(_sizes(bootstrap), seconds(ANSWER_MS_MAX)))
    except (KafkaError, OSError, TimeoutError, NotImplementedError) as error:
        _log.info("sizes_unknown", bootstrap=bootstrap, error=repr(error))
        return None


async def _sizes(bootstrap: str) -> dict[Place, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    sizes: dict[Place, int] = defaultdict(int)
    try:
        await admin.start()
        for broker in (await admin.describe_cluster())["brokers"]:
            answer: Any = await admin._send_request_to_node(broker["node_id"], _Ask())  # noqa: SLF001  # no public way
            for _error, _folder, topics in answer.log_dirs:
                for name, partitions in topics:
                    for partition, size, _lag, _is_future in partitions:
                        sizes[name, partition] = max(sizes[name, partition], size)
    finally:
        await admin.close()
    return dict(sizes)
