"""Miner and inference server behind the Workload port, and the machine that composes them, on real processes."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from controllers.drivers.freezer import CgroupFreezer, HoldState
from controllers.drivers.gpu_machine import GpuMachine
from controllers.drivers.http import open_session
from controllers.drivers.vllm import Canary, VllmWorkload
from controllers.drivers.xmrig import XmrigConfig, XmrigWorkload
from controllers.ports import (
    Applied,
    Disproven,
    NotConfirmed,
    ObservedState,
    PauseMode,
    Proven,
    Refused,
    Unreachable,
    Unsupported,
    observed_mode,
)
from hcp.model.devices import DeviceMode
from tests.gpu_lab import PROMPT, GpuLab, commissioned, gpu_lab, own_cgroup, program

MINING, INFERENCE, IDLE = DeviceMode.MINING, DeviceMode.AI_INFERENCE, DeviceMode.IDLE
DEADLINE_MS = 3_000
each_mode = pytest.mark.parametrize("mode", [MINING, INFERENCE])


@pytest_asyncio.fixture
async def lab(tmp_path: Path) -> AsyncIterator[GpuLab]:
    """Both workloads at rest."""
    async with gpu_lab(tmp_path, server_options=("--weights-mb", "4")) as opened:
        yield opened


@each_mode
async def test_workload_runs_when_activated_and_rests_when_paused(lab: GpuLab, mode: DeviceMode) -> None:
    """Each order is applied, twice as well as once, seen by the workload's own word, and true of the process."""
    workload = lab.machine.workload(mode)
    for _ in range(2):
        assert await workload.activate(deadline_ms=DEADLINE_MS) == Applied()
        assert await workload.observed() in {ObservedState.ACTIVE, ObservedState.RAMPING}
        assert await lab.active() == (mode,)
        assert isinstance(await workload.verify(deadline_ms=DEADLINE_MS), Proven)
        assert await observed_mode(lab.machine) is mode
        assert (await lab.machine.device.telemetry()).mode is mode
    for _ in range(2):
        assert await workload.pause(mode=PauseMode.KEEP, deadline_ms=DEADLINE_MS) == Applied()
        assert await workload.observed() is ObservedState.PAUSED
        assert await lab.active() == ()
        assert await observed_mode(lab.machine) is IDLE
    assert await workload.export_state()


@each_mode
async def test_paused_workload_is_not_proven(lab: GpuLab, mode: DeviceMode) -> None:
    """What rests proves nothing, within the deadline."""
    async with asyncio.timeout(30):
        assert isinstance(await lab.machine.workload(mode).verify(deadline_ms=150), Disproven)


async def test_idle_is_none_of_the_others(lab: GpuLab) -> None:
    """Idle is proven while all rest, disproven beside one that runs, and takes every order."""
    idle = lab.machine.workload(IDLE)
    assert await idle.activate(deadline_ms=1) == Applied()
    assert isinstance(await idle.verify(deadline_ms=DEADLINE_MS), Proven)
    await lab.mining.activate(deadline_ms=DEADLINE_MS)
    assert isinstance(await idle.verify(deadline_ms=DEADLINE_MS), Disproven)
    assert await idle.observed() is ObservedState.PAUSED
    with pytest.raises(ValueError, match="idle"):
        GpuMachine(device=lab.device, workloads={IDLE: lab.mining})


async def test_two_that_run_are_no_proof_of_either(lab: GpuLab) -> None:
    """A workload beside another one is disproven, and the device is in no mode."""
    await lab.mining.activate(deadline_ms=DEADLINE_MS)
    await lab.inference.activate(deadline_ms=DEADLINE_MS)
    for mode, other in ((MINING, INFERENCE), (INFERENCE, MINING)):
        proof = await lab.machine.workload(mode).verify(deadline_ms=DEADLINE_MS)
        assert proof == Disproven(detail=f"only {mode} must run, was beside {other}")
    assert (await lab.machine.device.telemetry()).mode is None


async def test_wrong_canary_is_disproven(lab: GpuLab) -> None:
    """A server in good health that computes other tokens is not proven."""
    await lab.fault(lab.server, "corrupt:/resume:1")
    assert await lab.inference.activate(deadline_ms=DEADLINE_MS) == Applied()
    proof = await lab.inference.verify(deadline_ms=DEADLINE_MS)
    assert isinstance(proof, Disproven)
    assert proof.detail.startswith("canary must give")


