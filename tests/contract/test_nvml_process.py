"""NVML as a deployment meets it: a process of its own, the library found by name through the dynamic linker."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulators.nvml.build import COMPILERS, LIBRARY, SANITIZERS, NvmlBuildError, build_library, compiler, environment
from simulators.nvml.models import H100
from simulators.nvml.state import NvmlSimulator
from tests.nvml_lab import host, library, library_directory, loaded, nvml

ROOT = Path(__file__).parents[2]
CHILD_SECONDS_MAX = 60
OPEN = """
import asyncio
from controllers.drivers.nvml_host import NvmlHost, open_nvml

async def main():
    host = await open_nvml()
    if not isinstance(host, NvmlHost):
        print(host)
        return
    for uuid in host.uuids:
        reading = await host.read(uuid, deadline_ms=10_000)
        print(uuid, reading.facts.name, reading.power.instant_watts, flush=True)
    print(await host.close(deadline_ms=10_000))

asyncio.run(main())
"""
HANG = """
import asyncio, sys
from pathlib import Path
from controllers.drivers.nvml_host import GpuUnreachableError, open_nvml
from simulators.nvml.state import NvmlSimulator

async def main():
    host = await open_nvml()
    NvmlSimulator(Path(sys.argv[1])).gpu(0).ask_hang()
    try:
        await host.read(host.uuids[0], deadline_ms=50)
    except GpuUnreachableError as error:
        print("late:", "must answer within 50 ms" in str(error))
    print("closed:", await host.close(deadline_ms=50))

asyncio.run(main())
"""


def _child(code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},  # noqa: TID251  # for a child process
        capture_output=True,
        text=True,
        check=False,
        timeout=CHILD_SECONDS_MAX,
    )


def test_an_unmodified_process_finds_the_library_by_name(tmp_path: Path) -> None:
    """LD_LIBRARY_PATH before the start is all it takes to put the simulator in the real library's place."""
    path = tmp_path / "state"
    with NvmlSimulator.create(path, models=(H100,) * 2) as simulator:
        done = _child(OPEN, **environment(library=library(), state=path))
        uuids = [gpu.uuid for gpu in simulator.gpus]
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [*(f"{uuid} NVIDIA H100 80GB HBM3 70.0" for uuid in uuids), "True"]


