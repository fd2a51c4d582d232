"""The controller process: commands in, switches done, results out, offsets committed after the effect."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
import uvloop

from controllers.hardware_file import read_hardware_file
from controllers.health import GpuHealth
from controllers.intake import command_in, order_in
from controllers.journal import connect, open_journal
from controllers.kill_audit import KillAudit
from controllers.kill_switch import KillSwitch, kill_switch_file
from controllers.machines import Machines
from controllers.offsets import InFlight
from controllers.prewarm import Prewarmer
from controllers.readings import Readings
from controllers.real_hardware import RealHardware, open_real_hardware
from controllers.rounds import Rounds
from controllers.telemetry_out import TelemetryOut
from controllers.work import Worker
from hcp.clock import seconds, wall_ms
from hcp.errors import BrokerError, StoreError
from hcp.kafka.consumer import BatchConsumer
from hcp.kafka.producer import RecordProducer
from hcp.kafka.records import ConsumedRecord
from hcp.kafka.replays import refused_if_replayed
from hcp.model.facilities import Fleet
from hcp.model.rejections import Rejected
from hcp.settings import Settings
from hcp.telemetry import RECORDS
from hcp.topics import CONTROLLER_COMMAND, OPERATOR_ORDER, ORCHESTRATOR_OUTLOOK

PROCESS: Final = "controller"
GROUP: Final = "controllers"
POLL_MS: Final = 50
POLL_RECORDS_MAX: Final = 64
IN_FLIGHT_MAX: Final = 256
BACKOFF_MS: Final = 200
BACKOFF_MS_MAX: Final = 5_000

Value = TypeVar("Value")
_log = structlog.get_logger(__name__)


def run_controller(*, settings: Settings, fleet: Fleet, facilities: tuple[str, ...] = ()) -> int:
    """Drive the named facilities (none named: all) until SIGTERM or SIGINT; return the exit status.

    Raises:
        BrokerError: The topics do not exist, or the group cannot be kept.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, fleet, facilities))


async def _run(settings: Settings, fleet: Fleet, facilities: tuple[str, ...]) -> int:
    if settings.hardware_file is None:
        machines = Machines(fleet=fleet, facilities=facilities, state_dir=settings.state_dir)
        return await _Controller(settings=settings, fleet=fleet, machines=machines, real=None).run()
    described = read_hardware_file(settings.hardware_file, fleet)
    async with await open_real_hardware(described, fleet) as real:
        machines = Machines(
            fleet=fleet, facilities=facilities, state_dir=settings.state_dir, described=described, real=real
        )
        return await _Controller(settings=settings, fleet=fleet, machines=machines, real=real).run()


