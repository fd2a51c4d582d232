"""CuPy, for hosts with an NVIDIA GPU: asked for by name, it is no dependency of the package."""

import importlib
from typing import Any


def load_cupy() -> Any:  # noqa: ANN401  # a library without types, found at run time
    """Return CuPy with a device it can use.

    Raises:
        RuntimeError: There is none.
    """
    try:
        found: Any = importlib.import_module("cupy")
        found.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise RuntimeError(f"--cuda must find CuPy and a CUDA device, was: {error}") from error
    return found