async def test_miner_that_does_not_hash_is_disproven(lab: GpuLab) -> None:
    """A miner that says it resumed is believed only when its shares rise."""
    await lab.fault(lab.miner, "no_work")
    assert await lab.mining.activate(deadline_ms=DEADLINE_MS) == Applied()
    proof = await lab.mining.verify(deadline_ms=200)
    assert isinstance(proof, Disproven)
    assert proof.detail.startswith("shares must rise within 200 ms")


@each_mode
@pytest.mark.parametrize(
    ("fault", "kind"),
    [("hang", Unreachable), ("refuse", Refused), ("reset", Unreachable), ("slow::-1:800", Unreachable)],
)
async def test_failing_activation_is_said_within_its_deadline(
    lab: GpuLab, mode: DeviceMode, fault: str, kind: type
) -> None:
    """Hang, slowness, refusal and a cut connection are values, and none outlasts the deadline by much."""
    await lab.fault(lab.programs[mode], fault)
    async with asyncio.timeout(30):
        ack = await lab.machine.workload(mode).activate(deadline_ms=200)
    assert isinstance(ack, kind)


@each_mode
async def test_program_that_does_not_answer_is_held_by_force(lab: GpuLab, mode: DeviceMode) -> None:
    """A hung program is paused all the same: its process is stopped, seen as paused, and runs again when activated."""
    workload, its = lab.machine.workload(mode), lab.programs[mode]
    await workload.activate(deadline_ms=DEADLINE_MS)
    await lab.fault(its, "hang")
    assert await workload.pause(mode=PauseMode.KEEP, deadline_ms=400) == Applied()
    assert its.hold.state() is HoldState.HELD
    assert await workload.observed() is ObservedState.PAUSED
    assert await lab.active() == ()
    await lab.mend()
    assert await workload.activate(deadline_ms=DEADLINE_MS) == Applied()
    assert isinstance(await workload.verify(deadline_ms=DEADLINE_MS), Proven)


async def test_freezer_comes_before_the_signal(lab: GpuLab) -> None:
    """With a cgroup and a pid file the hung miner is frozen, not stopped, and thawed by its activation."""
    with own_cgroup(lab.miner.running.pid) as cgroup:
        config = XmrigConfig(url=lab.miner.url, cgroup_dir=cgroup, pid_file=lab.miner.pid_file)
        async with open_session() as session:
            workload = XmrigWorkload(config, session)
            assert await workload.activate(deadline_ms=DEADLINE_MS) == Applied()
            await lab.fault(lab.miner, "hang:/json_rpc:1")
            assert await workload.pause(mode=PauseMode.KEEP, deadline_ms=400) == Applied()
            assert CgroupFreezer(cgroup).state() is HoldState.HELD
            assert lab.miner.hold.state() is HoldState.FREE
            assert await workload.observed() is ObservedState.PAUSED
            assert await workload.activate(deadline_ms=DEADLINE_MS) == Applied()
            assert isinstance(await workload.verify(deadline_ms=DEADLINE_MS), Proven)


@each_mode
async def test_program_that_has_ended_rests_and_cannot_be_activated(lab: GpuLab, mode: DeviceMode) -> None:
    """What was killed does not run: pausing it is applied, activating it is not, and it hides no other's mode."""
    workload, its = lab.machine.workload(mode), lab.programs[mode]
    its.kill()
    assert await workload.observed() is ObservedState.PAUSED
    assert await workload.pause(mode=PauseMode.KEEP, deadline_ms=DEADLINE_MS) == Applied()
    assert isinstance(await workload.activate(deadline_ms=DEADLINE_MS), Unreachable)
    assert await observed_mode(lab.machine) is IDLE
    its.start_again()
    assert await workload.activate(deadline_ms=DEADLINE_MS) == Applied()


async def test_safe_stop_stops_all_even_what_hangs(lab: GpuLab) -> None:
    """The stop pauses both workloads, one of them by force, and reaches the device."""
    await lab.mining.activate(deadline_ms=DEADLINE_MS)
    await lab.inference.activate(deadline_ms=DEADLINE_MS)
    await lab.fault(lab.server, "hang")
    async with asyncio.timeout(30):
        assert await lab.machine.device.safe_stop(reason="test") == Applied()
    assert await lab.active() == ()
    assert lab.device.stops == ["test"]


