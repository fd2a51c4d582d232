"""Everything NVML measures of one GPU, as one value; None means not measured, never zero."""

from dataclasses import dataclass
from enum import StrEnum

from controllers.drivers.nvml_xid import XidSeen
from hcp.model.units import Celsius, EpochMs, Ratio, Watts


class RecoveryAction(StrEnum):
    """What the driver itself says must be done to make the GPU whole (drivers from R565 on)."""

    NONE = "none"
    RESET_GPU = "reset_gpu"
    REBOOT_HOST = "reboot_host"
    DRAIN_PEERS = "drain_peers"
    DRAIN_AND_RESET = "drain_and_reset"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """What does not change while a handle is good; read once for it.

    Attributes:
        temperature_slowdown_celsius: Where the hardware begins to slow itself. Products from Ada on are to lose the
            call for thresholds; then it is found from temperature and margin, exact to a degree.
        nvlinks: How many the product has; 0 also where it does not say.
    """

    name: str
    uuid: str
    serial: str | None
    pci_bus_id: str | None
    power_limit_min_watts: Watts | None
    power_limit_max_watts: Watts | None
    power_limit_default_watts: Watts | None
    temperature_slowdown_celsius: Celsius | None
    temperature_shutdown_celsius: Celsius | None
    clock_sm_max_mhz: int | None
    clock_memory_max_mhz: int | None
    nvlinks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPower:
    """Power of the board; not at the wall, for NVML knows of no power supply.

    Attributes:
        instant_watts: Draw of the moment. Only this one may serve a decision of milliseconds.
        average_watts: Mean of the last second; on GA100 and older that call, too, shows the moment.
        limit_watts: What was asked for last; `limit_enforced_watts` is the lowest of all that bind.
        energy_millijoules: Since the driver was loaded.
    """

    instant_watts: Watts | None
    average_watts: Watts | None
    limit_watts: Watts | None
    limit_enforced_watts: Watts | None
    energy_millijoules: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHeat:
    """Temperatures and what is done about them; `fan_ratio` is None for boards that the chassis cools."""

    temperature_celsius: Celsius | None
    memory_temperature_celsius: Celsius | None
    fan_ratio: Ratio | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process on the GPU; memory is None where NVML does not say (another container's)."""

    pid: int
    memory_used_bytes: int | None
    is_graphics: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLoad:
    """What runs.

    Attributes:
        utilisation_ratio: Share of the last sample (1/6 to 1 s) in which a kernel ran; it cannot verify a switch.
        memory_used_bytes: Without what the driver reserves, where it tells the two apart.
        processes: None when they may not be seen.
    """

    utilisation_ratio: Ratio | None
    memory_utilisation_ratio: Ratio | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    processes: tuple[GpuProcess, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuClocks:
    """Clocks, and in NVML's bits why they are not higher; performance state 0 is the fastest."""

    sm_mhz: int | None
    memory_mhz: int | None
    performance_state: int | None
    event_reasons: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuEcc:
    """Memory errors: volatile since the driver was loaded, aggregate for the board's life."""

    is_enabled: bool | None
    corrected_volatile: int | None
    uncorrected_volatile: int | None
    corrected_aggregate: int | None
    uncorrected_aggregate: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One reading of one GPU.

    Attributes:
        nvlinks_active: Of `facts.nvlinks`; None where there are none.
        recovery_action: None before R565.
        xids: The last ones the watcher saw, oldest first; empty also when nobody watches.
    """

    observed_at_ms: EpochMs
    facts: GpuFacts
    power: GpuPower
    heat: GpuHeat
    load: GpuLoad
    clocks: GpuClocks
    ecc: GpuEcc
    mig_is_enabled: bool | None
    nvlinks_active: int | None
    recovery_action: RecoveryAction | None
    xids: tuple[XidSeen, ...]
