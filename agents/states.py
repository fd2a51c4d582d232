"""A Faust table of frozen states: keys are names, values a version byte and MessagePack of the dataclass.

The table itself holds raw bytes, since Faust offers tables no codec of one's own; so memory, changelog and recovery all
hold the same thing.
"""

import asyncio
from typing import Any, Final, Generic, TypeVar

import faust
import msgspec

STATE_VERSION: Final = b"\x01"
State = TypeVar("State")


class States(Generic[State]):
    """The states of one agent, by table key."""

    def __init__(self, app: faust.App, name: str, *, state: type[State], partitions: int) -> None:
        """Make the table `name` with its own changelog, partitioned as its source topics are."""
        self._table: Any = app.Table(name, partitions=partitions, key_type=bytes, value_type=bytes)
        self.lock = asyncio.Lock()
        self._decode = msgspec.msgpack.Decoder(state).decode
        self._encode = msgspec.msgpack.Encoder().encode

    def get(self, key: str) -> State | None:
        """Return the state of `key`, or None when it has none yet."""
        raw = self._table.get(key.encode())
        if raw is None:
            return None
        assert raw[:1] == STATE_VERSION, f"table state must be of version {STATE_VERSION!r}, was {raw[:1]!r}"
        return self._decode(raw[1:])

    def set(self, key: str, state: State) -> None:
        """Keep a state; the changelog record goes to the partition of the event being handled."""
        self._table[key.encode()] = STATE_VERSION + self._encode(state)
