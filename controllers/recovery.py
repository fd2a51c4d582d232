"""Recovery: read the journal, take what dead controllers left, ask the hardware what is true, go forward or back."""

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from controllers.executor import (
    DEVICES_AT_ONCE_MAX,
    ROLLBACK_ATTEMPTS_MAX,
    ROLLBACK_MS_MAX,
    asked_mode,
    put_away,
    restore,
)
from controllers.journal import ABANDONED_MS, Finished, Journal, Unfinished
from controllers.ports import Machine, Proven
from hcp.clock import seconds
from hcp.model.commands import DeviceOutcome
from hcp.model.devices import DeviceMode

WAIT_MS: Final = 500
WAITS_MAX: Final = 2 * ABANDONED_MS // WAIT_MS

_log = structlog.get_logger(__name__)


async def recover(
    journal: Journal, shard_id: str, machines: Mapping[int, Machine], *, abandoned_ms: int = ABANDONED_MS
) -> int:
    """Bring every unfinished switch of a shard to a verified end, or into quarantine.

    Entries of a controller that may still live are waited for until they end or are abandoned.

    Returns:
        How many were brought to an end here.

    Raises:
        StoreError: Redis does not answer.
    """
    ended = 0
    for _ in range(WAITS_MAX):
        entries = await journal.take_over(shard_id, abandoned_ms=abandoned_ms)
        taken = [entry for entry in entries if entry.is_taken]
        slots = asyncio.Semaphore(DEVICES_AT_ONCE_MAX)
        tasks = [_recover_one(journal, shard_id, entry, machines.get(entry.device_index), slots) for entry in taken]
        for failure in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(failure, BaseException):
                raise failure
        ended += len(taken)
        if len(taken) == len(entries):
            break
        await asyncio.sleep(seconds(WAIT_MS))
    if ended:
        _log.info("switches_recovered", shard_id=shard_id, count=ended)
    return ended


async def _recover_one(
    journal: Journal, shard_id: str, entry: Unfinished, machine: Machine | None, slots: asyncio.Semaphore
) -> None:
    async with slots:
        outcome, mode, detail = await _settle(entry, machine)
        await journal.finish(
            Finished(
                shard_id=shard_id,
                device_index=entry.device_index,
                command_id=entry.command_id,
                outcome=outcome,
                mode=mode,
                detail=detail,
            )
        )


async def _settle(entry: Unfinished, machine: Machine | None) -> tuple[DeviceOutcome, DeviceMode, str]:
    if machine is None:
        return DeviceOutcome.UNKNOWN_DEVICE, entry.from_mode, "device must be in fleet.toml, was removed"
    mode = await asked_mode(machine)
    if mode is entry.to_mode and await _is_proven(machine, mode):
        return DeviceOutcome.COMMITTED, mode, "recovered after a crash: found active and verified"
    back = mode if mode is not None and mode is not entry.to_mode else entry.from_mode
    failures = await restore(machine, mode=back)
    if len(failures) < ROLLBACK_ATTEMPTS_MAX:
        return DeviceOutcome.ROLLED_BACK, back, "recovered after a crash: rolled back"
    stopped_in, detail = await put_away(machine, believed=back, failures=failures)
    return DeviceOutcome.QUARANTINED, stopped_in, detail


async def _is_proven(machine: Machine, mode: DeviceMode) -> bool:
    try:
        async with asyncio.timeout(seconds(ROLLBACK_MS_MAX)):
            proof = await machine.workload(mode).verify(deadline_ms=ROLLBACK_MS_MAX)
    except Exception:  # noqa: BLE001  # whatever a driver raises, it is no proof
        return False
    return isinstance(proof, Proven)
