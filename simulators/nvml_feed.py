"""The fleet's physics behind a simulated NVML: one shard's GPUs draw, heat and work there as its modes make them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hcp.errors import HcpError
from hcp.model.facilities import Fleet
from hcp.model.telemetry import GpuTelemetry
from hcp.model.units import Celsius, Ratio, Watts
from simulators.faults import Batch
from simulators.nvml.state import NvmlSimulator


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlFeed:
    """One host's state file and the shard whose readings it shows; device 0 is GPU 0, and so on."""

    host: NvmlSimulator
    shard_id: str

    @classmethod
    def parse(cls, text: str, *, fleet: Fleet) -> Self:
        """Open what `SHARD=FILE` names; the file is made by `python -m simulators.nvml.cli run`.

        Raises:
            HcpError: The shard is none of the fleet, or the file none of this simulator's.
        """
        shard_id, _, file = text.partition("=")
        shard = fleet.shard(shard_id)
        if shard is None or not file:
            raise HcpError(f"an NVML host must be named as SHARD=FILE with a shard of the fleet, was {text}")
        host = NvmlSimulator(Path(file))
        if len(host.gpus) != shard.device_count:
            count = len(host.gpus)
            host.close()
            raise HcpError(f"{file} must have the {shard.device_count} GPUs of {shard_id}, has {count}")
        return cls(host=host, shard_id=shard_id)

    def show(self, batch: Batch) -> None:
        """Let the GPUs draw and heat as one tick of the shard says; what was not measured stays as it was."""
        if not isinstance(batch, GpuTelemetry):
            return
        columns = zip(
            batch.device_indexes,
            batch.power_watts,
            batch.utilisation_ratio,
            batch.temperature_celsius,
            batch.memory_temperature_celsius,
            strict=True,
        )
        for index, power, busy, heat, memory_heat in columns:
            gpu = self.host.gpu(index)
            if power is not None and busy is not None:
                gpu.set_load(power_watts=Watts(power), utilisation_ratio=Ratio(busy))
            if heat is not None:
                gpu.set_temperature(Celsius(heat), memory_celsius=None if memory_heat is None else Celsius(memory_heat))

    def close(self) -> None:
        """Let the file go."""
        self.host.close()
