"""The simulator's build and its state file: one layout on both sides, two builders at once, limits that outlive us."""

import re
import signal
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hcp.model.units import Ratio, Watts
from simulators.nvml.build import COMPILERS, LIBRARY, NvmlBuildError, build_library, environment
from simulators.nvml.cli import main, parser
from simulators.nvml.layout import LAYOUT_WORD, Call, NvmlReturn, header
from simulators.nvml.models import H100
from simulators.nvml.state import NvmlSimulator, NvmlStateError
from tests.nvml_lab import host, library, nvml

SETTER = """
import sys, time, pynvml
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
pynvml.nvmlDeviceSetPowerManagementLimit(handle, 345_000)
print("set", flush=True)
time.sleep(600)
"""


def _write_word(path: Path, word: int) -> None:
    with path.open("r+b") as file:
        file.write(struct.pack("<Q", word))


def test_the_header_names_the_word_of_the_layout() -> None:
    """The library is compiled with the very word that Python writes into the file."""
    found = re.search(r"#define LAYOUT_WORD (0x[0-9a-f]+)ull", header())
    assert found is not None
    assert int(found[1], 16) == LAYOUT_WORD


def test_another_layout_is_found_on_both_sides(tmp_path: Path) -> None:
    """A file of another version is refused by Python by name, and by nvmlInit with the code for mismatched versions."""
    with host(tmp_path) as simulator:
        _write_word(simulator.path, LAYOUT_WORD + 1)
        with pytest.raises(NvmlStateError, match="must begin with"):
            NvmlSimulator(simulator.path)
        with pytest.raises(nvml.NVMLError_LibRmVersionMismatch):
            nvml.nvmlInit()
        _write_word(simulator.path, LAYOUT_WORD)
        nvml.nvmlInit()
        assert nvml.nvmlDeviceGetCount() == 2


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """Missing, or of another size: said before anything is read."""
    with pytest.raises(NvmlStateError, match="must be a state file"):
        NvmlSimulator(tmp_path / "none")
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(NvmlStateError, match=r"must hold \d+ bytes, held 1"):
        NvmlSimulator(tmp_path / "short")


def test_two_builders_at_once_get_one_library(tmp_path: Path) -> None:
    """Both get the same whole file, and nothing is left aside."""
    library()  # skips where there is no compiler
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(build_library, [tmp_path / "built"] * 2)
    assert first == second
    assert first.name == LIBRARY
    assert [path.name for path in (tmp_path / "built").iterdir()] == [first.parent.name]
    before = first.stat().st_mtime_ns
    assert build_library(tmp_path / "built").stat().st_mtime_ns == before


def test_without_a_compiler_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiler is an error with its name, never a crash."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NvmlBuildError, match=f"C compiler .*{COMPILERS[0]}.* must be on PATH .* was none"):
        build_library(tmp_path / "built")


def test_what_the_compiler_refuses_is_told(tmp_path: Path) -> None:
    """Its own words come with the error."""
    library()
    with pytest.raises(NvmlBuildError, match=r"must build libnvidia-ml.so.1, was refused: .*nonsense"):
        build_library(tmp_path / "built", extra_flags=("-fnonsense",))
    assert list((tmp_path / "built").iterdir()) == []


def test_a_limit_outlives_its_setter(tmp_path: Path) -> None:
    """Kill -9 of the process that set it, and of the simulator's side: the limit is in the file, and locks are free."""
    path = tmp_path / "state"
    NvmlSimulator.create(path, models=(H100,)).close()
    variables = [f"{name}={value}" for name, value in environment(library=library(), state=path).items()]
    with subprocess.Popen(
        ["env", *variables, sys.executable, "-c", SETTER], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "set\n"
        process.send_signal(signal.SIGKILL)
    with NvmlSimulator(path) as again:
        assert again.gpu(0).power_limit_watts == 345.0
        again.gpu(0).set_load(power_watts=Watts(700.0), utilisation_ratio=Ratio(1.0))
        assert again.gpu(0).power_watts == 345.0


def test_a_closed_host_is_closed(tmp_path: Path) -> None:
    """Closing twice is fine; asking a closed one says so."""
    simulator = NvmlSimulator.create(tmp_path / "state")
    simulator.close()
    simulator.close()
    with pytest.raises(NvmlStateError, match="must be mapped, was closed"):
        simulator.refuse_init()


def _said(monkeypatch: pytest.MonkeyPatch, state: Path, *arguments: str) -> None:
    verb, *rest = arguments
    monkeypatch.setattr(sys, "argv", ["simulators.nvml", verb, "--state", str(state), *rest])
    assert main() == 0


def test_the_command_line_changes_what_a_process_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Load, faults and Xids by hand, and everything taken back by mend."""
    with host(tmp_path) as simulator:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(1)
        gpu = ("--gpu", "1")
        _said(monkeypatch, simulator.path, "load", *gpu, "--power-watts", "420", "--temperature-celsius", "77")
        assert nvml.nvmlDeviceGetTemperature(handle, 0) == 77
        _said(monkeypatch, simulator.path, "fault", *gpu, "no_permission", "--call", "set_limit")
        with pytest.raises(nvml.NVMLError_NoPermission):
            nvml.nvmlDeviceSetPowerManagementLimit(handle, 300_000)
        _said(monkeypatch, simulator.path, "xid", *gpu, "48")
        _said(monkeypatch, simulator.path, "fault", *gpu, "off-bus")
        with pytest.raises(nvml.NVMLError_GpuIsLost):
            nvml.nvmlDeviceGetTemperature(handle, 0)
        _said(monkeypatch, simulator.path, "mend", *gpu)
        fresh = nvml.nvmlDeviceGetHandleByIndex(1)
        nvml.nvmlDeviceSetPowerManagementLimit(fresh, 300_000)
        _said(monkeypatch, simulator.path, "show")
        assert f"1 {simulator.gpu(1).uuid} 300 W of 300 W" in capsys.readouterr().out


def test_names_of_faults_are_those_of_nvml() -> None:
    """Each code and call that can be asked for from the command line carries NVML's number and its own bit."""
    for code in NvmlReturn:
        name = "NVML_SUCCESS" if code is NvmlReturn.SUCCESS else f"NVML_ERROR_{code.name}"
        assert getattr(nvml, name) == code
    assert max(Call) < 64
    assert parser().parse_args(["fault", "lost"]).what == "lost"
