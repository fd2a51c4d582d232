"""One GPU of real processes: a miner, an inference server, and the machine that drives them."""

import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import msgspec
import pytest

from controllers.drivers.freezer import HoldState, StopSignal
from controllers.drivers.gpu_machine import GpuMachine
from controllers.drivers.http import open_session
from controllers.drivers.vllm import Canary, VllmConfig, VllmWorkload
from controllers.drivers.xmrig import XmrigConfig, XmrigWorkload
from controllers.ports import Ack, Applied, Device, Identity, PauseMode, Telemetry, Workload
from hcp.model.commands import ControllerCommand
from hcp.model.devices import DeviceMode
from hcp.model.units import Celsius, EpochMs, Watts
from simulators.gpu_workloads.launch import Running, start

SHARD = "tx-north.gpu-1/00"
DEVICE = f"{SHARD}/000"
MODEL = "hcp-canary"
PROMPT = "The known prompt"
TOKENS = 4
COMMISSION_MS = 10_000
CALL_SECONDS_MAX = 5.0


@dataclass(slots=True)
class FakeDevice:
    """The Device port without a device: it is well, takes every limit, and counts its stops."""

    stops: list[str] = field(default_factory=list)
    limit_watts: Watts | None = None

    async def identify(self) -> Identity:
        """Return a made-up card."""
        return Identity(vendor="HCP", product="fake", firmware="0", capabilities=())

    async def telemetry(self) -> Telemetry:
        """Return a cool reading without a mode: a device does not know what its workloads do."""
        return Telemetry(mode=None, power_watts=self.limit_watts, temperature_celsius=Celsius(50.0))

    async def set_power_limit(self, *, limit_watts: Watts, deadline_ms: int) -> Ack:  # noqa: ARG002  # at once
        """Keep the limit."""
        self.limit_watts = limit_watts
        return Applied()

    async def safe_stop(self, *, reason: str) -> Ack:
        """Count it."""
        self.stops.append(reason)
        return Applied()


@dataclass(slots=True, kw_only=True)
class Program:
    """One workload's process, the way to start it again, and the file that names it."""

    kind: str
    options: tuple[str, ...]
    pid_file: Path
    running: Running

    @property
    def url(self) -> str:
        """Root of its API; it keeps its port when it is started again."""
        return self.running.url

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.running.process.kill()
        self.running.stop()

    def start_again(self) -> None:
        """Start it paused on the port it had."""
        self.running.stop()
        port = str(urlsplit(self.running.url).port)
        self.running = start(self.kind, "--port", port, "--paused", *self.options)
        self.pid_file.write_text(str(self.running.pid), encoding="ascii")

    @property
    def hold(self) -> StopSignal:
        """A look at its process."""
        return StopSignal(self.pid_file)


def program(kind: str, directory: Path, *options: str) -> Program:
    """Start a workload, paused, with a pid file in `directory`."""
    running = start(kind, "--paused", *options)
    pid_file = directory / f"{kind}.pid"
    pid_file.write_text(str(running.pid), encoding="ascii")
    return Program(kind=kind, options=options, pid_file=pid_file, running=running)