def test_without_a_library_nvml_is_absent(tmp_path: Path) -> None:
    """A host with no NVIDIA driver gets a value that says so, and the process goes on."""
    (tmp_path / LIBRARY).write_bytes(b"")  # found first and no library: also where a real one is installed
    done = _child(OPEN, LD_LIBRARY_PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "NvmlAbsent" in done.stdout
    assert "NVML Shared Library Not Found" in done.stdout


def test_a_process_ends_with_a_call_still_in_the_driver(tmp_path: Path) -> None:
    """A hung lane is left behind: it holds up neither closing nor the end of the process."""
    path = tmp_path / "state"
    NvmlSimulator.create(path, models=(H100,)).close()
    done = _child(HANG, str(path), **environment(library=library(), state=path))
    assert done.returncode == 0, done.stderr
    first, *logged, last = done.stdout.splitlines()
    assert (first, last) == ("late: True", "closed: False")
    assert ["nvml_calls_hang" in line for line in logged] == [True]


def test_a_preloaded_library_is_the_one_the_binding_opens(tmp_path: Path) -> None:
    """Other tests preload it: the binding's own lookup by name then ends at the very same functions."""
    with host(tmp_path):
        nvml.nvmlInit()
        ours, bindings = loaded().nvmlDeviceGetCount_v2, nvml.nvmlLib.nvmlDeviceGetCount_v2
        addresses = {ctypes.cast(function, ctypes.c_void_p).value for function in (ours, bindings)}
    assert len(addresses) == 1


DRIVE = """
import sys, threading
from pathlib import Path
import pynvml as n
from simulators.nvml.state import NvmlSimulator, Process

simulator = NvmlSimulator(Path(sys.argv[1]))
n.nvmlInit()
handles = [n.nvmlDeviceGetHandleByIndex(index) for index in range(len(simulator.gpus))]
READS = [("Name",), ("UUID",), ("PciInfo",), ("PowerUsage",), ("TotalEnergyConsumption",), ("TemperatureV", 0),
    ("MarginTemperature",), ("TemperatureThreshold", 1), ("UtilizationRates",), ("MemoryInfo", n.nvmlMemory_v2),
    ("TotalEccErrors", 1, 1), ("MigMode",), ("NvLinkState", 17), ("NvLinkState", 99), ("ComputeRunningProcesses",),
    ("GraphicsRunningProcesses",), ("CurrentClocksEventReasons",), ("MaxClockInfo", 1),
    ("FieldValues", [3, 6, 7, 82, 83, 91, (165, 1), (165, 99), 185, 186, 187, 190, 192, 193, 194, 230])]

def tried(function, *arguments):
    try:
        return getattr(n, function)(*arguments)
    except n.NVMLError:
        return None

def call(handle):
    for number in range(100):
        for name, *arguments in READS:
            tried("nvmlDeviceGet" + name, handle, *arguments)
        tried("nvmlDeviceSetPowerManagementLimit", handle, 200_000 + number * 1_000)

def watch():
    for _ in range(50):
        events = n.nvmlEventSetCreate()
        for handle in handles:
            tried("nvmlDeviceRegisterEvents", handle, 8, events)
        tried("nvmlEventSetWait", events, 2)
        tried("nvmlEventSetFree", events)
        tried("nvmlEventSetFree", events)

threads = [threading.Thread(target=call, args=(handle,)) for handle in handles * 2]
threads += [threading.Thread(target=watch) for _ in range(3)]
for thread in threads:
    thread.start()
for number in range(200):
    gpu = simulator.gpu(number % len(handles))
    simulator.raise_xid(gpu.index, number)
    gpu.set_load(power_watts=100 + number, utilisation_ratio=0.5)
    gpu.set_processes([Process(pid=number, used_bytes=1)] * (number % 33))
    (gpu.lose if number % 50 == 0 else gpu.recover)()
for thread in threads:
    thread.join()
for wrong in (0, 1, 0x4E00000000000000, 0x4E000000000000FF, 2**64 - 1):
    tried("nvmlDeviceGetPowerUsage", __import__("ctypes").c_void_p(wrong))
simulator.gpu(0).recover()
simulator.gpu(0).ask_hang()
hung = threading.Thread(target=tried, args=("nvmlDeviceGetPowerUsage", n.nvmlDeviceGetHandleByIndex(1)))
hung.start()
n.nvmlShutdown()
hung.join()
print("driven")
"""


def _runtime(name: str) -> str | None:
    """Return where the compiler keeps a sanitizer's library, to be loaded before the interpreter's own memory."""
    asked = [compiler(), f"-print-file-name={name}"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=CHILD_SECONDS_MAX).stdout.strip()
    return found if Path(found).is_absolute() else None


def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    """Many threads, wrong handles, double frees and a shutdown under a slow call, with ASAN and UBSAN watching."""
    library()  # skips where there is no compiler
    runtimes = [_runtime("libasan.so"), _runtime("libubsan.so")]
    try:
        sanitized = build_library(library_directory(), extra_flags=SANITIZERS)
    except NvmlBuildError as error:
        pytest.skip(f"{COMPILERS[0]} must have sanitizers, was: {error}")
    if None in runtimes:
        pytest.skip(f"{COMPILERS[0]} must have shared libasan and libubsan, had {runtimes}")
    path = tmp_path / "state"
    NvmlSimulator.create(path, models=(H100,) * 4).close()
    done = _child(
        DRIVE,
        str(path),
        **environment(library=sanitized, state=path),
        LD_PRELOAD=" ".join(str(runtime) for runtime in runtimes),
        ASAN_OPTIONS="detect_leaks=0",  # the interpreter's, not ours: leaks are counted in the tests of the driver
    )
    assert (done.returncode, done.stdout) == (0, "driven\n"), done.stderr
    assert "runtime error" not in done.stderr
