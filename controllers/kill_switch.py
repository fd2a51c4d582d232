"""The kill switch: a file under the state directory that stops every device, with Kafka and Redis down too."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Final

import structlog

from controllers.ports import Accepted, Machine
from hcp.clock import seconds

LOOK_EVERY_MS: Final = 200
STOP_AGAIN_EVERY_MS: Final = 1_000
"""While the file is there: a switch, rollback or recovery under way may bring a device back after it was stopped."""
STOP_MS_MAX: Final = 2_000
STOP_TOGETHER_MAX: Final = 512

_log = structlog.get_logger(__name__)


def kill_switch_file(state_dir: Path) -> Path:
    """Return the file whose existence stops every device: `touch .hcp/controllers/STOP`."""
    return state_dir / "controllers" / "STOP"


class KillSwitch:
    """Looks for the file; while it is there, `is_set` and all devices are stopped."""

    def __init__(self, path: Path, machines: Callable[[], Iterable[Machine]]) -> None:
        """Stop `machines()` when `path` appears."""
        self._path = path
        self._machines = machines
        self.is_set = False

    async def watch(self) -> None:
        """Look every 200 ms, for ever; while the file is there, stop every device again each second."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            was_set, self.is_set = self.is_set, self._path.exists()  # one stat of a local file: microseconds
            if self.is_set:
                stopped, failed = await self._stop_all()
                if not was_set:
                    _log.critical("kill_switch_set", file=str(self._path), stopped=stopped, failed=failed)
            elif was_set:
                _log.warning("kill_switch_released", file=str(self._path))
            await asyncio.sleep(seconds(STOP_AGAIN_EVERY_MS if self.is_set else LOOK_EVERY_MS))

    async def _stop_all(self) -> tuple[int, int]:
        stopped = failed = 0
        waiting = iter(self._machines())
        while group := list(islice(waiting, STOP_TOGETHER_MAX)):
            tasks = [asyncio.ensure_future(machine.device.safe_stop(reason="kill switch")) for machine in group]
            done, late = await asyncio.wait(tasks, timeout=seconds(STOP_MS_MAX))
            for task in late:
                task.cancel()
            taken = sum(1 for task in done if task.exception() is None and isinstance(task.result(), Accepted))
            stopped, failed = stopped + taken, failed + len(group) - taken
        return stopped, failed
