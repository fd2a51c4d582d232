"""Build the library with the machine's C compiler on first use, once for each content of its sources."""

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hcp.errors import HcpError
from simulators.nvml.layout import header

LIBRARY: Final = "libnvidia-ml.so.1"
"""The name that the binding opens; also the library's SONAME."""
STATE_VARIABLE: Final = "HCP_NVML_STATE"
"""Environment variable that names the state file; attach.c reads it at nvmlInit."""
COMPILERS: Final = ("cc", "gcc", "clang")
BUILD_SECONDS_MAX: Final = 120
_HERE: Final = Path(__file__).parent
_FLAGS: Final = (
    "-std=c11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
    "-pthread",
)
SANITIZERS: Final = ("-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


class NvmlBuildError(HcpError):
    """The simulator could not be built; says what must be there and what was."""


def compiler() -> str:
    """Return the path of the machine's C compiler.

    Raises:
        NvmlBuildError: There is none.
    """
    found = next((path for name in COMPILERS if (path := shutil.which(name)) is not None), None)
    if found is None:
        raise NvmlBuildError(f"a C compiler ({', '.join(COMPILERS)}) must be on PATH to build {LIBRARY}, was none")
    return found


def build_library(directory: Path, *, extra_flags: Sequence[str] = ()) -> Path:
    """Return the path of libnvidia-ml.so.1 under `directory`, built unless these very sources were built there before.

    It is made aside and renamed into place, so that two processes may build at once and none sees half a library.

    Args:
        directory: Cache, made when missing.
        extra_flags: For the compiler, such as SANITIZERS; each set of flags has its own build.

    Raises:
        NvmlBuildError: No compiler, or it refused.
    """
    sources = sorted(_HERE.glob("*.c"))
    flags = (*_FLAGS, *extra_flags)
    content = [*(path.read_bytes() for path in (*sources, *sorted(_HERE.glob("*.h")))), header().encode()]
    digest = hashlib.sha256(b"\0".join([*content, " ".join(flags).encode()])).hexdigest()[:16]
    built = directory.absolute() / f"nvml-{digest}"
    if not (built / LIBRARY).exists():
        directory.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".nvml-", dir=directory))
        try:
            _compile(sources, flags, aside)
            aside.rename(built)
        except OSError as error:
            if not (built / LIBRARY).exists():  # else another process was first, with the same bytes
                raise NvmlBuildError(f"{built} must be writable, was not: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return built / LIBRARY


def _compile(sources: Sequence[Path], flags: Sequence[str], into: Path) -> None:
    (into / "layout.h").write_text(header(), encoding="ascii")
    command = [compiler(), *flags, f"-Wl,-soname,{LIBRARY}", f"-I{into}", f"-I{_HERE}", "-o", str(into / LIBRARY)]
    try:
        result = subprocess.run(
            [*command, *(str(source) for source in sources)],
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILD_SECONDS_MAX,
        )
    except subprocess.TimeoutExpired as error:
        raise NvmlBuildError(f"{command[0]} must end within {BUILD_SECONDS_MAX} s, did not") from error
    if result.returncode != 0:
        raise NvmlBuildError(f"{command[0]} must build {LIBRARY}, was refused: {result.stderr.strip()[-2_000:]}")


def environment(*, library: Path, state: Path) -> dict[str, str]:
    """Return the variables that make an unmodified process open the simulator in place of the real library.

    The dynamic linker reads LD_LIBRARY_PATH when a process starts: set it before, never inside.
    """
    return {"LD_LIBRARY_PATH": str(library.parent), STATE_VARIABLE: str(state.absolute())}


def preload(library: Path) -> ctypes.CDLL:
    """Load the simulator into this process, before NVML's binding opens its library by name.

    The dynamic linker gives whoever asks for a name the loaded library with that SONAME. So the binding stays
    unmodified, and for the rest of the process there is no other NVML: a choice for tests, not for services.
    """
    return ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
