"""A model in the memory of an NVIDIA GPU: the CPU's, wider, in half precision, filled by the GPU's own generator."""

from typing import Any, Final

from simulators.gpu_workloads.model import GAIN, SEED, VOCABULARY, Sequence, Tag

WIDTH: Final = 8_192
LAYER_BYTES: Final = WIDTH * WIDTH * 2
KV_CACHE_BYTES: Final = 1 << 30


class CudaModel:
    """The model's weights in GPU memory, what of them sleeps, and the next token."""

    def __init__(self, *, weights_mb: int, cupy: Any) -> None:  # noqa: ANN401  # as load_cupy
        """Fill `weights_mb` (a layer, 128, or more) from the seed; the backup in pinned memory is taken now."""
        self._cupy = cupy
        self.layers = max(1, (weights_mb << 20) // LAYER_BYTES)
        self._embedding = _normal(cupy, SEED, (VOCABULARY, WIDTH))
        self._state = cupy.empty(WIDTH, "f2")
        self._pinned = cupy.cuda.alloc_pinned_memory(self.layers * LAYER_BYTES)
        self._take_memory()
        self._has_backup = False
        self._level = 0
        self.sleeping: set[Tag] = set()
        self.reload()

    def reload(self) -> None:
        """Compute the weights anew."""
        for number, layer in enumerate(self._weights):
            layer[:] = _normal(self._cupy, SEED + 1 + number, (WIDTH, WIDTH)) * (GAIN / WIDTH**0.5)
        self._cupy.cuda.Device().synchronize()

    def corrupt(self) -> None:
        """Turn the sign of one matrix."""
        middle = self._weights[self.layers // 2]
        self._cupy.negative(middle, out=middle)

    @property
    def sleep_level(self) -> int:
        """How deep it sleeps: 0 is awake."""
        return self._level if self.sleeping else 0

    def sleep(self, level: int) -> None:
        """Give GPU memory back (1: the weights are copied to the host's, 2: forgotten); again is nothing."""
        if level < 1 or self.sleeping:
            return
        self._level = level
        if level == 1:
            self._weights.data.copy_to_host(self._pinned.ptr, self._weights.nbytes)
        self._has_backup = level == 1
        del self._weights, self._kv_cache
        self._cupy.get_default_memory_pool().free_all_blocks()
        self.sleeping = {Tag.WEIGHTS, Tag.KV_CACHE}

    def wake(self, tags: set[Tag]) -> None:
        """Take back what sleeps of `tags`; after level 2 the weights are zero until they are reloaded."""
        if tags & self.sleeping and self.sleeping == set(Tag):
            self._take_memory()
        if Tag.WEIGHTS in tags & self.sleeping:
            if self._has_backup:
                self._weights.data.copy_from_host(self._pinned.ptr, self._weights.nbytes)
            else:
                self._weights.fill(0)
            self._cupy.cuda.Device().synchronize()
        self.sleeping -= tags

    def next_token(self, sequence: Sequence) -> int:
        """Return the likeliest next token (temperature 0), and keep it in the sequence."""
        if sequence.state is None:
            state = self._pass(self._prompt_state(sequence.prompt))
            for token in sequence.generated:
                state = self._pass(state + self._embedding[token])
        else:
            state = self._pass(sequence.state + self._embedding[sequence.generated[-1]])
        token = int((self._embedding @ state).argmax())
        sequence.generated.append(token)
        sequence.state = state
        return token

    def _take_memory(self) -> None:
        self._weights = self._cupy.empty((self.layers, WIDTH, WIDTH), "f2")
        self._kv_cache = self._cupy.ones(KV_CACHE_BYTES, "u1")

    def _prompt_state(self, prompt: tuple[int, ...]) -> Any:  # noqa: ANN401  # an array of CuPy
        state = self._cupy.zeros(WIDTH, "f2")
        for place, token in enumerate(prompt):
            state += self._cupy.roll(self._embedding[token % VOCABULARY], place)
        return state

    def _pass(self, state: Any) -> Any:  # noqa: ANN401  # an array of CuPy
        for layer in self._weights:
            state = self._cupy.tanh(layer @ state)
        return state


def _normal(cupy: Any, seed: int, shape: tuple[int, ...]) -> Any:  # noqa: ANN401  # as load_cupy
    return cupy.random.default_rng(seed).standard_normal(shape, dtype="f4").astype("f2")
