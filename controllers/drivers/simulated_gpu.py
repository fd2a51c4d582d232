"""A simulated GPU with resident miner and inference server; latencies of a few ms as measured on real processes."""

import asyncio
from typing import Final

from controllers.drivers.hardware import Fault, Step, work_done
from controllers.drivers.simulated import SimulatedMachine, SimulatedWorkload
from controllers.ports import Disproven, Proof, Proven
from hcp.clock import seconds
from hcp.model.devices import DeviceMode

PROOF_WAIT_MS: Final = 2
"""Between two readings of the work counter."""
_PROOFS: Final = {
    DeviceMode.MINING: "hashes must advance",
    DeviceMode.AI_INFERENCE: "a token must be generated",
}


class _GpuWorkload(SimulatedWorkload):
    """The miner, the inference server or nothing, of one GPU."""

    pause_ms_max = 4.0
    activate_ms_max = 6.0

    async def verify(self, *, deadline_ms: int) -> Proof:
        async with asyncio.timeout(seconds(deadline_ms)):
            fault = await self.device.call(Step.VERIFY, low_ms=1, high_ms=3)
            before = work_done(self.device.rows.read(self.device.index))
            await asyncio.sleep(seconds(PROOF_WAIT_MS))
        row = self.device.rows.read(self.device.index)
        others = [mode for mode in self.device.modes if mode is not self.mode and row.is_running(mode)]
        if others:
            return Disproven(detail=f"only {self.mode} must run, was beside {', '.join(others)}")
        done = work_done(row) - before if row.is_running(self.mode) and fault is not Fault.WRONG_PROOF else 0
        if done <= 0:
            return Disproven(detail=f"{_PROOFS.get(self.mode, f'{self.mode} must be read back')}, was not")
        return Proven(evidence=f"{self.mode} did {done} units of work")


class SimulatedGpu(SimulatedMachine):
    """One GPU and its workloads."""

    workload_type = _GpuWorkload
