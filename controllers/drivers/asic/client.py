"""What an ASIC driver asks of a library, in the library's stead: one small port, values of its own, no booleans.

No answer of a client is a proof. What a library returns from an order is what the firmware *said*; whether it is so is
for a reading taken afterwards to show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from hcp.errors import HcpError
from hcp.model.units import Celsius, ThPerSecond, Watts


class AsicUnreachableError(HcpError):
    """A miner did not answer in time, or not at all; says which and what was asked."""


class AsicUnknownError(HcpError):
    """Something answers at a miner's address and no library knows what it is."""


class Told(StrEnum):
    """What a miner says it was told to do."""

    MINE = "mine"
    SLEEP = "sleep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a firmware can do through its client, as far as the library knows.

    Attributes:
        can_sleep: Stops and resumes by an order.
        can_limit_watts: Takes a power target in watts.
        can_restore_pools: Its configuration can be read whole, passwords included, and written back.
        reads_told: Says whether it was told to mine, apart from whether it hashes.
        reports_wall_power: Its watts are a figure of the firmware's own for the whole machine.
        rewrites_config_on_order: A stop or a resume sends the whole configuration back, pools included.
    """

    can_sleep: bool
    can_limit_watts: bool
    can_restore_pools: bool
    reads_told: bool
    reports_wall_power: bool
    rewrites_config_on_order: bool

    def names(self) -> tuple[str, ...]:
        """Return the names of what it can do."""
        return tuple(name for name in self.__slots__ if getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEntry:
    """One pool of a miner's configuration; the position in a sequence is its priority."""

    url: str
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AsicReading:
    """One reading; None is not measured, never 0.

    Attributes:
        told: What it says it was told; None when it did not say, whatever the library's default is.
        power_watts: Draw that the firmware reports.
        limit_watts: Power target in force; None where there is none to read.
        hash_rate_th_per_s: Over the last seconds.
        chip_temperature_celsius: Hottest of the boards' sensors that the library reads.
        fan_speed_rpm: Mean of the fans.
        accepted: Shares the pools took since the miner's software began.
        rejected: Shares the pools refused.
        pools: Pools in force; None when they were not asked for or not read.
    """

    told: Told | None = None
    power_watts: Watts | None = None
    limit_watts: Watts | None = None
    hash_rate_th_per_s: ThPerSecond | None = None
    chip_temperature_celsius: Celsius | None = None
    fan_speed_rpm: float | None = None
    accepted: int | None = None
    rejected: int | None = None
    pools: tuple[PoolEntry, ...] | None = None


class Want(StrEnum):
    """How much a reading is to hold: each costs the miner and us more requests than the one before."""

    TOLD = "told"
    """What it was told, and its limit: to read an order back."""
    POWER = "power"
    """And watts and hash rate: to see it settle."""
    TELEMETRY = "telemetry"
    """And temperatures, fans and shares: to poll."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidYes:
    """The firmware took the order, as the library understood it.

    Attributes:
        limit_watts: The target that is to be read back, where the order was one: firmware with profiles takes the next
            lower one.
    """

    limit_watts: Watts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidNo:
    """The firmware, or the library, says that the order was not taken."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidNothing:
    """No answer, a broken one, or an exception: the order may have taken effect all the same."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CannotSay:
    """This firmware has no such order through this client; nothing was sent."""

    detail: str


Said = SaidYes | SaidNo | SaidNothing | CannotSay


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a miner's interface is unlocked with."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r})"


class AsicClient(Protocol):
    """One miner through one library. Every call ends by its deadline and may be cancelled at any time."""

    @property
    def model(self) -> str:
        """What the library takes it for."""

    @property
    def firmware(self) -> str:
        """Whose firmware it runs, as the library names it."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    async def read(self, want: Want, *, deadline_ms: int) -> AsicReading:
        """Return a fresh reading.

        Raises:
            AsicUnreachableError: Nothing at all was read.
        """

    async def stop(self, *, deadline_ms: int) -> Said:
        """Order it to sleep."""

    async def resume(self, *, deadline_ms: int) -> Said:
        """Order it to mine."""

    async def limit(self, watts: Watts, *, deadline_ms: int) -> Said:
        """Order a power target."""

    async def pools(self, *, deadline_ms: int) -> tuple[PoolEntry, ...] | None:
        """Return the configured pools; None when they could not be read, never an empty answer for a failed one."""

    async def restore_pools(self, pools: Sequence[PoolEntry], *, deadline_ms: int) -> Said:
        """Write back pools that were read before, with their passwords."""


NO_CAPABILITIES: Final = Capabilities(
    can_sleep=False,
    can_limit_watts=False,
    can_restore_pools=False,
    reads_told=False,
    reports_wall_power=False,
    rewrites_config_on_order=False,
)
