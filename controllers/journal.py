"""The switch journal in Redis: fencing, dedupe, what is under way, saved state and finished results.

Losing it loses no customer's data: the next command finds no fence and asks the hardware.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from controllers import scripts
from controllers.gathered import Gathered
from controllers.limits import SwitchLimits
from hcp.clock import seconds
from hcp.errors import StoreError
from hcp.model.commands import ControllerCommand, DeviceOutcome
from hcp.model.devices import DeviceMode

STATE_TTL_S: Final = 24 * 3_600
RESULT_TTL_S: Final = 7 * 24 * 3_600
SOCKET_MS_MAX: Final = 2_000
ABANDONED_MS: Final = 5_000
"""A switch and its rollbacks are bounded well below this: an older entry's owner is dead."""
DETAIL_CHARACTERS_MAX: Final = 500
_PREFIX: Final = "hcp:switch"
_HASHES: Final = ("epochs", "journal", "done", "quarantine", "holds", "history")
_QUARANTINE: Final = _HASHES.index("quarantine")
_HOLDS: Final = _HASHES.index("holds")


class Begun(StrEnum):
    """What the journal says to a device's command."""

    PREPARED = "prepared"
    DONE = "done"
    BUSY = "busy"
    QUARANTINED = "quarantined"
    FENCED = "fenced"
    EXPIRED = "expired"
    HELD = "held"
    LIMITED = "limited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How one device's command ended; what the journal keeps of it."""

    shard_id: str
    device_index: int
    command_id: str
    outcome: DeviceOutcome
    mode: DeviceMode
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The journal's answer at begin; `finished` for DONE, `detail` for the refusals."""

    begun: Begun
    detail: str = ""
    finished: Finished | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A journal entry found at recovery; `is_taken` when its owner is dead and it is ours now."""

    device_index: int
    command_id: str
    from_mode: DeviceMode
    to_mode: DeviceMode
    is_taken: bool


def connect(redis_url: str) -> Redis:
    """Return a client whose every call is bounded."""
    return Redis.from_url(
        redis_url,
        socket_timeout=seconds(SOCKET_MS_MAX),
        socket_connect_timeout=seconds(SOCKET_MS_MAX),
        decode_responses=False,
    )


@asynccontextmanager
async def _store_errors(what: str) -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreError(f"{what} must be answered by Redis, was: {error!r:.200}") from error


class Journal:
    """One controller's view of the journal; its incarnation fences every earlier one."""

    def __init__(self, redis: Redis, *, incarnation: int) -> None:
        """Use `open_journal`."""
        self._redis = redis
        self.incarnation = incarnation
        self._begin = redis.register_script(scripts.BEGIN)
        self._finish = redis.register_script(scripts.FINISH)
        self._take_over = redis.register_script(scripts.TAKE_OVER)
        self._admit = redis.register_script(scripts.ADMIT)
        self._finishing: dict[str, Gathered[Finished, bool]] = {}
        self._saving: Gathered[tuple[str, bytes], None] = Gathered(self._save_all)

    async def begin(
        self, command: ControllerCommand, *, rows: Sequence[int], is_expired: bool, limits: SwitchLimits
    ) -> list[Answer]:
        """Fence, dedupe, hold against the hardware's limits and journal `prepared` for rows of a command, in one call.

        Raises:
            StoreError: Redis does not answer; nothing or everything may be journaled, `take_over` tells.
        """
        if not rows:
            return []
        pairs: list[str | int] = [value for row in rows for value in (command.device_indexes[row], command.epochs[row])]
        flag = int(is_expired)
        head: list[str | int] = [
            command.command_id,
            self.incarnation,
            str(command.from_mode),
            str(command.to_mode),
            flag,
            str(limits.step),
            limits.since_opposite_ms,
            limits.starts_per_hour,
        ]
        async with _store_errors("begin"):
            raw = await self._begin(keys=_keys(command.shard_id), args=[*head, *pairs])
        return [_answer(text, command, row) for text, row in zip(raw, rows, strict=True)]

    async def finish(self, finished: Finished) -> bool:
        """Write how a device ended and close its entry, gathered with others of its shard in one call.

        Returns:
            False when the entry is not ours any more: another controller took over.

        Raises:
            StoreError: Redis does not answer; the entry stays for recovery.
        """
        shard_id = finished.shard_id
        if shard_id not in self._finishing:
            self._finishing[shard_id] = Gathered(self._finish_all)
        return await self._finishing[shard_id].submit(finished)

    async def _finish_all(self, batch: Sequence[Finished]) -> list[bool]:
        rows = [
            value
            for item in batch
            for value in (
                item.device_index,
                item.command_id,
                str(item.outcome),
                str(item.mode),
                item.detail[:DETAIL_CHARACTERS_MAX],
            )
        ]
        async with _store_errors("finish"):
            raw = await self._finish(keys=_keys(batch[0].shard_id), args=[self.incarnation, *rows])
        return [answer == b"ok" for answer in raw]

    async def save(self, *, device_id: str, mode: DeviceMode, state: bytes) -> None:
        """Keep a paused workload's state for 24 h.

        Raises:
            StoreError: Redis does not answer.
        """
        await self._saving.submit((f"hcp:state:{device_id}:{mode}", state))

    async def _save_all(self, batch: Sequence[tuple[str, bytes]]) -> list[None]:
        async with _store_errors("save"), self._redis.pipeline(transaction=False) as pipeline:
            for key, state in batch:
                pipeline.set(key, state, ex=STATE_TTL_S)
            await pipeline.execute()
        return [None] * len(batch)

    async def take_over(self, shard_id: str, *, abandoned_ms: int = ABANDONED_MS) -> list[Unfinished]:
        """Return a shard's unfinished switches, taking those begun `abandoned_ms` ago: their owner is dead.

        Raises:
            StoreError: Redis does not answer.
        """
        async with _store_errors("take_over"):
            raw = await self._take_over(keys=_keys(shard_id), args=[self.incarnation, abandoned_ms])
        return [_unfinished(text) for text in raw]

    async def result(self, command_id: str) -> bytes | None:
        """Return the encoded result of a finished command, None when it was never kept.

        Raises:
            StoreError: Redis does not answer.
        """
        async with _store_errors("result"):
            found = await self._redis.get(f"hcp:result:{command_id}")
        return found if isinstance(found, bytes) else None

    async def keep_result(self, *, command_id: str, result: bytes) -> None:
        """Keep a result, so that the same command gets the same answer for a week.

        Raises:
            StoreError: Redis does not answer.
        """
        async with _store_errors("keep_result"):
            await self._redis.set(f"hcp:result:{command_id}", result, ex=RESULT_TTL_S)

    async def hold(self, shard_id: str, device_indexes: Sequence[int], *, words: str) -> None:
        """Keep devices from being switched until a person releases them.

        Args:
            shard_id: Their shard.
            device_indexes: One or more.
            words: `state|operator|why`, shown to whoever tries.

        Raises:
            StoreError: Redis does not answer.
        """
        async with _store_errors("hold"):
            await self._redis.hset(_keys(shard_id)[_HOLDS], mapping={str(index): words for index in device_indexes})

    async def holds(self, shard_id: str) -> dict[int, str]:
        """Return the words of every hold in a shard, by device index.

        Raises:
            StoreError: Redis does not answer.
        """
        async with _store_errors("holds"):
            raw = await self._redis.hgetall(_keys(shard_id)[_HOLDS])
        return {int(_text(index)): _text(words) for index, words in raw.items()}

    async def release(self, shard_id: str, device_indexes: Sequence[int]) -> None:
        """Let devices be switched again, once a person has seen to them: neither held nor in quarantine any more.

        Raises:
            StoreError: Redis does not answer.
        """
        indexes = [str(index) for index in device_indexes]
        async with _store_errors("release"), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hdel(_keys(shard_id)[_HOLDS], *indexes)
            pipeline.hdel(_keys(shard_id)[_QUARANTINE], *indexes)
            await pipeline.execute()

    async def admit(self, facility_id: str, *, added_kw: float, rate_kw_per_ms: float, capacity_kw: float) -> int:
        """Take from a site's ramp, which all its controllers share; return 0, or how many ms to wait and ask again.

        Raises:
            StoreError: Redis does not answer; nothing or all may be taken.
        """
        async with _store_errors("admit"):
            raw = await self._admit(
                keys=[f"{_PREFIX}:{{{facility_id}}}:ramp"], args=[added_kw, rate_kw_per_ms, capacity_kw]
            )
        return int(raw)


