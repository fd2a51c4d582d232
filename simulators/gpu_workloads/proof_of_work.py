"""Proof of work on one CPU thread: scrypt(1024, 1, 1), Litecoin's, over an 80-byte header with a counting nonce.

OpenSSL computes a hash without the interpreter's lock (0.3 ms), so that the API answers while the thread hashes.
"""

import hashlib
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

HEADER: Final = bytes(range(76))
"""The header but for its nonce; a real job brings it, here it never changes."""
SCRYPT_N: Final = 1_024
HASH_BYTES: Final = 32
HASHES_A_BATCH: Final = 4
"""Between two looks at the pause: a pause takes effect within so many hashes, about 1 ms."""
POLL_MS: Final = 20
"""How often a paused CPU worker of xmrig looks whether to go on; its CUDA workers look every 200 ms."""
TARGET_MAX: Final = 2**256 - 1
BEST_MAX: Final = 10
TICK_SECONDS: Final = 0.5
"""How often xmrig samples its counters; its rates are averages over these samples."""
WINDOWS_SECONDS: Final = (10, 60, 900)
_SAMPLES_MAX: Final = int(WINDOWS_SECONDS[-1] / TICK_SECONDS) + 2


def scrypt_hash(nonce: int) -> int:
    """Return the hash of the header with `nonce` (32 bits), as the number that is held against a target."""
    blob = HEADER + struct.pack("<I", nonce & 0xFFFFFFFF)
    digest = hashlib.scrypt(blob, salt=blob, n=SCRYPT_N, r=1, p=1, dklen=HASH_BYTES)
    return int.from_bytes(digest, "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a batch came to: how many hashes it was, and those that met the target."""

    hashes: int
    values: Sequence[int]


class Search(Protocol):
    """Hashes a batch of nonces."""

    algorithm: str

    def __call__(self, first_nonce: int, target: int) -> Found:
        """Hash from `first_nonce` on."""
        ...


class ScryptSearch:
    """scrypt on the thread that calls."""

    algorithm = "scrypt"

    def __call__(self, first_nonce: int, target: int) -> Found:
        """Hash the next batch of nonces."""
        values = [scrypt_hash(nonce) for nonce in range(first_nonce, first_nonce + HASHES_A_BATCH)]
        return Found(hashes=HASHES_A_BATCH, values=[value for value in values if value <= target])


class Worker:
    """Hashes on a thread of its own while it is not paused; every share found is accepted at once."""

    def __init__(
        self,
        *,
        difficulty: int,
        poll_ms: int = POLL_MS,
        has_no_work: Callable[[], bool] = lambda: False,
        search: Search | None = None,
    ) -> None:
        """Look for shares.

        Args:
            difficulty: One share in so many hashes, 1 or more.
            poll_ms: While paused, look so often whether to go on, above 0.
            has_no_work: Asked at each resume; True makes the resumed worker idle.
            search: What hashes; None is scrypt on the CPU.
        """
        self.search = ScryptSearch() if search is None else search
        self.difficulty = difficulty
        self.hashes = 0
        self.shares = 0
        self.best: list[int] = []
        self._has_no_work = has_no_work
        self._poll_seconds = poll_ms / 1_000
        self._is_enabled = True
        self._is_hashing_wanted = True
        self._is_stopped = threading.Event()
        self._is_hashing = False
        self._thread = threading.Thread(target=self._run, name="hashing", daemon=True)

    def start(self) -> None:
        """Begin to hash."""
        self._thread.start()

    @property
    def is_paused(self) -> bool:
        """What the API says."""
        return not self._is_enabled

    @property
    def is_hashing(self) -> bool:
        """What is true: the thread is within a batch."""
        return self._is_hashing

    def pause(self) -> None:
        """Let the batch under way be the last one; does not wait for it, as xmrig does not."""
        self._is_enabled = False

    def resume(self) -> None:
        """Hash again."""
        self._is_hashing_wanted = not self._has_no_work()
        self._is_enabled = True

    def stop(self) -> None:
        """End hashing for good."""
        self._is_stopped.set()

    def close(self) -> None:
        """Stop and wait for the thread."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        target = TARGET_MAX // self.difficulty
        nonce = 0
        while not self._is_stopped.is_set():
            if not self._may_hash():
                self._is_hashing = False
                self._is_stopped.wait(self._poll_seconds)
                continue
            self._is_hashing = True
            found = self.search(nonce, target)
            nonce += found.hashes
            for value in found.values:
                self._accept(TARGET_MAX // max(value, 1))
            self.hashes += found.hashes
        self._is_hashing = False

    def _may_hash(self) -> bool:
        return self._is_enabled and self._is_hashing_wanted

    def _accept(self, difficulty: int) -> None:
        self.shares += 1
        self.best = sorted([*self.best, difficulty], reverse=True)[:BEST_MAX]


class HashRates:
    """Rates as xmrig computes them: from samples every 0.5 s, None until a window is full or when nothing was done."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Start without a sample."""
        self._monotonic = monotonic
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES_MAX)
        self.highest: float | None = None

    def sample(self, hashes: int) -> None:
        """Note the counter now."""
        self._samples.append((self._monotonic(), hashes))
        rate = self.over(WINDOWS_SECONDS[0])
        if rate is not None:
            self.highest = max(rate, self.highest or 0.0)

    def over(self, window_seconds: int) -> float | None:
        """Return hashes a second over the last `window_seconds`."""
        since = self._monotonic() - window_seconds
        if not self._samples or self._samples[0][0] > since:
            return None
        inside = [each for each in self._samples if each[0] >= since]
        if not inside or inside[-1][0] == inside[0][0]:
            return None
        rate = (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])
        return round(rate, 2) or None
