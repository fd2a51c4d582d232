"""One command to many devices: governed, started feeder by feeder, and answered device by device."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from controllers.executor import DeviceReport, Executor, asked_mode
from controllers.governor import Governor, RampLimitedError, batches, gaps_ms
from controllers.journal import Journal
from controllers.limits import PowerStep, SwitchLimits, added_kw_per_device, limits_of
from controllers.ports import Machine
from hcp.clock import seconds
from hcp.model.commands import ControllerCommand, DeviceOutcome
from hcp.model.devices import DeviceClass
from hcp.model.facilities import Cluster, Facility, Fleet

Machines = Mapping[int, Machine]
Reports = Mapping[int, DeviceReport]
"""By row of the command."""


class FleetCommands:
    """Executes commands of one cluster; a device that is slow, limited or fails delays no other."""

    def __init__(
        self, *, executor: Executor, governor: Governor, site: Facility, cluster: Cluster, device_class: DeviceClass
    ) -> None:
        """Execute under the site's governor, within the limits of the class."""
        self._executor, self._governor = executor, governor
        self._site, self._cluster, self._class = site, cluster, device_class

    async def execute(
        self, command: ControllerCommand, machines: Machines, *, is_expired: bool = False
    ) -> list[DeviceReport]:
        """Switch every device of a command and return a report for each, in the command's order.

        Raises:
            StoreError: Redis does not answer; the hardware was left verified, the journal tells recovery what to do.
        """
        limits = limits_of(self._class, from_mode=command.from_mode, to_mode=command.to_mode)
        if limits.step is PowerStep.START and not is_expired:
            return await self._start(command, machines, limits)
        if limits.step is PowerStep.STOP:
            async with self._governor.reducing():
                return await self._executor.execute(command, machines, limits=limits, is_expired=is_expired)
        return await self._executor.execute(command, machines, limits=limits, is_expired=is_expired)

    async def _start(self, command: ControllerCommand, machines: Machines, limits: SwitchLimits) -> list[DeviceReport]:
        added_kw = added_kw_per_device(self._class, from_mode=command.from_mode, to_mode=command.to_mode)
        start = _Start(
            executor=self._executor,
            governor=self._governor,
            command=command,
            machines=machines,
            limits=limits,
            added_kw_each=added_kw * self._site.pue,
            capacity_kw=self._governor.capacity_kw(settling_ms=self._class.profile(command.to_mode).enter_ms),
        )
        feeders = batches(
            command.device_indexes,
            devices_per_feeder=self._cluster.devices_per_feeder,
            added_kw_each=start.added_kw_each,
            capacity_kw=start.capacity_kw,
        )
        reports = await _gathered([start.feeder(groups) for groups in feeders])
        return [reports[row] for row in range(len(command.device_indexes))]


def fleet_commands(
    fleet: Fleet, sites: Sequence[Facility], *, executor: Executor, journal: Journal
) -> dict[str, FleetCommands]:
    """Return what executes commands, by cluster of the sites; each site has one governor."""
    found: dict[str, FleetCommands] = {}
    for site in sites:
        governor = Governor(site, journal=journal)
        for cluster in site.clusters:
            device_class = fleet.device_class(cluster.device_class)
            assert device_class is not None, "load_fleet checks the class of every cluster"
            found[cluster.cluster_id] = FleetCommands(
                executor=executor, governor=governor, site=site, cluster=cluster, device_class=device_class
            )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """A command that raises power."""

    executor: Executor
    governor: Governor
    command: ControllerCommand
    machines: Machines
    limits: SwitchLimits
    added_kw_each: float
    capacity_kw: float

    async def feeder(self, groups: Sequence[Sequence[int]]) -> Reports:
        """Start one feeder's groups a little apart; they end when they end."""
        seed = f"{self.command.command_id}/{self.command.device_indexes[groups[0][0]]}"
        return await _gathered(
            [
                self._group(rows, after_ms=after_ms)
                for rows, after_ms in zip(groups, accumulate(gaps_ms(len(groups), seed=seed)), strict=True)
            ]
        )

    async def _group(self, rows: Sequence[int], *, after_ms: int) -> Reports:
        await asyncio.sleep(seconds(after_ms))
        part = replace(
            self.command,
            device_indexes=tuple(self.command.device_indexes[row] for row in rows),
            epochs=tuple(self.command.epochs[row] for row in rows),
        )
        try:
            await self.governor.admit(self.added_kw_each * len(rows), capacity_kw=self.capacity_kw)
        except RampLimitedError as error:
            reports = [await _limited(part, row, self.machines, str(error)) for row in range(len(rows))]
        else:
            reports = await self.executor.execute(part, self.machines, limits=self.limits)
        return dict(zip(rows, reports, strict=True))


async def _gathered(parts: Sequence[Awaitable[Reports]]) -> Reports:
    """Return the reports of all parts, once every one has ended."""
    reports: dict[int, DeviceReport] = {}
    for outcome in await asyncio.gather(*parts, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        reports.update(outcome)
    return reports


async def _limited(command: ControllerCommand, row: int, machines: Machines, detail: str) -> DeviceReport:
    """Report a device that was not touched, in the mode it says it is in."""
    index = command.device_indexes[row]
    machine = machines.get(index)
    mode = None if machine is None else await asked_mode(machine)
    return DeviceReport(
        device_index=index,
        epoch=command.epochs[row],
        outcome=DeviceOutcome.LIMITED,
        mode=mode or command.from_mode,
        detail=detail,
    )
