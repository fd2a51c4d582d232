"""A simulated host for tests of NVML: the library built once, loaded before the binding asks for it by name.

In this process the library is preloaded (the binding opens "libnvidia-ml.so.1" and is given the one already there);
tests/contract/test_nvml_process.py does what a deployment does, LD_LIBRARY_PATH in a new process.
"""

import ctypes
import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hcp.settings import load_settings
from hcp.stack import default_cache_dir
from simulators.nvml.build import STATE_VARIABLE, NvmlBuildError, build_library, compiler, preload
from simulators.nvml.models import H100, GpuModel
from simulators.nvml.state import NvmlSimulator

nvml: Any = importlib.import_module("pynvml")
"""The binding, untyped as it is."""


def library_directory() -> Path:
    """Return where built libraries are kept from run to run."""
    return default_cache_dir(load_settings().cache_dir) / "nvml"


def library() -> Path:
    """Return the built library; where there is no compiler the test is skipped, except in CI."""
    try:
        compiler()
    except NvmlBuildError as error:
        if "CI" in os.environ:  # noqa: TID251  # a missing compiler must fail there, never skip
            raise
        pytest.skip(str(error))
    return build_library(library_directory())


@cache
def loaded() -> ctypes.CDLL:
    """Return the library, loaded into this process once."""
    return preload(library())


@contextmanager
def host(directory: Path, models: Sequence[GpuModel] = (H100,) * 2) -> Iterator[NvmlSimulator]:
    """Make a host, and let nvmlInit in this process find it; what a test left initialised is shut down."""
    loaded()
    with (
        NvmlSimulator.create(directory / "nvml-state", models=models) as simulator,
        pytest.MonkeyPatch.context() as set_,
    ):
        set_.setenv(STATE_VARIABLE, str(simulator.path))
        try:
            yield simulator
        finally:
            for gpu in simulator.gpus:
                gpu.mend()
            while loaded().hcp_nvml_inits_open():
                nvml.nvmlShutdown()
