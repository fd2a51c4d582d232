"""The kill switch: a file under the state directory that stops every device, with Kafka and Redis down too."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import structlog

from controllers.ports import Ack, Applied, Machine
from hcp.clock import seconds
from hcp.model.facilities import Shard
from hcp.telemetry import KILL_SWITCH_FAILURES

LOOK_EVERY_MS: Final = 200
STOP_AGAIN_EVERY_MS: Final = 1_000
"""While the file is there: a switch, rollback or recovery under way may bring a device back after it was stopped."""
STOP_MS_MAX: Final = 2_000
STOP_TOGETHER_MAX: Final = 512
PROBLEMS_LOGGED_MAX: Final = 5

_log = structlog.get_logger(__name__)


def kill_switch_file(state_dir: Path) -> Path:
    """Return the file whose existence stops every device: `touch .hcp/controllers/STOP`."""
    return state_dir / "controllers" / "STOP"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stopped:
    """One pass over all devices: how many took the order, how many did not, and the first words of why."""

    stopped: int
    failed: int
    problems: tuple[str, ...]


class KillSwitch:
    """Looks for the file; while it is there, `is_set` and all devices are stopped."""

    def __init__(
        self,
        path: Path,
        *,
        shards: Mapping[str, Shard],
        machines_of: Callable[[str], Mapping[int, Machine]],
        on_change: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """Stop every device of `shards` when `path` appears.

        Args:
            path: The file.
            shards: Whose devices, by shard_id.
            machines_of: Opens a shard when it is first needed.
            on_change: Told, after the devices, that the switch was set or released.
        """
        self._path = path
        self._on_change = on_change
        self._shards = shards
        self._machines_of = machines_of
        self._last: _Stopped | None = None
        self.is_set = False

    async def watch(self) -> None:
        """Look every 200 ms, for ever; while the file is there, stop every device again each second.

        A pass that fails is counted, logged when it fails in another way than the last, and tried again.
        """
        failure = ""
        while True:
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001  # whatever it is: a switch that ceased to look stops nothing
                KILL_SWITCH_FAILURES.inc()
                if repr(error) != failure:
                    failure = repr(error)
                    _log.critical("kill_switch_failed", file=str(self._path), error=failure, is_set=self.is_set)
            else:
                if failure:
                    failure = ""
                    _log.warning("kill_switch_works_again", file=str(self._path), is_set=self.is_set)
            await asyncio.sleep(seconds(STOP_AGAIN_EVERY_MS if self.is_set else LOOK_EVERY_MS))

    async def _look(self) -> None:
        was_set = self.is_set
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self.is_set = self._path.exists()  # one stat of a local file: microseconds
        finally:  # where it cannot be read, what it last said holds
            if self.is_set:
                stopped = await self._stop_all()
                if stopped != self._last:
                    self._last = stopped
                    counts = {"stopped": stopped.stopped, "failed": stopped.failed, "problems": stopped.problems}
                    _log.critical("kill_switch_set", file=str(self._path), **counts)
                if not was_set:
                    self._on_change(True)  # noqa: FBT003  # it is set
        if was_set and not self.is_set:
            self._last = None
            _log.warning("kill_switch_released", file=str(self._path))
            self._on_change(False)  # noqa: FBT003  # it is not

    async def _stop_all(self) -> _Stopped:
        stopped = failed = 0
        problems: set[str] = set()
        waiting = iter((each, index) for each, shard in self._shards.items() for index in range(shard.device_count))
        while group := list(islice(waiting, STOP_TOGETHER_MAX)):
            tasks = [asyncio.create_task(self._stop(shard_id, index)) for shard_id, index in group]
            done, late = await asyncio.wait(tasks, timeout=seconds(STOP_MS_MAX))
            for task in late:
                task.cancel()
                problems.add(f"no answer in {STOP_MS_MAX} ms")
            outcomes = await asyncio.gather(*done, return_exceptions=True)
            taken = sum(isinstance(outcome, Applied) for outcome in outcomes)
            problems.update(_problems(outcomes))
            stopped, failed = stopped + taken, failed + len(group) - taken
        return _Stopped(stopped=stopped, failed=failed, problems=tuple(sorted(problems)[:PROBLEMS_LOGGED_MAX]))

    async def _stop(self, shard_id: str, index: int) -> Ack:
        """Stop one device, in a task of its own: a shard that cannot be opened, or a driver that raises, is its own."""
        return await self._machines_of(shard_id)[index].device.safe_stop(reason="kill switch")


def _problems(outcomes: Iterable[Ack | BaseException]) -> Iterable[str]:
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            yield repr(outcome)
        elif not isinstance(outcome, Applied):
            yield outcome.detail
