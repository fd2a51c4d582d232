"""What the GPUs of the default fleet look like to NVML."""

from dataclasses import dataclass
from typing import Final

from hcp.model.units import Celsius, Watts
from simulators.nvml.layout import Call, GpuState

BYTES_PER_GIB: Final = 2**30
MW_PER_W: Final = 1_000
_FIRST_BUS: Final = 0x10
_IDLE_CELSIUS: Final = 34
_RESERVED_BYTES: Final = 512 * 2**20
_IDLE_MHZ: Final = 345


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuModel:
    """A product; figures are its vendor's, from data sheets and what `nvidia-smi -q` prints.

    Attributes:
        lacks: Calls that this product answers "not supported".
        usage_is_instant: Whether nvmlDeviceGetPowerUsage shows the draw of the moment (GA100 and older) and not a
            second's average; docs.nvidia.com/deploy/nvml-api, read in November 2026.
    """

    name: str
    pci_device_id: int
    memory_gib: int
    power_idle_watts: Watts
    power_min_watts: Watts
    power_max_watts: Watts
    slowdown_celsius: Celsius
    shutdown_celsius: Celsius
    clock_max_mhz: int
    memory_clock_max_mhz: int
    nvlinks: int = 0
    usage_is_instant: bool = False
    lacks: tuple[Call, ...] = ()

    def fill(self, state: GpuState, *, index: int, now_us: int) -> None:
        """Write a healthy idle GPU of this product."""
        state.name = self.name.encode()
        state.uuid = f"GPU-{index:08x}-4843-5000-8000-{index:012x}".encode()
        state.serial = f"16549230{index:05d}".encode()
        state.pci_bus, state.pci_device_id, state.pci_subsystem_id = _FIRST_BUS + index, self.pci_device_id, 0x16C110DE
        state.demand_mw = state.draw_before_mw = round(self.power_idle_watts * MW_PER_W)
        state.limit_min_mw = round(self.power_min_watts * MW_PER_W)
        state.limit_mw = state.limit_max_mw = state.limit_default_mw = round(self.power_max_watts * MW_PER_W)
        state.usage_is_instant = self.usage_is_instant
        state.draw_changed_us = state.utilization_changed_us = now_us
        self._fill_sensors(state)
        state.memory_total_bytes = self.memory_gib * BYTES_PER_GIB
        state.memory_reserved_bytes = _RESERVED_BYTES
        state.persistence = state.ecc_current = state.ecc_pending = 1
        state.nvlinks, state.nvlink_active_mask = self.nvlinks, (1 << self.nvlinks) - 1
        state.unsupported_mask = sum(1 << call for call in self.lacks)

    def _fill_sensors(self, state: GpuState) -> None:
        state.temperature_c = state.memory_temperature_c = _IDLE_CELSIUS
        state.slowdown_c, state.shutdown_c = round(self.slowdown_celsius), round(self.shutdown_celsius)
        state.gpu_max_c, state.memory_max_c = state.slowdown_c - 2, state.slowdown_c + 8
        state.clock_mhz[:] = (_IDLE_MHZ, _IDLE_MHZ, self.memory_clock_max_mhz, _IDLE_MHZ)
        state.clock_max_mhz[:] = (self.clock_max_mhz, self.clock_max_mhz, self.memory_clock_max_mhz, self.clock_max_mhz)


H100: Final = GpuModel(
    name="NVIDIA H100 80GB HBM3",
    pci_device_id=0x233010DE,
    memory_gib=80,
    power_idle_watts=Watts(70.0),
    power_min_watts=Watts(200.0),
    power_max_watts=Watts(700.0),
    slowdown_celsius=Celsius(87.0),
    shutdown_celsius=Celsius(92.0),
    clock_max_mhz=1_980,
    memory_clock_max_mhz=2_619,
    nvlinks=18,
    lacks=(Call.FAN,),
)
A100: Final = GpuModel(
    name="NVIDIA A100-SXM4-80GB",
    pci_device_id=0x20B210DE,
    memory_gib=80,
    power_idle_watts=Watts(60.0),
    power_min_watts=Watts(100.0),
    power_max_watts=Watts(400.0),
    slowdown_celsius=Celsius(89.0),
    shutdown_celsius=Celsius(92.0),
    clock_max_mhz=1_410,
    memory_clock_max_mhz=1_593,
    nvlinks=12,
    usage_is_instant=True,
    lacks=(Call.FAN, Call.MARGIN),
)
L40S: Final = GpuModel(
    name="NVIDIA L40S",
    pci_device_id=0x26B910DE,
    memory_gib=48,
    power_idle_watts=Watts(35.0),
    power_min_watts=Watts(100.0),
    power_max_watts=Watts(350.0),
    slowdown_celsius=Celsius(92.0),
    shutdown_celsius=Celsius(95.0),
    clock_max_mhz=2_520,
    memory_clock_max_mhz=9_001,
    lacks=(Call.FAN, Call.NVLINK, Call.MIG, Call.FIELD_MEMORY_TEMPERATURE, Call.THRESHOLD),
)
MODELS: Final = {"h100": H100, "a100": A100, "l40s": L40S}
