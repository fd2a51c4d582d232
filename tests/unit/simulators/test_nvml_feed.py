"""One shard's physics shown in a simulated NVML: what is shown, and what is refused before anything runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from hcp.errors import HcpError
from hcp.fleet import load_fleet
from hcp.model.telemetry import GpuTelemetry
from hcp.model.units import EpochMs
from simulators.nvml.models import H100
from simulators.nvml.state import NvmlSimulator
from simulators.nvml_feed import NvmlFeed
from simulators.telemetry import fleet_physics, tick

FLEET = load_fleet(Path(__file__).resolve().parents[3] / "fleet.demo.toml")
SHARD = "tx-south.gpu-1/00"
AT = EpochMs(1_764_000_000_000)


def test_each_gpu_shows_its_own_device(tmp_path: Path) -> None:
    """Power arrives, and a device that measured nothing leaves its GPU as it was."""
    (batch,) = [
        each for each in tick(fleet_physics(FLEET, seed=7), passed_ms=1_000, at_ms=AT, seed=7) if each.shard_id == SHARD
    ]
    assert isinstance(batch, GpuTelemetry)
    with NvmlSimulator.create(tmp_path / "state", models=(H100,) * 8) as host:
        feed = NvmlFeed.parse(f"{SHARD}={host.path}", fleet=FLEET)
        feed.show(batch)
        shown = [gpu.power_watts for gpu in host.gpus]
        # A limit of the card bounds what it draws, as on the real one.
        wanted = [
            min(power or 0.0, gpu.power_limit_watts) for power, gpu in zip(batch.power_watts, host.gpus, strict=True)
        ]
        assert shown == pytest.approx(wanted, abs=0.001)
        silent = (None,) * 8
        feed.show(replace(batch, power_watts=silent, temperature_celsius=silent, memory_temperature_celsius=silent))
        assert [gpu.power_watts for gpu in host.gpus] == shown
        feed.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tx-south.gpu-9/00={path}", "a shard of the fleet"),
        (SHARD, "named as SHARD=FILE"),
        ("tx-south.asic-1/00={path}", "must have the 12 GPUs"),
    ],
)
def test_wrong_host_is_named(tmp_path: Path, text: str, words: str) -> None:
    """A misspelt shard, a missing file name and a host of another size."""
    with NvmlSimulator.create(tmp_path / "state", models=(H100,) * 8) as host, pytest.raises(HcpError, match=words):
        NvmlFeed.parse(text.format(path=host.path), fleet=FLEET)
