"""What a replay knew of every site at a moment, in a file: a later one goes on from it instead of from the start.

States are the bytes that the agents' tables hold: a version byte and MessagePack of the dataclass.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from hcp.errors import SettingsError
from replay.decisions.followed import Followed
from replay.decisions.memory import SiteMemory
from replay.decisions.plan import Rules
from streams.market import MarketState
from streams.site import SiteState

STATE_VERSION: Final = b"\x01"
SUFFIX: Final = ".snapshot"
_MAGIC: Final = b"hcp-decisions-1\n"
State = TypeVar("State")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteBytes:
    """One site, states encoded; None where there is none yet."""

    facility_id: str
    site: bytes | None
    taken_offset: int
    market: bytes | None
    market_offset: int
    followed: tuple[Followed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot as it lies in its file.

    Attributes:
        at_ms: Event time; every recommendation before it is taken in, none of that time or later.
        fingerprint: Of the rules it was made with.
        sites: Sorted by site.
    """

    at_ms: int
    fingerprint: str
    sites: tuple[SiteBytes, ...]

    def memories(self) -> tuple[SiteMemory, ...]:
        """Return what was known of every site.

        Raises:
            SettingsError: A state was written by code that knows other fields.
        """
        return tuple(
            SiteMemory(
                facility_id=each.facility_id,
                site=_state(each.site, SiteState),
                taken_offset=each.taken_offset,
                market=_state(each.market, MarketState),
                market_offset=each.market_offset,
                followed=each.followed,
            )
            for each in self.sites
        )


def snapshot_of(memories: Iterable[SiteMemory], *, at_ms: int, rules: Rules) -> Snapshot:
    """Return what is known of the sites as it is to be kept."""
    return Snapshot(
        at_ms=at_ms,
        fingerprint=rules.fingerprint(),
        sites=tuple(
            SiteBytes(
                facility_id=each.facility_id,
                site=state_bytes(each.site),
                taken_offset=each.taken_offset,
                market=state_bytes(each.market),
                market_offset=each.market_offset,
                followed=each.followed,
            )
            for each in memories
        ),
    )


def state_bytes(state: SiteState | MarketState | None) -> bytes | None:
    """Return a state as an agent's table holds it."""
    return None if state is None else STATE_VERSION + msgspec.msgpack.encode(state)


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a file at once or not at all.

    Raises:
        OSError: It cannot be written.
    """
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(_MAGIC + msgspec.msgpack.encode(snapshot))
    unfinished.replace(path)


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot.

    Raises:
        SettingsError: The file cannot be read or is none.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"snapshot must be readable, was {path}: {error.strerror}") from error
    try:
        if not raw.startswith(_MAGIC):
            raise SettingsError(f"{path} must be a snapshot of decisions, was another file")
        return msgspec.msgpack.decode(raw[len(_MAGIC) :], type=Snapshot)
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path} must be a whole snapshot, was: {error}") from error


def snapshot_for(path: Path, *, from_ms: int, rules: Rules) -> Snapshot:
    """Return a file's snapshot, or the last one of a folder that a range can go on from.

    Args:
        path: A file, or a folder of files that end in `.snapshot`.
        from_ms: Where the range begins, event time.
        rules: Of the replay.

    Raises:
        SettingsError: There is none that is as old as the range, made with the same rules.
    """
    found = [read_snapshot(each) for each in (sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path])]
    ruled = [each for each in found if each.fingerprint == rules.fingerprint()]
    if not ruled:
        raise SettingsError(f"snapshot must be made with the same policy, options and fleet, was none in {path}")
    usable = [each for each in ruled if each.at_ms <= from_ms]
    if not usable:
        first = min(each.at_ms for each in ruled)
        raise SettingsError(f"snapshot must be of {from_ms} ms or before, was of {first} ms")
    return max(usable, key=lambda each: each.at_ms)


def _state(raw: bytes | None, kind: type[State]) -> State | None:
    if raw is None:
        return None
    try:
        if not raw.startswith(STATE_VERSION):
            raise SettingsError(f"state of a snapshot must be of version {STATE_VERSION!r}, was {raw[:1]!r}")
        return msgspec.msgpack.decode(raw[len(STATE_VERSION) :], type=kind)
    except msgspec.DecodeError as error:
        raise SettingsError(f"snapshot must hold a {kind.__name__} that this code knows, was: {error}") from error
