"""Proof of work on an NVIDIA GPU: SHA-256d, many nonces a launch."""

import hashlib
import struct
from pathlib import Path
from typing import Any, Final

from simulators.gpu_workloads.proof_of_work import HEADER, Found

THREADS_A_BLOCK: Final = 256
HASHES_A_BATCH: Final = 1 << 24
"""Between two looks at the pause, a few milliseconds."""
SHARES_MAX: Final = 1_024
NONCES: Final = 1 << 32
SHIFT: Final = 192
"""Of a hash's 256 bits, the kernel compares and returns the 64 above these."""


class CudaSearch:
    """SHA-256d over the header, many nonces a launch."""

    algorithm = "sha256d"

    def __init__(self, cupy: Any) -> None:  # noqa: ANN401  # as load_cupy
        """Compile the kernel and hold one launch of it against hashlib."""
        self._cupy = cupy
        self._kernel = cupy.RawKernel(source(), "search")
        self._header = cupy.asarray(struct.unpack(">19I", HEADER), "u4")
        self._count, self._shares = cupy.zeros(1, "u4"), cupy.zeros(SHARES_MAX, "u8")
        self._prove()

    def __call__(self, first_nonce: int, target: int) -> Found:
        """Hash the next batch of nonces."""
        shares = self._launch(first_nonce, HASHES_A_BATCH, target >> SHIFT)
        return Found(hashes=HASHES_A_BATCH, values=[(share << SHIFT) + (1 << SHIFT) - 1 for share in shares])

    def _launch(self, first_nonce: int, hashes: int, highest: int) -> list[int]:
        cupy = self._cupy
        self._count.fill(0)
        given = (self._header, cupy.uint32(first_nonce % NONCES), cupy.uint64(highest), self._count, self._shares)
        self._kernel((hashes // THREADS_A_BLOCK,), (THREADS_A_BLOCK,), (*given, cupy.uint32(SHARES_MAX)))
        count = min(int(self._count[0]), SHARES_MAX)
        return [int(share) for share in self._shares[:count].get()]

    def _prove(self) -> None:
        wanted = sorted(sha256d(nonce) >> SHIFT for nonce in range(THREADS_A_BLOCK))
        found = sorted(self._launch(0, THREADS_A_BLOCK, (1 << 64) - 1))
        if found != wanted:
            raise RuntimeError("the kernel's hashes must be those of hashlib, were not")


def source() -> str:
    """Return the kernel's text."""
    return Path(__file__).with_name("sha256d.cu").read_text(encoding="ascii")


def sha256d(nonce: int) -> int:
    """Return the double SHA-256 of the header with `nonce`, as the number that is held against a target."""
    once = hashlib.sha256(HEADER + struct.pack("<I", nonce % NONCES)).digest()
    return int.from_bytes(hashlib.sha256(once).digest(), "little")