@dataclass(slots=True, kw_only=True)
class GpuLab:
    """Miner, server and machine."""

    miner: Program
    server: Program
    device: FakeDevice
    machine: GpuMachine
    mining: XmrigWorkload
    inference: VllmWorkload
    session: aiohttp.ClientSession
    epoch: int = 0

    @property
    def programs(self) -> dict[DeviceMode, Program]:
        """Program of each mode."""
        return {DeviceMode.MINING: self.miner, DeviceMode.AI_INFERENCE: self.server}

    async def truth(self, of: Program) -> dict[str, Any]:
        """Ask a control port what its workload really does."""
        async with self.session.get(f"{of.running.control_url}/state") as response:
            return dict(msgspec.json.decode(await response.read()))

    async def fault(self, of: Program, text: str) -> None:
        """Let a workload go wrong."""
        async with self.session.post(f"{of.running.control_url}/fault", json={"fault": text}) as response:
            assert response.status == 200, await response.text()

    async def mend(self) -> None:
        """Mend both workloads: what was killed is started again, what was held is released, faults are cleared."""
        for each in self.programs.values():
            if each.running.process.poll() is not None:
                each.start_again()
            await each.hold.release(deadline_ms=1_000)
            async with self.session.delete(f"{each.running.control_url}/fault") as response:
                assert response.status == 200, await response.text()

    async def active(self) -> tuple[DeviceMode, ...]:
        """Return what runs, by the processes themselves and not by the API that is under test."""
        found = []
        for mode, each in self.programs.items():
            if each.hold.state() is HoldState.FREE and not (await self.truth(each))["is_paused"]:
                found.append(mode)
        return tuple(found)

    async def put_in(self, mode: DeviceMode) -> None:
        """Bring the device to a mode without the protocol, mended."""
        await self.mend()
        for other in self.programs:
            workload = self.machine.workload(other)
            ack = await workload.activate(deadline_ms=5_000)  # answered: no order of before is left open
            assert isinstance(ack, Applied), ack
            ack = await workload.pause(mode=PauseMode.KEEP, deadline_ms=5_000)
            assert isinstance(ack, Applied), ack
        ack = await self.machine.workload(mode).activate(deadline_ms=5_000)
        assert isinstance(ack, Applied), ack

    def command(self, to_mode: DeviceMode, *, from_mode: DeviceMode) -> ControllerCommand:
        """Return the next command for the device."""
        self.epoch += 1
        return ControllerCommand(
            command_id=str(uuid4()),
            decision_id=str(uuid4()),
            facility_id="tx-north",
            cluster_id="tx-north.gpu-1",
            shard_id=SHARD,
            device_class="h100",
            from_mode=from_mode,
            to_mode=to_mode,
            attempt=1,
            device_indexes=(0,),
            epochs=(self.epoch,),
            observed_at_ms=EpochMs(time.time_ns() // 1_000_000),
        )


async def commissioned(url: str, session: aiohttp.ClientSession, *, pid_file: Path | None = None) -> VllmConfig:
    """Learn the canary of a server that rests, and leave it at rest; return its configuration."""
    nothing = Canary(prompt=PROMPT, tokens_max=TOKENS, text="")
    config = VllmConfig(url=url, model=MODEL, canary=nothing, pid_file=pid_file)
    workload = VllmWorkload(config, session)
    assert isinstance(await workload.activate(deadline_ms=COMMISSION_MS), Applied)
    canary = await workload.learn_canary(prompt=PROMPT, tokens_max=TOKENS, deadline_ms=COMMISSION_MS)
    assert isinstance(canary, Canary), canary
    assert isinstance(await workload.pause(mode=PauseMode.KEEP, deadline_ms=COMMISSION_MS), Applied)
    return replace(config, canary=canary)


def cgroup_root() -> Path | None:
    """Return where cgroup v2 is mounted, None when it is not or may not be written."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    roots = [Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"]
    return roots[0] if roots and os.access(roots[0], os.W_OK) else None


@contextmanager
def own_cgroup(pid: int) -> Iterator[Path]:
    """Put a process into a cgroup v2 of its own; the test is skipped where we may not make one."""
    root = cgroup_root()
    if root is None:
        pytest.skip("a cgroup v2 must be writable to freeze one, was not")
    path = root / f"hcp-test-{pid}"
    path.mkdir()
    try:
        (path / "cgroup.procs").write_text(str(pid), encoding="ascii")
        yield path
    finally:
        (path / "cgroup.freeze").write_text("0", encoding="ascii")
        for left in (path / "cgroup.procs").read_text(encoding="ascii").split():
            (root / "cgroup.procs").write_text(left, encoding="ascii")
        path.rmdir()


@asynccontextmanager
async def gpu_lab(
    directory: Path,
    *,
    miner_options: tuple[str, ...] = (),
    server_options: tuple[str, ...] = (),
    sleep_level: int = 0,
    has_hold: bool = True,
    card: Device | None = None,
) -> AsyncIterator[GpuLab]:
    """Start both workloads at rest, commission them and compose a machine.

    Args:
        directory: For the pid files.
        miner_options: Command line of the miner.
        server_options: Command line of the server.
        sleep_level: What a pause of the server does.
        has_hold: Whether the drivers may hold a process that does not answer.
        card: The machine's device; None takes the lab's fake.
    """
    miner = program("miner", directory, *miner_options)
    server = program("server", directory, *server_options)
    timeout = aiohttp.ClientTimeout(total=CALL_SECONDS_MAX)
    try:
        async with open_session() as session, aiohttp.ClientSession(timeout=timeout) as own:
            config = await commissioned(server.url, session, pid_file=server.pid_file if has_hold else None)
            inference = VllmWorkload(replace(config, sleep_level=sleep_level), session)
            mining = XmrigWorkload(XmrigConfig(url=miner.url, pid_file=miner.pid_file if has_hold else None), session)
            device = FakeDevice()
            workloads: dict[DeviceMode, Workload] = {DeviceMode.MINING: mining, DeviceMode.AI_INFERENCE: inference}
            yield GpuLab(
                miner=miner,
                server=server,
                device=device,
                machine=GpuMachine(device=card or device, workloads=workloads),
                mining=mining,
                inference=inference,
                session=own,
            )
    finally:
        miner.running.stop()
        server.running.stop()