async def test_without_a_hold_a_hung_program_is_not_called_paused(tmp_path: Path) -> None:
    """Where nothing may hold it the answer says both: no answer, and no way."""
    async with gpu_lab(tmp_path, server_options=("--weights-mb", "1"), has_hold=False) as lab:
        await lab.fault(lab.server, "hang")
        ack = await lab.inference.pause(mode=PauseMode.KEEP, deadline_ms=200)
        assert isinstance(ack, Unreachable)
        assert "must be configured" in ack.detail
        assert await lab.inference.observed() is ObservedState.UNKNOWN
        assert isinstance(await lab.machine.device.safe_stop(reason="test"), NotConfirmed)


@pytest.mark.parametrize("level", [1, 2])
async def test_server_that_sleeps_wakes_with_its_own_tokens(tmp_path: Path, level: int) -> None:
    """In the slower zone a pause gives memory back, an activation takes it back, and a pre-warm does that ahead."""
    async with gpu_lab(tmp_path, server_options=("--weights-mb", "4"), sleep_level=level) as lab:
        for is_prewarmed in (False, True):
            assert await lab.inference.activate(deadline_ms=DEADLINE_MS) == Applied()
            assert isinstance(await lab.inference.verify(deadline_ms=DEADLINE_MS), Proven)
            assert await lab.inference.pause(mode=PauseMode.KEEP, deadline_ms=DEADLINE_MS) == Applied()
            assert (await lab.truth(lab.server))["sleep_level"] == level
            if is_prewarmed:
                assert await lab.inference.prewarm(deadline_ms=DEADLINE_MS) == Applied()
                assert await lab.inference.observed() is ObservedState.PAUSED
                assert await lab.active() == ()
                assert await lab.inference.activate(deadline_ms=DEADLINE_MS) == Applied()
                assert isinstance(await lab.inference.verify(deadline_ms=DEADLINE_MS), Proven)


async def test_old_server_is_not_woken_in_part(tmp_path: Path) -> None:
    """Up to 0.23 vLLM died of a request after its weights alone had been woken: the pre-warm says it cannot."""
    options = ("--weights-mb", "1", "--version", "0.23.0")
    async with gpu_lab(tmp_path, server_options=options, sleep_level=1) as lab:
        ack = await lab.inference.prewarm(deadline_ms=DEADLINE_MS)
        assert ack == Unsupported(detail="vLLM must be 0.24 or later to wake its weights alone, was 0.23.0")


async def test_server_without_development_mode_is_unsupported(tmp_path: Path) -> None:
    """Without VLLM_SERVER_DEV_MODE=1 there is no pause, and the driver says so instead of retrying."""
    server = program("server", tmp_path, "--weights-mb", "1")
    closed = program("server", tmp_path, "--weights-mb", "1", "--no-dev-mode")
    try:
        async with open_session() as session:
            config = replace(await commissioned(server.url, session), url=closed.url)
            workload = VllmWorkload(config, session)
            assert isinstance(await workload.pause(mode=PauseMode.KEEP, deadline_ms=DEADLINE_MS), Unsupported)
            assert isinstance(await workload.activate(deadline_ms=DEADLINE_MS), Unsupported)
            assert await workload.observed() is ObservedState.UNKNOWN
    finally:
        server.running.stop()
        closed.running.stop()


async def test_canary_is_learned_only_from_an_answer(lab: GpuLab) -> None:
    """Commissioning a server that does not answer, or asking too much, gives no canary."""
    await lab.inference.activate(deadline_ms=DEADLINE_MS)
    learned = await lab.inference.learn_canary(prompt=PROMPT, tokens_max=3, deadline_ms=DEADLINE_MS)
    assert isinstance(learned, Canary)
    assert learned.token_ids is not None
    assert len(learned.token_ids) == 3
    await lab.fault(lab.server, "refuse")
    assert isinstance(await lab.inference.learn_canary(prompt=PROMPT, tokens_max=3, deadline_ms=DEADLINE_MS), Refused)
    with pytest.raises(ValueError, match="tokens_max must be from 1 to 16"):
        await lab.inference.learn_canary(prompt=PROMPT, tokens_max=17, deadline_ms=DEADLINE_MS)


async def test_miner_that_restricts_its_api_refuses(tmp_path: Path) -> None:
    """A wrong token and xmrig's default, restricted, are refusals that name the status."""
    miner = program("miner", tmp_path, "--restricted", "--access-token", "secret")
    try:
        async with open_session() as session:
            for token, status in (("secret", 403), ("", 401), ("wrong", 403)):
                workload = XmrigWorkload(XmrigConfig(url=miner.url, access_token=token), session)
                ack = await workload.activate(deadline_ms=DEADLINE_MS)
                assert isinstance(ack, Refused)
                assert f"was {status}" in ack.detail
    finally:
        miner.running.stop()
