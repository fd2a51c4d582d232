"""The scheduler of the inference server: one thread, a token of each running request in turn, vLLM's ways to pause."""

import threading
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from simulators.gpu_workloads.model import Model, Sequence, Tag, tokens_of

RUNNING_MAX: Final = 16
WAITING_MAX: Final = 256
TOKENS_MAX: Final = 4_096
DRAIN_SECONDS_MAX: Final = 60.0
_OWN_LOAD_PROMPT: Final = tokens_of("a customer's endless request")


class PauseMode(StrEnum):
    """What becomes of requests in flight."""

    ABORT = "abort"
    WAIT = "wait"
    KEEP = "keep"


class _Paused(StrEnum):
    NO = "no"
    NEW = "new"
    """Running requests go on, waiting ones do not begin."""
    ALL = "all"


class Request:
    """One request; `on_end` is called from the engine's thread with why it ended: `length` or `abort`."""

    def __init__(self, prompt: tuple[int, ...], *, tokens_max: int, on_end: Callable[[str], None]) -> None:
        """Ask for `tokens_max` tokens after `prompt`."""
        self.sequence = Sequence(prompt)
        self.tokens_max = tokens_max
        self.on_end = on_end


class Engine:
    """Runs requests on the model until it is paused or put to sleep."""

    def __init__(self, model: Model, *, has_own_load: bool = False) -> None:
        """Own `model`; with `has_own_load` one endless request runs, as on a busy server."""
        self.model = model
        self.tokens_total = 0
        self._condition = threading.Condition()
        self._running: list[Request] = []
        self._waiting: deque[Request] = deque()
        self._paused = _Paused.NO
        self._is_stepping = False
        self._is_closing = False
        self._has_own_load = has_own_load
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to run requests."""
        self._thread.start()

    def close(self) -> None:
        """End the thread after its token."""
        with self._condition:
            self._is_closing = True
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_paused(self) -> bool:
        """Whether scheduling is paused in any way."""
        return self._paused is not _Paused.NO

    @property
    def is_stepping(self) -> bool:
        """Whether a token is being computed."""
        return self._is_stepping

    @property
    def counts(self) -> tuple[int, int]:
        """How many requests run, and how many wait."""
        return len(self._running), len(self._waiting)

    def submit(self, request: Request) -> bool:
        """Queue a request, paused or not; False when too many wait."""
        with self._condition:
            if len(self._waiting) >= WAITING_MAX:
                return False
            self._waiting.append(request)
            self._condition.notify_all()
        return True

    def abort(self, request: Request) -> None:
        """Forget a request whose client has gone."""
        with self._condition:
            self._running = [each for each in self._running if each is not request]
            self._waiting = deque(each for each in self._waiting if each is not request)

    def pause(self, mode: PauseMode) -> None:
        """Pause and return when no token is being computed; WAIT lets the running requests end first."""
        with self._condition:
            aborted: list[Request] = []
            if mode is PauseMode.ABORT:
                aborted = [*self._running, *self._waiting]
                self._running, self._waiting = [], deque()
            self._paused = _Paused.ALL if mode is PauseMode.KEEP else _Paused.NEW
            self._condition.notify_all()
            is_calm = self._is_drained if mode is PauseMode.WAIT else self._is_calm
            self._condition.wait_for(lambda: is_calm() or not self.is_paused, timeout=DRAIN_SECONDS_MAX)
        for request in aborted:
            request.on_end("abort")

    def resume(self) -> None:
        """Schedule again."""
        with self._condition:
            self._paused = _Paused.NO
            self._condition.notify_all()

    def sleep(self, level: int, mode: PauseMode) -> None:
        """Pause, then give back memory; level 0 only pauses."""
        self.pause(mode)
        if level >= 1:
            with self._condition:
                self.model.sleep(level)
                for request in (*self._running, *self._waiting):
                    request.sequence.state = None  # it was in the cache

    def wake(self, tags: set[Tag] | None) -> None:
        """Take back memory, all of it for None; scheduling goes on when none sleeps any more."""
        with self._condition:
            self.model.wake(set(Tag) if tags is None else tags)
        if not self.model.sleeping:
            self.resume()

    def _is_calm(self) -> bool:
        return not self._is_stepping

    def _is_drained(self) -> bool:
        return not self._running

    def _run(self) -> None:
        while True:
            with self._condition:
                self._is_stepping = False
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._is_closing or self._has_work())
                if self._is_closing:
                    return
                self._admit()
                batch = list(self._running)
                self._is_stepping = True
            for request in batch:
                if self._paused is _Paused.ALL or self._is_closing:
                    break
                self._step(request)

    def _has_work(self) -> bool:
        if self._paused is _Paused.ALL or self.model.sleeping:
            return False
        may_begin = self._paused is _Paused.NO and (bool(self._waiting) or self._has_own_load)
        return may_begin or bool(self._running)

    def _admit(self) -> None:
        if self._paused is not _Paused.NO:
            return
        if self._has_own_load and not any(each.sequence.prompt is _OWN_LOAD_PROMPT for each in self._running):
            self._running.append(Request(_OWN_LOAD_PROMPT, tokens_max=TOKENS_MAX, on_end=lambda _reason: None))
        while self._waiting and len(self._running) < RUNNING_MAX:
            self._running.append(self._waiting.popleft())

    def _step(self, request: Request) -> None:
        self.model.next_token(request.sequence)
        self.tokens_total += 1
        if len(request.sequence.generated) < request.tokens_max:
            return
        with self._condition:
            if request not in self._running:
                return  # aborted meanwhile, and told so
            self._running.remove(request)
        request.on_end("length")
