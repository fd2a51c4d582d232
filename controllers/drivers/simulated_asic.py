"""A simulated ASIC: it accepts in milliseconds and settles in seconds, and the two are told apart.

Settling is an estimate, the class's `enter_ms` in fleet.toml: the switch ends with the mode read back, it does not
wait for the hash boards. A miner is one process, so the order to sleep is what stops the mining.
"""

import asyncio

from controllers.drivers.hardware import Fault, Step, now_us
from controllers.drivers.simulated import SimulatedMachine, SimulatedWorkload
from controllers.ports import Disproven, ObservedState, Proof, Proven
from hcp.clock import seconds


class _AsicWorkload(SimulatedWorkload):
    """Mining or sleeping; shares in flight are lost by a pause."""

    pause_ms_max = 5.0
    activate_ms_max = 15.0

    async def observed(self) -> ObservedState:
        state = await super().observed()
        if state is ObservedState.ACTIVE and self._ramped_ms() < self._settling_ms():
            return ObservedState.RAMPING
        return state

    async def verify(self, *, deadline_ms: int) -> Proof:
        async with asyncio.timeout(seconds(deadline_ms)):
            fault = await self.device.call(Step.VERIFY, low_ms=1, high_ms=5)
        row = self.device.rows.read(self.device.index)
        running = [mode for mode in self.device.modes if row.is_running(mode)]
        if running != [self.mode] or fault is Fault.WRONG_PROOF:
            was = "something else" if fault is Fault.WRONG_PROOF else ", ".join(running) or "nothing"
            return Disproven(detail=f"{self.mode} must be read back, was {was}")
        return Proven(evidence=f"{self.mode} read back", settling_ms=self._settling_ms())

    def _settling_ms(self) -> float:
        return float(self.device.device_class.profile(self.mode).enter_ms)

    def _ramped_ms(self) -> float:
        return (now_us() - self.device.rows.read(self.device.index).since_us) / 1_000


class SimulatedAsic(SimulatedMachine):
    """One miner."""

    workload_type = _AsicWorkload
