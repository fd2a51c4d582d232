"""One GPU of hardware.toml: its UUID on this host, which programs work on it, and the machine that this makes.

```toml
[[gpu]]
device_id = "tx-north.gpu-1/00/003"
uuid = "GPU-5f7d2c1e-9a64-4c07-8e0b-2f2f6f1f8a11"
xmrig = { url = "http://10.0.3.7:44444", access_token_file = "/run/secrets/xmrig" }

[gpu.vllm]
url = "http://10.0.3.7:8003"
model = "served-model"
canary = { prompt = "The capital of France is", tokens_max = 4, text = " Paris.", token_ids = [12366, 13] }
```
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from controllers.drivers.gpu_machine import GpuMachine
from controllers.drivers.vllm import CANARY_TOKENS_MAX, Canary, VllmConfig, VllmWorkload
from controllers.drivers.xmrig import XmrigConfig, XmrigWorkload
from controllers.ports import Device, Workload
from hcp.errors import SettingsError
from hcp.model.devices import DeviceMode

SLEEP_LEVEL_MAX: Final = 2


class _Miner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    access_token_file: str = ""
    hash_rate_h_per_s_max: float = math.inf
    cgroup_dir: str = ""
    pid_file: str = ""


class _Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    model: str
    canary: Canary
    api_key_file: str = ""
    sleep_level: int = 0
    cgroup_dir: str = ""
    pid_file: str = ""


class GpuEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A GPU as the file words it; `uuid` is what `nvidia-smi -L` prints."""

    device_id: str
    uuid: str
    xmrig: _Miner | None = None
    vllm: _Server | None = None


class GpuWorkloads(msgspec.Struct, frozen=True, kw_only=True):
    """The programs of one GPU; None where it has none."""

    xmrig: XmrigConfig | None
    vllm: VllmConfig | None


def gpu_workloads(given: GpuEntry) -> GpuWorkloads:
    """Return the programs of a GPU; secrets come from the files that it names.

    Raises:
        SettingsError: A file that it names cannot be read, or a value is out of range.
    """
    return GpuWorkloads(
        xmrig=None if given.xmrig is None else _miner(given.xmrig),
        vllm=None if given.vllm is None else _server(given.vllm),
    )


def gpu_machine(workloads: GpuWorkloads, *, device: Device, session: aiohttp.ClientSession) -> GpuMachine:
    """Compose a device and its programs, which share `session`."""
    made: dict[DeviceMode, Workload] = {}
    if workloads.xmrig is not None:
        made[DeviceMode.MINING] = XmrigWorkload(workloads.xmrig, session)
    if workloads.vllm is not None:
        made[DeviceMode.AI_INFERENCE] = VllmWorkload(workloads.vllm, session)
    return GpuMachine(device=device, workloads=made)


def canary_toml(canary: Canary) -> str:
    """Return the line that keeps a learned canary in the file."""
    fields: Mapping[str, object] = msgspec.to_builtins(canary)
    pairs = [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in fields.items() if value is not None]
    # JSON's strings, numbers and lists are TOML's as well, but for a DEL, which TOML wants escaped.
    return f"canary = {{ {', '.join(pairs)} }}".replace("\x7f", "\\u007f")


def _miner(given: _Miner) -> XmrigConfig:
    if not given.hash_rate_h_per_s_max > 0.0:
        raise SettingsError(f"hash_rate_h_per_s_max must be above 0, was {given.hash_rate_h_per_s_max}")
    return XmrigConfig(
        url=_url(given.url),
        access_token=_secret(given.access_token_file),
        hash_rate_h_per_s_max=given.hash_rate_h_per_s_max,
        cgroup_dir=_path(given.cgroup_dir),
        pid_file=_path(given.pid_file),
    )


def _server(given: _Server) -> VllmConfig:
    if not 0 <= given.sleep_level <= SLEEP_LEVEL_MAX:
        raise SettingsError(f"sleep_level must be from 0 to {SLEEP_LEVEL_MAX}, was {given.sleep_level}")
    if not 1 <= given.canary.tokens_max <= CANARY_TOKENS_MAX:
        raise SettingsError(f"tokens_max must be from 1 to {CANARY_TOKENS_MAX}, was {given.canary.tokens_max}")
    if not given.canary.text:
        raise SettingsError("text of the canary must be what the server was seen to answer, was empty")
    return VllmConfig(
        url=_url(given.url),
        model=given.model,
        canary=given.canary,
        api_key=_secret(given.api_key_file),
        sleep_level=given.sleep_level,
        cgroup_dir=_path(given.cgroup_dir),
        pid_file=_path(given.pid_file),
    )


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise SettingsError(f"url must begin with http:// or https://, was {text}")
    return text


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _secret(file: str) -> str:
    if not file:
        return ""
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} must hold a secret, was unreadable: {error}") from error
