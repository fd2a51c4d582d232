"""A controller pointed at real protocols by configuration alone: NVML by the linker, a miner and a server by URL.

The library is the simulator's and found as a driver's would be; the workloads are processes that hash and compute.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import msgspec
import pytest
import pytest_asyncio

from controllers.drivers.gpu_config import canary_toml
from controllers.drivers.http import open_session
from hcp.fleet import load_fleet
from hcp.model.commands import ControllerCommand, ControllerResult, DeviceOutcome
from hcp.model.devices import DeviceMode
from hcp.model.orders import OperatorOrder, OrderAction, order_of
from hcp.model.telemetry import AsicTelemetry, GpuTelemetry
from hcp.model.units import Celsius, EpochMs, Ratio, Watts
from hcp.stack import StackAddresses
from hcp.topics import METRICS_ASIC, METRICS_GPU, OPERATOR_ORDER
from simulators.asic.families import Family
from simulators.asic.farm import FarmOptions
from simulators.asic.launch import FarmProcess, running_farm
from simulators.nvml.build import STATE_VARIABLE
from simulators.nvml.models import H100
from simulators.nvml.state import NvmlSimulator
from tests.agent_process import ROOT, Reader
from tests.asic_farms import free_address
from tests.gpu_lab import Program, commissioned, program
from tests.integration.test_controllers import Controller
from tests.nvml_lab import library
from tests.unit.controllers.world import ASIC, FLEET, GPU
from tests.unit.controllers.world import command as command_of

pytestmark = pytest.mark.services
SHARD: Final = "tx-north.gpu-9/00"
CLUSTER_LINE: Final = 'clusters.gpu-1 = { device_class = "h100", device_count = 8, initial_mode = "ai_inference" }\n'
OWN_LINE: Final = 'clusters.gpu-9 = { device_class = "h100", device_count = 1, initial_mode = "ai_inference" }\n'
ASIC_LINE: Final = 'clusters.asic-9 = { device_class = "s21", device_count = 3, initial_mode = "mining" }\n'
MINERS: Final = "tx-north.asic-9/00"
OTHERS: Final = tuple(cluster.cluster_id for site in FLEET.facilities for cluster in site.clusters)
BUSY_WATTS: Final = 600.0
"""Above what the simulated card draws until the fleet's physics move it."""
MINING, INFERENCE = DeviceMode.MINING, DeviceMode.AI_INFERENCE


