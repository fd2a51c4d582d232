"""A small model that computes its tokens: seeded float32 matrices, one pass over all of them a token.

Memory is really given back in sleep: level 1 copies the weights out of their arena, level 2 forgets them.
"""

import mmap
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

WIDTH: Final = 512
LAYER_BYTES: Final = WIDTH * WIDTH * 4
VOCABULARY: Final = 256
GAIN: Final = 1.5
"""Above 1 the pass is chaotic: what differs in the prompt or in one matrix soon differs in every token."""
SEED: Final = 20_260_101
KV_CACHE_BYTES: Final = 8 << 20
_CONSONANTS, _VOWELS = "bcdfghjklmnprstv", "aeiouyAEIOUYáéíó"


class Tag(StrEnum):
    """What sleeps and wakes apart."""

    WEIGHTS = "weights"
    KV_CACHE = "kv_cache"


@dataclass(slots=True)
class Sequence:
    """One request's tokens and the state they have led to; None when it must be computed anew."""

    prompt: tuple[int, ...]
    generated: list[int] = field(default_factory=list)
    state: Any = None


def tokens_of(text: str) -> tuple[int, ...]:
    """Return the tokens of a text: its UTF-8 bytes."""
    return tuple(text.encode())


def text_of(token: int) -> str:
    """Return a token's text, a syllable."""
    return _CONSONANTS[token % 16] + _VOWELS[token // 16]


class Model(Protocol):
    """Weights somewhere, what of them sleeps, and the next token."""

    sleeping: set[Tag]

    @property
    def sleep_level(self) -> int:
        """How deep it sleeps: 0 is awake."""
        ...

    def reload(self) -> None:
        """Compute the weights anew, as reading them from a disk would: slow, and right whatever they were."""
        ...

    def corrupt(self) -> None:
        """Turn the sign of one matrix: the same cost, other tokens."""
        ...

    def sleep(self, level: int) -> None:
        """Give back the weights (1: kept in other memory, 2: forgotten) and the cache; again is nothing."""
        ...

    def wake(self, tags: set[Tag]) -> None:
        """Take back what sleeps of `tags`; after level 2 the weights are zero until they are reloaded."""
        ...

    def next_token(self, sequence: Sequence) -> int:
        """Return the likeliest next token (temperature 0), and keep it in the sequence."""
        ...


class CpuModel:
    """The model in the process' own memory."""

    def __init__(self, *, weights_mb: int) -> None:
        """Fill `weights_mb` (1 or more) from the seed."""
        self.layers = max(1, (weights_mb << 20) // LAYER_BYTES)
        # Private: from shared memory MADV_DONTNEED gives nothing back.
        self._arena = mmap.mmap(-1, self.layers * LAYER_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._weights = np.frombuffer(self._arena, dtype=np.float32).reshape(self.layers, WIDTH, WIDTH)
        random = np.random.default_rng(SEED)
        self._embedding = random.standard_normal((VOCABULARY, WIDTH), dtype=np.float32)
        self._backup: bytes | None = None
        self._kv_cache: NDArray[np.uint8] | None = np.ones(KV_CACHE_BYTES, dtype=np.uint8)
        self._level = 0
        self.sleeping: set[Tag] = set()
        self.reload()

    def reload(self) -> None:
        """Compute the weights anew, as reading them from a disk would: slow, and right whatever they were."""
        random = np.random.default_rng(SEED + 1)
        for layer in self._weights:
            layer[:] = random.standard_normal((WIDTH, WIDTH), dtype=np.float32) * (GAIN / WIDTH**0.5)

    def corrupt(self) -> None:
        """Turn the sign of one matrix: the same cost, other tokens."""
        middle = self._weights[self.layers // 2]
        np.negative(middle, out=middle)

    @property
    def sleep_level(self) -> int:
        """How deep it sleeps: 0 is awake."""
        return self._level if self.sleeping else 0

    def sleep(self, level: int) -> None:
        """Give back the weights (1: kept in other memory, 2: forgotten) and the cache; again is nothing."""
        if level < 1 or self.sleeping:
            return
        self._level = level
        if level == 1:
            self._backup = self._arena[:]
        self._arena.madvise(mmap.MADV_DONTNEED)
        self._kv_cache = None
        self.sleeping = {Tag.WEIGHTS, Tag.KV_CACHE}

    def wake(self, tags: set[Tag]) -> None:
        """Take back what sleeps of `tags`; after level 2 the weights are zero until they are reloaded."""
        if Tag.WEIGHTS in tags & self.sleeping and self._backup is not None:
            self._arena[:] = self._backup
            self._backup = None
        if Tag.KV_CACHE in tags & self.sleeping:
            self._kv_cache = np.ones(KV_CACHE_BYTES, dtype=np.uint8)
        self.sleeping -= tags

    def next_token(self, sequence: Sequence) -> int:
        """Return the likeliest next token (temperature 0), and keep it in the sequence."""
        if sequence.state is None:
            state = self._pass(self._prompt_state(sequence.prompt))
            for token in sequence.generated:
                state = self._pass(state + self._embedding[token])
        else:
            state = self._pass(sequence.state + self._embedding[sequence.generated[-1]])
        token = int(np.argmax(self._embedding @ state))
        sequence.generated.append(token)
        sequence.state = state
        return token

    def _prompt_state(self, prompt: tuple[int, ...]) -> Vector:
        state = np.zeros(WIDTH, dtype=np.float32)
        for place, token in enumerate(prompt):
            state += np.roll(self._embedding[token % VOCABULARY], place)
        return state

    def _pass(self, state: Vector) -> Vector:
        for layer in self._weights:
            state = np.tanh(layer @ state)
        return state