async def open_journal(redis: Redis) -> Journal:
    """Raise the controllers' epoch by one and return the journal under it.

    Raises:
        StoreError: Redis does not answer.
    """
    async with _store_errors("open_journal"):
        incarnation = await redis.incr(f"{_PREFIX}:incarnation")
    return Journal(redis, incarnation=int(incarnation))


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw


def _keys(shard_id: str) -> list[str]:
    return [f"{_PREFIX}:{{{shard_id}}}:{name}" for name in _HASHES]


def _answer(raw: bytes, command: ControllerCommand, row: int) -> Answer:
    kind, _, rest = raw.decode().partition("|")
    if kind != Begun.DONE:
        return Answer(begun=Begun(kind), detail=rest)
    command_id, outcome, mode, detail = rest.split("|", 3)
    finished = Finished(
        shard_id=command.shard_id,
        device_index=command.device_indexes[row],
        command_id=command_id,
        outcome=DeviceOutcome(outcome),
        mode=DeviceMode(mode),
        detail=detail,
    )
    return Answer(begun=Begun.DONE, finished=finished)


def _unfinished(raw: bytes) -> Unfinished:
    taken, index, command_id, from_mode, to_mode = raw.decode().split("|")
    return Unfinished(
        device_index=int(index),
        command_id=command_id,
        from_mode=DeviceMode(from_mode),
        to_mode=DeviceMode(to_mode),
        is_taken=taken == "1",
    )
