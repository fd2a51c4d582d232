"""Run the live sink: records to Redis channels and their logs, one atomic script a record, pipelined."""

from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.exceptions import RedisError

from hcp.clock import wall_ms
from hcp.errors import StoreUnavailableError
from hcp.model.units import MS_PER_MINUTE
from hcp.settings import Settings
from hcp.topics import ALERTS, BILLING_USAGE, MARKET_PRICE, ORCHESTRATOR_COMMAND, RESOURCE_STATE, WORKLOAD_EVENTS
from sinks.live.messages import message_of
from sinks.loop import Told, follow

NAME: Final = "live"
TOPICS: Final = tuple(
    topic.name for topic in (WORKLOAD_EVENTS, BILLING_USAGE, MARKET_PRICE, RESOURCE_STATE, ALERTS, ORCHESTRATOR_COMMAND)
)
AGE_MS_MAX: Final = 5 * MS_PER_MINUTE
"""What is older is history, not live; the first start finds months of it."""
LOG_MAX: Final = 1_000
LOG_KEPT_MS: Final = 24 * 60 * MS_PER_MINUTE
TIMEOUT_SECONDS: Final = 5.0
SCRIPT: Final = """
local id = redis.call('XADD', KEYS[1] .. ':log', 'MAXLEN', '~', ARGV[3], '*', 'topic', ARGV[1], 'data', ARGV[2])
redis.call('PEXPIRE', KEYS[1] .. ':log', ARGV[4])
redis.call('PUBLISH', KEYS[1], '{"id":"' .. id .. '","topic":"' .. ARGV[1] .. '","data":' .. ARGV[2] .. '}')
return id
"""


def run_live(*, settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; return the exit code.

    Raises:
        BrokerError: A topic is missing or the broker refuses.
    """
    return follow(NAME, settings=settings, topics=TOPICS, effect=Live(settings.redis_url.get_secret_value()).take)


@dataclass(slots=True)
class Live:
    """Publishes batches; a record that comes twice is published twice, under two ids."""

    url: str
    _redis: Any = None

    def take(self, told: list[Told]) -> None:
        """Publish what is new enough.

        Raises:
            StoreUnavailableError: Redis is away.
        """
        oldest_ms = wall_ms() - AGE_MS_MAX
        try:
            if self._redis is None:
                self._redis = redis.Redis.from_url(self.url, socket_timeout=TIMEOUT_SECONDS)
            pipeline = self._redis.pipeline(transaction=False)
            for record, value in told:
                message = message_of(value) if record.timestamp_ms >= oldest_ms else None
                if message is not None:
                    channel, data = message
                    pipeline.eval(SCRIPT, 1, channel, record.topic, data, LOG_MAX, LOG_KEPT_MS)
            pipeline.execute()
        except RedisError as error:
            raise StoreUnavailableError(f"Redis must take live updates, was: {error}") from error
