"""The GPU kernel's arithmetic, compiled for the CPU: CUDA's words replaced, nothing else changed."""

import ctypes
import random
import struct
import subprocess
from typing import Final

import pytest

from simulators.gpu_workloads.cuda_search import NONCES, SHIFT, sha256d, source
from simulators.gpu_workloads.proof_of_work import HEADER
from simulators.nvml.build import NvmlBuildError, compiler

VALUES_MAX: Final = 4
_FOR_A_CPU: Final = """
#define __constant__ static const
#define __device__ static
#define __forceinline__ inline
#define __global__
#define __funnelshift_r(low, high, n) (((low) >> (n)) | ((high) << (32 - (n))))
#define __byte_perm(x, y, selector) __builtin_bswap32(x)
#define atomicAdd(place, more) ((*(place) += (more)) - (more))
static const struct { unsigned int x; } blockIdx = {0}, blockDim = {1}, threadIdx = {0};
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Compile the kernel as C; one call is one thread."""
    try:
        found = compiler()
    except NvmlBuildError as error:
        pytest.skip(str(error))
    directory = tmp_path_factory.mktemp("kernel")
    as_c, library = directory / "sha256d.c", directory / "sha256d.so"
    as_c.write_text(_FOR_A_CPU + source().replace('extern "C" ', ""), encoding="ascii")
    flags = ("-std=gnu11", "-O1", "-Wall", "-Werror", "-Wno-unknown-pragmas", "-shared", "-fPIC")
    subprocess.run([found, *flags, "-o", str(library), str(as_c)], check=True, timeout=60)
    return ctypes.CDLL(str(library))


class Threads:
    """Calls the kernel a nonce at a time and keeps what a launch would."""

    def __init__(self, kernel: ctypes.CDLL) -> None:
        self._search = kernel.search
        self._header = (ctypes.c_uint32 * 19)(*struct.unpack(">19I", HEADER))
        self.count = ctypes.c_uint32()
        self.values = (ctypes.c_uint64 * VALUES_MAX)()

    def run(self, nonce: int, *, highest: int) -> None:
        """Hash one nonce."""
        limits = ctypes.c_uint32(nonce), ctypes.c_uint64(highest)
        self._search(self._header, *limits, ctypes.byref(self.count), self.values, ctypes.c_uint32(VALUES_MAX))


def test_every_nonce_hashes_as_hashlib_says(kernel: ctypes.CDLL) -> None:
    """The ends of the range, and nonces of each byte: the highest 64 bits are those of the double SHA-256."""
    chosen = [0, 1, 255, 256, 1 << 16, 1 << 24, NONCES - 1, *random.Random(7).sample(range(NONCES), 50)]
    for nonce in chosen:
        threads = Threads(kernel)
        threads.run(nonce, highest=(1 << 64) - 1)
        assert threads.count.value == 1
        assert threads.values[0] == sha256d(nonce) >> SHIFT, nonce


def test_only_what_meets_the_target_is_kept(kernel: ctypes.CDLL) -> None:
    """A hash at the target counts, one above it does not."""
    value = sha256d(7) >> SHIFT
    threads = Threads(kernel)
    threads.run(7, highest=value - 1)
    assert threads.count.value == 0
    threads.run(7, highest=value)
    assert (threads.count.value, threads.values[0]) == (1, value)


def test_more_than_there_is_room_for_is_counted_and_not_written(kernel: ctypes.CDLL) -> None:
    """The count goes on; no value is written past the end."""
    threads = Threads(kernel)
    for nonce in range(VALUES_MAX + 3):
        threads.run(nonce, highest=(1 << 64) - 1)
    assert threads.count.value == VALUES_MAX + 3
    assert list(threads.values) == [sha256d(nonce) >> SHIFT for nonce in range(VALUES_MAX)]
