"""Chains of records out of the topics themselves: read once, then looked up in memory."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import fields
from enum import Enum
from typing import Any, Final

from hcp.browse.chain import KINDS, Link, link_of
from hcp.codecs import decode
from hcp.kafka.ranges import ranges_by_time, read
from hcp.kafka.records import ConsumedRecord
from hcp.model.commands import ControllerResult
from hcp.model.ids import device_id
from hcp.model.orders import OperatorOrder
from hcp.topics import TOPICS

NEWEST_MAX: Final = 20
_KINDS: Final = {kind.record: kind for kind in KINDS}


class ScannedChains:
    """Records of chains, from a stretch of every topic that has any."""

    def __init__(
        self,
        bootstrap: str,
        *,
        from_ms: int | None = None,
        to_ms: int | None = None,
        on_read: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Read the topics.

        Args:
            bootstrap: The broker.
            from_ms: Broker timestamp of the first record; None for all there is.
            to_ms: Likewise, not included.
            on_read: Told how many records were read since it was told last.

        Raises:
            BrokerError: The broker does not answer.
        """
        self._named: dict[str, list[Link]] = defaultdict(list)
        self._led: dict[str, list[Link]] = defaultdict(list)
        self._of_device: dict[str, list[Link]] = defaultdict(list)
        topics = [topic.name for topic in TOPICS if topic.record in _KINDS]
        for batch in read(bootstrap, ranges_by_time(bootstrap, topics, from_ms=from_ms, to_ms=to_ms)):
            for record in batch:
                self._take(record)
            on_read(len(batch))

    def named(self, names: Iterable[str]) -> list[Link]:
        """Return the records of these ids and addresses."""
        return [link for name in names for link in self._named.get(name, ())]

    def led_to_by(self, names: Iterable[str]) -> list[Link]:
        """Return the records that name one of these as their cause, or as what they are about."""
        return [link for name in names for link in self._led.get(name, ())]

    def of_device(self, device: str) -> list[Link]:
        """Return a device's newest switches and orders."""
        return sorted(self._of_device.get(device, ()), key=lambda each: each.recorded_at_ms)[-NEWEST_MAX:]

    def _take(self, record: ConsumedRecord) -> None:
        value: Any = decode(record.value)
        kind = _KINDS.get(type(value))
        if kind is None:
            return  # a dead letter's, and no part of a chain
        indexes = value.device_indexes if kind.is_columnar else ()
        held = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        link = link_of(
            kind,
            held,
            place=(record.topic, record.partition, record.offset),
            times_ms=(value.observed_at_ms, record.timestamp_ms),
            devices=len(indexes) or 1,
        )
        for name in link.own:
            self._named[name].append(link)
        for name in link.causes:
            self._led[name].append(link)
        if isinstance(value, ControllerResult | OperatorOrder):
            for index in indexes:
                self._of_device[device_id(shard_id=value.shard_id, device_index=index)].append(link)


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else value
