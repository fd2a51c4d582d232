"""A Faust table of frozen states: keys are names, values a version byte and MessagePack of the dataclass.

The table itself holds raw bytes, since Faust offers tables no codec of one's own; so memory, changelog and recovery all
hold the same thing.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, Generic, Protocol, TypeVar

import faust
import msgspec

STATE_VERSION: Final = b"\x01"
DECODED_MAX: Final = 8_192
"""States kept as values beside their bytes, by the bytes: most are read far more often than written."""
State = TypeVar("State")


class Keeper(Protocol):
    """Where a guard writes states: one table, or several under one lock."""

    lock: asyncio.Lock

    def set(self, key: str, state: Any) -> None:  # noqa: ANN401  # each keeper has its own states
        """Keep a state."""


class States(Generic[State]):
    """The states of one agent, by table key."""

    def __init__(self, app: faust.App, name: str, *, state: type[State], partitions: int) -> None:
        """Make the table `name` with its own changelog, partitioned as its source topics are."""
        self._table: Any = app.Table(name, partitions=partitions, key_type=bytes, value_type=bytes)
        self.lock = asyncio.Lock()
        decoder = msgspec.msgpack.Decoder(state)
        self._value = lru_cache(maxsize=DECODED_MAX)(lambda raw: decoder.decode(raw[1:]))
        self._encode = msgspec.msgpack.Encoder().encode

    def on_recover(self, callback: Callable[[], None]) -> None:
        """Call back whenever the table was filled anew from its changelog."""

        async def recovered() -> None:
            callback()

        self._table.on_recover(recovered)

    def get(self, key: str) -> State | None:
        """Return the state of `key`, or None when it has none yet."""
        raw = self._table.get(key.encode())
        if raw is None:
            return None
        assert raw[:1] == STATE_VERSION, f"table state must be of version {STATE_VERSION!r}, was {raw[:1]!r}"
        state: State = self._value(raw)
        return state

    def set(self, key: str, state: State) -> None:
        """Keep a state; the changelog record goes to the partition of the event being handled."""
        self._table[key.encode()] = STATE_VERSION + self._encode(state)

    def drop(self, key: str) -> None:
        """Forget a state, if there is one."""
        self._table.pop(key.encode(), None)

    def keys(self) -> list[str]:
        """Return the keys that this worker has."""
        return [key.decode() for key in self._table]


class View(Mapping[str, State]):
    """Some of a table's states, decoded when they are asked for."""

    def __init__(self, states: States[State], names: Iterable[str]) -> None:
        """Show the states of these keys; a key without one is not there."""
        self._states, self._names = states, tuple(names)

    def __getitem__(self, key: str) -> State:
        """Return a state."""
        state = self._states.get(key)
        if state is None:
            raise KeyError(key)
        return state

    def __iter__(self) -> Iterator[str]:
        """Name those that have a state."""
        return (name for name in self._names if self._states.get(name) is not None)

    def __len__(self) -> int:
        """Count them."""
        return sum(1 for _ in self)