class _Controller:
    """Wires consumer, worker and producer; the loop is the only caller of the consumer."""

    def __init__(self, *, settings: Settings, fleet: Fleet, machines: Machines, real: RealHardware | None) -> None:
        self._settings = settings
        self._fleet = fleet
        self._controller_id = f"{PROCESS}-{settings.instance}"
        self._shards = {shard.shard_id: shard for shard in fleet.shards()}
        self._machines = machines
        self._real = real
        self._readings = Readings()
        self._shard_locks: dict[str, asyncio.Lock] = {}
        self._prewarmer = Prewarmer(
            shards=self._machines.shards, machines_of=self._machines.of_shard, lock_of=self._lock_of
        )
        switch_file = kill_switch_file(settings.state_dir)
        audit = KillAudit(switch_file, bootstrap=settings.kafka_bootstrap, controller_id=self._controller_id)
        self._kill_switch = KillSwitch(
            switch_file,
            shards=self._machines.shards,
            machines_of=self._machines.of_shard,
            on_change=lambda is_set: audit.tell(is_set=is_set),
        )
        self._stopping = asyncio.Event()
        self._in_flight = InFlight()
        self._telemetry = TelemetryOut(
            machines, self._readings, bootstrap=settings.kafka_bootstrap, produced_by=self._controller_id
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        watching = [asyncio.create_task(self._kill_switch.watch())]
        redis = connect(self._settings.redis_url.get_secret_value())
        try:
            journal = await self._until_store_answers(lambda: open_journal(redis))
            if journal is None:
                return 0
            producer = RecordProducer(bootstrap=self._settings.kafka_bootstrap, produced_by=self._controller_id)
            worker = Worker(
                journal=journal,
                machines=self._machines,
                readings=self._readings,
                producer=producer,
                controller_id=self._controller_id,
                is_stopped=lambda: self._kill_switch.is_set,
            )
            rounds = Rounds(self._machines.shards, self._read_shard)
            await rounds.once()
            watching.append(asyncio.create_task(rounds.forever()))
            self._watch_health(worker)
            if await self._until_store_answers(worker.recover_all) is not None:
                _log.info("controller_ready", incarnation=journal.incarnation, shards=len(self._machines.shards))
                await self._consume(worker)
            producer.close()
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            await self._prewarmer.close()
            await redis.aclose()
        _log.info("controller_stopped")
        return 0

    def _watch_health(self, worker: Worker) -> None:
        """Let what the driver says of its GPUs become orders; NVML's own close ends it."""
        if self._real is None or self._real.nvml is None:
            return
        health = GpuHealth(places=self._real.places(self._machines.real), send=worker.order)
        self._real.nvml.watch(health.take)

    async def _consume(self, worker: Worker) -> None:
        consumer = BatchConsumer(
            bootstrap=self._settings.kafka_bootstrap,
            group=GROUP + self._machines.group_suffix,
            topics=(CONTROLLER_COMMAND.name, OPERATOR_ORDER.name, ORCHESTRATOR_OUTLOOK.name),
            client_id=self._controller_id,
        )
        try:
            while not self._stopping.is_set():
                if len(self._in_flight) < IN_FLIGHT_MAX:
                    records = await asyncio.to_thread(
                        consumer.poll, records_max=POLL_RECORDS_MAX, timeout_ms=POLL_MS, is_prompt=True
                    )
                    for record in records:
                        self._take(record, worker)
                else:
                    await asyncio.sleep(seconds(POLL_MS))
                self._raise_failed()
                await self._commit(consumer, worker)
            if self._tasks:
                await asyncio.wait(self._tasks)
            await self._commit(consumer, worker)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.to_thread(consumer.close)

    def _take(self, record: ConsumedRecord, worker: Worker) -> None:
        RECORDS.labels(PROCESS, record.topic).inc()
        self._in_flight.take(record)
        replayed = refused_if_replayed(record)
        if replayed is not None:  # a copy of what happened once already, wherever it lies: no device obeys it
            self._refuse(record, replayed, worker)
            return
        if record.topic == ORCHESTRATOR_OUTLOOK.name:
            self._prewarmer.take(record.value, age_ms=wall_ms() - record.timestamp_ms)
            self._in_flight.finish(record)
            return
        take_in = order_in if record.topic == OPERATOR_ORDER.name else command_in
        taken = take_in(record.value, fleet=self._fleet, shards=self._shards)
        if isinstance(taken, Rejected):
            self._refuse(record, taken, worker)
        elif taken.shard_id not in self._machines.shards:
            self._in_flight.finish(record)  # another controller's facility
        else:
            lock = self._lock_of(taken.shard_id)
            self._tasks.add(asyncio.create_task(self._work(record, lock, lambda: worker.do(taken, record))))

    def _refuse(self, record: ConsumedRecord, why: Rejected, worker: Worker) -> None:
        _log.warning("record_rejected", reason=str(why.reason), detail=why.detail, offset=record.offset)
        worker.refuse(record, why)
        self._in_flight.finish(record)

    def _lock_of(self, shard_id: str) -> asyncio.Lock:
        return self._shard_locks.setdefault(shard_id, asyncio.Lock())

    async def _work(self, record: ConsumedRecord, lock: asyncio.Lock, act: Callable[[], Awaitable[bool]]) -> None:
        async with lock:  # one shard's commands in their order; shards do not wait for each other
            if await self._until_store_answers(act) is not None:
                self._in_flight.finish(record)

    def _raise_failed(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()

    async def _commit(self, consumer: BatchConsumer, worker: Worker) -> None:
        ready = self._in_flight.committable()
        if not ready:
            return
        if not await self._delivered(worker):
            return
        try:
            await asyncio.to_thread(consumer.commit, ready)
        except BrokerError as error:
            # The records come again, here or to another member, and are answered from what Redis keeps.
            _log.warning("offsets_not_committed", error=str(error))

    async def _delivered(self, worker: Worker) -> bool:
        """Flush until the broker has everything; False when told to stop before."""
        delay_ms = BACKOFF_MS
        while True:
            try:
                await worker.flush()
            except BrokerError as error:
                if delay_ms == BACKOFF_MS:
                    _log.warning("results_not_delivered", error=str(error))
                if await self._is_stopped_within(delay_ms):
                    return False
                delay_ms = min(2 * delay_ms, BACKOFF_MS_MAX)
            else:
                return True

    async def _until_store_answers(self, act: Callable[[], Awaitable[Value]]) -> Value | None:
        """Do `act` again, ever later up to 5 s, until Redis answers; None when told to stop before."""
        delay_ms = BACKOFF_MS
        while True:
            try:
                value = await act()
            except StoreError as error:
                if delay_ms == BACKOFF_MS:
                    _log.warning("store_unavailable", error=str(error))
                if await self._is_stopped_within(delay_ms):
                    return None
                delay_ms = min(2 * delay_ms, BACKOFF_MS_MAX)
            else:
                if delay_ms != BACKOFF_MS:
                    _log.info("store_available_again")
                return value

    async def _is_stopped_within(self, delay_ms: int) -> bool:
        try:
            async with asyncio.timeout(seconds(delay_ms)):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    async def _read_shard(self, shard_id: str) -> None:
        await self._readings.refresh(self._machines.by_device_id(shard_id))
        await self._telemetry.send(shard_id)