@dataclass(slots=True, kw_only=True)
class Host:
    """A GPU host: one GPU, its two programs, its controller."""

    nvml: NvmlSimulator
    miner: Program
    server: Program
    controller: Controller
    reader: Reader

    def switch(self, to_mode: DeviceMode) -> ControllerResult:
        """Command the GPU and wait for the result."""
        order = self.command(to_mode)
        self.controller.send(order)
        return self.controller.result(order.command_id)

    def command(self, to_mode: DeviceMode) -> ControllerCommand:
        """Return a command for the GPU."""
        order = command_of(GPU, to_mode=to_mode, epoch=time.time_ns() // 1_000_000)
        return replace(order, cluster_id="tx-north.gpu-9", shard_id=SHARD)

    def is_working(self, of: Program) -> bool:
        """Ask a program's control port whether it works."""
        with urlopen(f"{of.running.control_url}/state", timeout=5) as answer:  # noqa: S310  # loopback
            return not msgspec.json.decode(answer.read())["is_paused"]


def _hardware(directory: Path, *, uuid: str, miner: Program, server: Program, canary: str) -> Path:
    path = directory / "hardware.toml"
    path.write_text(
        f"""
[[gpu]]
device_id = "{SHARD}/000"
uuid = "{uuid}"
xmrig = {{ url = "{miner.url}", pid_file = "{miner.pid_file}" }}
[gpu.vllm]
url = "{server.url}"
model = "hcp-canary"
pid_file = "{server.pid_file}"
{canary}
""",
        encoding="utf-8",
    )
    return path


@pytest_asyncio.fixture
async def canary(tmp_path: Path) -> tuple[Program, Program, str]:
    """Start both programs at rest and learn the server's canary."""
    miner, server = program("miner", tmp_path), program("server", tmp_path, "--weights-mb", "4")
    async with open_session() as session:
        config = await commissioned(server.url, session)
    return miner, server, canary_toml(config.canary)


@pytest.fixture
def gpu_host(services: StackAddresses, tmp_path: Path, canary: tuple[Program, Program, str]) -> Iterator[Host]:
    """Give the host with its controller up; the fleet has the cluster, everything else of it is somebody else's."""
    miner, server, line = canary
    fleet = tmp_path / "fleet.toml"
    text = (ROOT / "fleet.demo.toml").read_text(encoding="utf-8")
    fleet.write_text(text.replace(CLUSTER_LINE, CLUSTER_LINE + OWN_LINE, 1), encoding="utf-8")
    assert load_fleet(fleet).shard(SHARD) is not None
    with NvmlSimulator.create(tmp_path / "nvml-state", models=(H100,)) as nvml:
        hardware = _hardware(tmp_path, uuid=nvml.gpu(0).uuid, miner=miner, server=server, canary=line)
        controller = Controller(
            services,
            tmp_path,
            services.redis_url.rsplit("/", 1)[0] + "/9",
            environment={
                "HCP_FLEET_FILE": str(fleet),
                "HCP_HARDWARE_FILE": str(hardware),
                "LD_LIBRARY_PATH": str(library().parent),
                STATE_VARIABLE: str(nvml.path),
            },
        )
        reader = Reader(bootstrap=services.kafka_bootstrap, topics=(METRICS_GPU.name, OPERATOR_ORDER.name))
        try:
            controller.start()
            yield Host(nvml=nvml, miner=miner, server=server, controller=controller, reader=reader)
        finally:
            if controller.process is not None and controller.process.poll() is None:
                controller.process.terminate()
                assert controller.process.wait(timeout=90) == 0, controller.log.read_text()[-4_000:]
            for each in (miner, server):
                each.running.stop()
            controller.consumer.close()
            controller.producer.close()
            reader.close()


def test_switch_and_telemetry_of_a_real_protocol(gpu_host: Host) -> None:
    """A command for the GPU moves real work from program to program, and NVML's readings arrive on the topic."""
    gpu_host.nvml.gpu(0).set_load(power_watts=Watts(612.0), utilisation_ratio=Ratio(0.97))
    gpu_host.nvml.gpu(0).set_temperature(Celsius(64.0), memory_celsius=Celsius(71.0))
    for to_mode, working, resting in (
        (INFERENCE, gpu_host.server, gpu_host.miner),
        (MINING, gpu_host.miner, gpu_host.server),
    ):
        result = gpu_host.switch(to_mode)
        assert (result.outcomes, result.modes) == ((DeviceOutcome.COMMITTED,), (to_mode,)), result.details
        assert gpu_host.is_working(working)
        assert not gpu_host.is_working(resting)
    found = gpu_host.reader.find(
        lambda _, value: isinstance(value, GpuTelemetry) and value.shard_id == SHARD and value.modes == (MINING,)
    )
    batch: GpuTelemetry = found[0][1]
    assert batch.device_indexes == (0,)
    assert batch.power_watts[0] == pytest.approx(612.0, abs=5.0)
    assert (batch.temperature_celsius, batch.memory_temperature_celsius) == ((64.0,), (71.0,))
    assert batch.hash_rate_mh_per_s[0] is None or batch.hash_rate_mh_per_s[0] > 0.0


def test_fleets_physics_show_in_nvml_and_come_back_as_telemetry(gpu_host: Host) -> None:
    """The simulated fleet heats the simulated driver's GPU by the mode that the controller reports; NVML tells it."""
    assert gpu_host.switch(INFERENCE).outcomes == (DeviceOutcome.COMMITTED,)
    controller = gpu_host.controller
    started_ms = time.time_ns() // 1_000_000
    simulator = subprocess.Popen(
        [sys.executable, "-m", "simulators", "fleet", "--nvml", f"{SHARD}={gpu_host.nvml.path}", "--tick-ms", "200"]
        + [option for cluster in OTHERS for option in ("--without", cluster)],
        cwd=ROOT,
        env={
            **os.environ,  # noqa: TID251  # a child process inherits ours
            "HCP_KAFKA_BOOTSTRAP": controller.services.kafka_bootstrap,
            "HCP_FLEET_FILE": controller.environment["HCP_FLEET_FILE"],
        },
    )
    try:
        ((record, batch),) = gpu_host.reader.find(
            lambda _, value: (
                isinstance(value, GpuTelemetry)
                and value.shard_id == SHARD
                and value.modes == (INFERENCE,)
                and (value.power_watts[0] or 0.0) > BUSY_WATTS
            )
        )[:1]
    finally:
        simulator.terminate()
        assert simulator.wait(timeout=90) == 0
    assert batch.utilisation_ratio[0] > 0.5
    assert dict(record.headers)["produced_by"] == b"controller-0"
    assert not gpu_host.reader.present(
        lambda told, value: told.timestamp_ms >= started_ms and getattr(value, "cluster_id", None) in OTHERS
    )


def test_fatal_xid_stops_the_gpu_until_a_person_releases_it(gpu_host: Host) -> None:
    """The driver's word becomes an order: work stops, commands are refused, the release lets them through again."""
    assert gpu_host.switch(MINING).outcomes == (DeviceOutcome.COMMITTED,)
    gpu_host.nvml.raise_xid(0, 48)
    ((_, order),) = gpu_host.reader.find(lambda _, value: isinstance(value, OperatorOrder) and value.shard_id == SHARD)
    assert (order.action, order.device_indexes, order.operator) == (OrderAction.PAUSE, (0,), "gpu-health")
    assert order.why.startswith("Xid 48: ")
    gpu_host.controller.eventually(lambda: not gpu_host.is_working(gpu_host.miner))
    held = gpu_host.switch(INFERENCE)
    assert held.outcomes == (DeviceOutcome.HELD,), held.details
    assert not gpu_host.is_working(gpu_host.server)
    shard = load_fleet(Path(gpu_host.controller.environment["HCP_FLEET_FILE"])).shard(SHARD)
    assert shard is not None
    at_ms = EpochMs(time.time_ns() // 1_000_000)
    gpu_host.controller.send(
        order_of(OrderAction.RELEASE, shard, (0,), operator="k.ono", origin="test", why="reset", observed_at_ms=at_ms)
    )
    assert gpu_host.switch(INFERENCE).outcomes == (DeviceOutcome.COMMITTED,)
    assert gpu_host.is_working(gpu_host.server)


@pytest.fixture
def asic_floor(services: StackAddresses, tmp_path: Path) -> Iterator[tuple[FarmProcess, Controller, Reader]]:
    """Give three miners with LuxOS in a process of their own, and the controller that a file points at them."""
    fleet = tmp_path / "fleet.toml"
    text = (ROOT / "fleet.demo.toml").read_text(encoding="utf-8")
    fleet.write_text(text.replace(CLUSTER_LINE, CLUSTER_LINE + ASIC_LINE, 1), encoding="utf-8")
    options = FarmOptions(family=Family.LUXOS, first=free_address(), count=3, ramp_ms=500, down_ms=200)
    with running_farm(options) as farm:
        hardware = tmp_path / "hardware.toml"
        addresses = f"{farm.hosts[0]}-{farm.hosts[-1]}"
        hardware.write_text(
            f'[[asic]]\ncluster_id = "tx-north.asic-9"\nfirmware = "luxos"\naddresses = ["{addresses}"]\n',
            encoding="utf-8",
        )
        controller = Controller(
            services,
            tmp_path,
            services.redis_url.rsplit("/", 1)[0] + "/9",
            environment={"HCP_FLEET_FILE": str(fleet), "HCP_HARDWARE_FILE": str(hardware)},
        )
        reader = Reader(bootstrap=services.kafka_bootstrap, topics=(METRICS_ASIC.name,))
        try:
            controller.start()
            yield farm, controller, reader
        finally:
            if controller.process is not None and controller.process.poll() is None:
                controller.process.terminate()
                assert controller.process.wait(timeout=90) == 0, controller.log.read_text()[-4_000:]
            controller.consumer.close()
            controller.producer.close()
            reader.close()


def test_miners_are_switched_and_read_over_their_own_protocol(
    asic_floor: tuple[FarmProcess, Controller, Reader],
) -> None:
    """One command for three miners, one of them hung: two obey, the third is told apart; all are read again later."""
    farm, controller, reader = asic_floor
    farm.fault(farm.hosts[1], "hang")
    order = replace(
        command_of(ASIC, to_mode=DeviceMode.SLEEP, devices=(0, 1, 2), epoch=time.time_ns() // 1_000_000),
        cluster_id="tx-north.asic-9",
        shard_id=MINERS,
    )
    controller.send(order)
    result = controller.result(order.command_id)
    assert result.outcomes[0] is result.outcomes[2] is DeviceOutcome.COMMITTED, result.details
    assert result.outcomes[1] in {DeviceOutcome.QUARANTINED, DeviceOutcome.ROLLED_BACK, DeviceOutcome.STALE_TELEMETRY}
    assert [farm.state(host).mode for host in farm.hosts] == ["sleep", "normal", "sleep"]
    farm.mend(farm.hosts[1])
    ((_, batch),) = reader.find(
        lambda _, value: isinstance(value, AsicTelemetry) and value.shard_id == MINERS and len(value.modes) == 3
        and value.modes[0] is DeviceMode.SLEEP
    )[:1]  # fmt: skip
    assert batch.modes == (DeviceMode.SLEEP, MINING, DeviceMode.SLEEP)
    assert batch.hash_rate_th_per_s[1] == pytest.approx(200.0, rel=0.05)
    assert all(farm.state(host).pools for host in farm.hosts)
