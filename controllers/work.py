"""What a controller does with one command: answer it from what Redis keeps, or execute it and keep the answer."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from controllers.executor import DeviceReport, Executor
from controllers.fleet_command import fleet_commands
from controllers.journal import Journal
from controllers.machines import Machines
from controllers.orders import obey, stop_command
from controllers.readings import Readings
from controllers.recovery import recover
from controllers.results import result_of
from hcp.clock import Clock, wall_ms
from hcp.codecs import decode, encode
from hcp.kafka.producer import RecordProducer
from hcp.kafka.records import ConsumedRecord
from hcp.model.commands import ControllerCommand, ControllerResult, DeviceOutcome
from hcp.model.orders import OperatorOrder
from hcp.model.rejections import Rejected

COMMAND_AGE_MS_MAX: Final = 60_000
"""By the broker's timestamp: what was decided longer ago is answered `expired`, the deciders have moved on."""

_log = structlog.get_logger(__name__)


class Worker:
    """Executes commands and sends results; keeps what was sent until it is flushed."""

    def __init__(
        self,
        *,
        journal: Journal,
        machines: Machines,
        readings: Readings,
        producer: RecordProducer,
        controller_id: str,
        is_stopped: Callable[[], bool] = lambda: False,
        clock: Clock = wall_ms,
    ) -> None:
        """Work on `machines`; `is_stopped` tells whether the kill switch is set."""
        self._journal = journal
        self._machines = machines
        self._producer = producer
        self._controller_id = controller_id
        self._is_stopped = is_stopped
        self._clock = clock
        self._commands = fleet_commands(
            machines.fleet, machines.sites, executor=Executor(journal=journal, readings=readings), journal=journal
        )
        self._unflushed: list[tuple[object, str]] = []
        self._unflushed_dead: list[tuple[ConsumedRecord, Rejected]] = []
        self._has_failed = False

    async def recover_all(self) -> bool:
        """Recover every shard of this controller.

        Raises:
            StoreError: Redis does not answer.
        """
        for shard_id in self._machines.shards:
            await recover(self._journal, shard_id, self._machines.of_shard(shard_id))
        return True

    async def do(self, taken: ControllerCommand | OperatorOrder, record: ConsumedRecord) -> bool:
        """Answer a command or obey an order; as they say."""
        return await (self.obey(taken) if isinstance(taken, OperatorOrder) else self.answer(taken, record))

    async def answer(self, command: ControllerCommand, record: ConsumedRecord) -> bool:
        """Send the result of a command, the same one each time it comes.

        Raises:
            StoreError: Redis does not answer; call again.
        """
        kept = await self._journal.result(command.command_id)
        result = decode(kept) if kept is not None else None
        if not isinstance(result, ControllerResult):
            result = await self._execute(command, record)
            await self._journal.keep_result(command_id=command.command_id, result=encode(result))
        self._send(result, trace_id=command.decision_id)
        return True

    async def obey(self, order: OperatorOrder) -> bool:
        """Do what a person ordered; what became of a stop is sent as a result.

        Raises:
            StoreError: Redis does not answer; call again.
        """
        if await self._journal.result(order.order_id) is not None:
            return True  # done before: a stop done again would stop what has been released since
        started_at_ms = self._clock()
        device_class = self._machines.fleet.device_class(order.device_class)
        assert device_class is not None, "orders are held against the fleet as they come in"
        machines = self._machines.of_shard(order.shard_id)
        reports = await obey(order, machines, device_class=device_class, journal=self._journal)
        if reports is not None:
            result = result_of(
                stop_command(order, device_class, reports),
                reports,
                controller_id=self._controller_id,
                started_at_ms=started_at_ms,
                finished_at_ms=self._clock(),
            )
            self._send(result, trace_id=order.order_id)
        await self._journal.keep_result(command_id=order.order_id, result=b"obeyed")
        return True

    async def _execute(self, command: ControllerCommand, record: ConsumedRecord) -> ControllerResult:
        started_at_ms = self._clock()
        machines = self._machines.of_shard(command.shard_id)
        if self._is_stopped():
            reports = _refused(command, "kill switch must be released, was set")
        else:
            is_expired = record.timestamp_ms > 0 and started_at_ms - record.timestamp_ms > COMMAND_AGE_MS_MAX
            commands = self._commands[command.cluster_id]
            reports = await commands.execute(command, machines, is_expired=is_expired)
            if any(report.outcome is DeviceOutcome.DUPLICATE for report in reports):
                # Left by a dead controller, or by this one while Redis was away: end them, then answer with their end.
                await recover(self._journal, command.shard_id, machines)
                again = await commands.execute(command, machines, is_expired=is_expired)
                reports = [
                    second if first.outcome is DeviceOutcome.DUPLICATE else first
                    for first, second in zip(reports, again, strict=True)
                ]
        result = result_of(
            command,
            reports,
            controller_id=self._controller_id,
            started_at_ms=started_at_ms,
            finished_at_ms=self._clock(),
        )
        _log_outcomes(result)
        return result

    def order(self, order: OperatorOrder) -> None:
        """Send an order of the controller's own; it comes back as everybody's do, and is obeyed then."""
        self._send(order, trace_id=order.order_id)

    def refuse(self, record: ConsumedRecord, rejected: Rejected) -> None:
        """Send a record to its dead-letter topic."""
        self._unflushed_dead.append((record, rejected))
        self._producer.send_dead(record, rejected)

    async def flush(self) -> None:
        """Return when the broker has every result, order and dead letter; what failed before is sent again.

        Raises:
            BrokerError: Not everything was delivered; call again.
        """
        sent, dead = self._unflushed, self._unflushed_dead
        if self._has_failed:
            for value, trace_id in sent:
                self._producer.send(value, trace_id=trace_id)
            for record, rejected in dead:
                self._producer.send_dead(record, rejected)
        counts = len(sent), len(dead)
        self._has_failed = True
        await asyncio.to_thread(self._producer.flush)
        self._has_failed = False
        del sent[: counts[0]], dead[: counts[1]]

    def _send(self, value: object, *, trace_id: str) -> None:
        self._unflushed.append((value, trace_id))
        self._producer.send(value, trace_id=trace_id)


def _refused(command: ControllerCommand, detail: str) -> list[DeviceReport]:
    return [
        DeviceReport(
            device_index=index, epoch=epoch, outcome=DeviceOutcome.UNSAFE, mode=command.from_mode, detail=detail
        )
        for index, epoch in zip(command.device_indexes, command.epochs, strict=True)
    ]


def _log_outcomes(result: ControllerResult) -> None:
    counts = {str(outcome): result.outcomes.count(outcome) for outcome in sorted(set(result.outcomes))}
    totals = [total for total in result.total_ms if total is not None]
    _log.info(
        "command_executed",
        command_id=result.command_id,
        shard_id=result.shard_id,
        to_mode=str(result.to_mode),
        total_ms_max=max(totals, default=None),
        **counts,
    )
