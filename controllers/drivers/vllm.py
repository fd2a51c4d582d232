"""An inference server with vLLM's HTTP API (0.17 and later, VLLM_SERVER_DEV_MODE=1) behind the Workload port.

Proof that it serves: a known prompt gives the known tokens. `/health` proves nothing: servers were seen to wake in good
health and to answer nonsense.
"""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from controllers.drivers.freezer import hold_of
from controllers.drivers.gpu_workload import Deadline, HeldWorkload
from controllers.drivers.http import Answer, Endpoint, Failure, decoded
from controllers.ports import (
    Ack,
    Applied,
    Disproven,
    NotConfirmed,
    ObservedState,
    PauseMode,
    Proof,
    Proven,
    Unsupported,
)

CANARY_TOKENS_MAX: Final = 16
HOLD_MS: Final = 50
CANARY_READS: Final = 3
"""A canary must be the same so often before it is believed; a prompt that gives now this, now that is no canary."""
PARTIAL_WAKE_VERSION_MIN: Final = (0, 24)
"""Up to 0.23 a server whose weights alone were woken scheduled requests at once, and died (vllm issue 44395)."""
_OK: Final = 200
_RELOAD: Final[dict[str, object]] = {"method": "reload_weights"}


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt and what the model answers at temperature 0; learned at commissioning, then kept in configuration.

    Attributes:
        prompt: Short, with an answer that leaves the model no doubt.
        tokens_max: How many tokens are asked for, from 1 to 16.
        text: The known answer.
        token_ids: The known tokens; None where the server does not say them.
    """

    prompt: str
    tokens_max: int
    text: str
    token_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmConfig:
    """Where a server is and how it is to be treated.

    Attributes:
        url: Root of its HTTP API, reachable by nobody but us: its control paths know no password.
        model: Served model name.
        canary: What is asked at every verification.
        api_key: Bearer token of `/v1`; "" sends none.
        sleep_level: What a pause does: 0 pauses scheduling and keeps weights and cache where they are (the zone that
            switches within the budget); 1 moves the weights to host memory, 2 forgets them (slow; needs
            --enable-sleep-mode).
        cgroup_dir: Writable cgroup v2 with all of the server's processes and no others; None when there is none.
        pid_file: File with the id of the server's first process; None when there is none.
    """

    url: str
    model: str
    canary: Canary
    api_key: str = ""
    sleep_level: int = 0
    cgroup_dir: Path | None = None
    pid_file: Path | None = None


class _IsPaused(msgspec.Struct, frozen=True):
    is_paused: bool


class _IsSleeping(msgspec.Struct, frozen=True):
    is_sleeping: bool


class _Version(msgspec.Struct, frozen=True):
    version: str


class _Choice(msgspec.Struct, frozen=True):
    text: str
    finish_reason: str | None = None
    token_ids: tuple[int, ...] | None = None


class _Completion(msgspec.Struct, frozen=True):
    choices: tuple[_Choice, ...]


class VllmWorkload(HeldWorkload):
    """One vLLM."""

    def __init__(self, config: VllmConfig, session: aiohttp.ClientSession) -> None:
        """Drive the server at `config.url` over a shared session."""
        super().__init__(hold_of(cgroup_dir=config.cgroup_dir, pid_file=config.pid_file))
        self._config = config
        self._api = Endpoint(session, url=config.url, token=config.api_key)

    def pause_api_ms(self, deadline_ms: int) -> int:
        """Moving weights takes its time and is no sign of a hung server: give it all but what a hold needs."""
        if self._config.sleep_level == 0:
            return super().pause_api_ms(deadline_ms)
        return max(deadline_ms // 2, deadline_ms - HOLD_MS, 1)

    async def pause_by_api(self, *, mode: PauseMode, deadline_ms: int) -> Ack:
        """Pause scheduling, or sleep where configuration says so, and read it back."""
        deadline = Deadline(deadline_ms)
        query = {"mode": str(mode)}
        path = "/pause"
        if self._config.sleep_level > 0:
            path, query = "/sleep", {"level": str(self._config.sleep_level), **query}
        answer = await self._api.order(path, deadline_ms=deadline.left_ms, query=query)
        if not isinstance(answer, Answer):
            return answer
        return await self._read_back(is_paused=True, deadline=deadline)

    async def activate_by_api(self, *, deadline_ms: int) -> Ack:
        """Wake what sleeps, resume, and read it back."""
        deadline = Deadline(deadline_ms)
        if self._config.sleep_level > 0:
            failure = await self._wake(deadline)
            if failure is not None:
                return failure
        answer = await self._api.order("/resume", deadline_ms=deadline.left_ms)
        if not isinstance(answer, Answer):
            return answer
        return await self._read_back(is_paused=False, deadline=deadline)

    async def observed_by_api(self, *, deadline_ms: int) -> ObservedState:
        """Ask whether it sleeps, is paused, and lives."""
        asked = await asyncio.gather(
            self._api.read("/is_sleeping", _IsSleeping, deadline_ms=deadline_ms),
            self._api.read("/is_paused", _IsPaused, deadline_ms=deadline_ms),
            self._api.call("GET", "/health", deadline_ms=deadline_ms),
        )
        sleeping, paused, health = asked
        if not (isinstance(health, Answer) and health.status == _OK and isinstance(sleeping, _IsSleeping)):
            return ObservedState.UNKNOWN
        if isinstance(paused, _IsPaused):
            is_resting = sleeping.is_sleeping or paused.is_paused
        elif isinstance(paused, Unsupported):
            is_resting = sleeping.is_sleeping  # a server older than /is_paused
        else:
            return ObservedState.UNKNOWN
        return ObservedState.PAUSED if is_resting else ObservedState.ACTIVE

    async def export_state(self) -> bytes:
        """Return which model rests here; requests that were kept stay in the server's own memory."""
        return msgspec.json.encode({"model": self._config.model, "sleep_level": self._config.sleep_level})

    async def verify(self, *, deadline_ms: int) -> Proof:
        """Ask the canary, and beside it whether the server calls itself healthy."""
        canary = self._config.canary
        answer, health = await asyncio.gather(
            self._complete(canary.prompt, canary.tokens_max, deadline_ms),
            self._api.call("GET", "/health", deadline_ms=deadline_ms),
        )
        if not isinstance(health, Answer):
            return Disproven(detail=health.detail)
        if health.status != _OK:
            return Disproven(detail=f"/health must answer {_OK}, was {health.status}")
        if not isinstance(answer, _Choice):
            return Disproven(detail=f"canary must be answered, was not: {answer.detail}")
        if answer.text != canary.text:
            return Disproven(detail=f"canary must give {canary.text!r:.80}, was {answer.text!r:.80}")
        if canary.token_ids is not None and answer.token_ids != canary.token_ids:
            return Disproven(detail=f"canary must give tokens {canary.token_ids}, was {answer.token_ids}")
        return Proven(evidence=f"canary gave its {canary.tokens_max} tokens")

    async def prewarm(self, *, deadline_ms: int) -> Ack:
        """Wake the weights ahead of a likely switch; scheduling stays paused, so the device is not taken.

        Afterwards an activation has only the cache to allocate. Without sleep there is nothing to do.
        """
        if self._config.sleep_level == 0:
            return Applied()
        deadline = Deadline(deadline_ms)
        said = await self._api.read("/version", _Version, deadline_ms=deadline.left_ms)
        if not isinstance(said, _Version):
            return said
        if version_of(said.version) < PARTIAL_WAKE_VERSION_MIN:
            least = ".".join(map(str, PARTIAL_WAKE_VERSION_MIN))
            return Unsupported(detail=f"vLLM must be {least} or later to wake its weights alone, was {said.version}")
        failure = await self._wake_weights(deadline)
        return failure or await self._read_back(is_paused=True, deadline=deadline)

    async def learn_canary(self, *, prompt: str, tokens_max: int, deadline_ms: int) -> Canary | Ack:
        """Ask a prompt three times and return what it gives; to be called once, at commissioning, on a sound server.

        Returns:
            The canary, or why there is none: no answer, or not the same answer each time.

        Raises:
            ValueError: `tokens_max` is not from 1 to 16.
        """
        if not 1 <= tokens_max <= CANARY_TOKENS_MAX:
            raise ValueError(f"tokens_max must be from 1 to {CANARY_TOKENS_MAX}, was {tokens_max}")
        deadline = Deadline(deadline_ms)
        found: set[Canary] = set()
        for _ in range(CANARY_READS):
            answer = await self._complete(prompt, tokens_max, deadline.left_ms)
            if not isinstance(answer, _Choice):
                return answer
            found.add(Canary(prompt=prompt, tokens_max=tokens_max, text=answer.text, token_ids=answer.token_ids))
        if len(found) > 1:
            return NotConfirmed(detail=f"prompt must give one answer in {CANARY_READS}, gave {len(found)}")
        return found.pop()

    async def _complete(self, prompt: str, tokens_max: int, deadline_ms: int) -> _Choice | Failure:
        body: dict[str, object] = {
            "model": self._config.model,
            "prompt": prompt,
            "max_tokens": tokens_max,
            "temperature": 0,
            "return_token_ids": True,
        }
        path = "/v1/completions"
        answer = await self._api.order(path, deadline_ms=deadline_ms, body=body)
        if not isinstance(answer, Answer):
            return answer
        said = decoded(path, answer, _Completion)
        if not isinstance(said, _Completion):
            return said
        return said.choices[0] if said.choices else _Choice(text="", finish_reason="none")

    async def _wake(self, deadline: Deadline) -> Failure | None:
        # By tags, one after the other: a tag that is awake is left alone, while waking everything again maps
        # memory twice on versions that do not look (vllm-omni issue 4473).
        failure = await self._wake_weights(deadline)
        if failure is not None:
            return failure
        answer = await self._api.order("/wake_up", deadline_ms=deadline.left_ms, query={"tags": "kv_cache"})
        return None if isinstance(answer, Answer) else answer

    async def _wake_weights(self, deadline: Deadline) -> Failure | None:
        answer = await self._api.order("/wake_up", deadline_ms=deadline.left_ms, query={"tags": "weights"})
        if isinstance(answer, Answer) and self._config.sleep_level > 1:
            answer = await self._api.order("/collective_rpc", deadline_ms=deadline.left_ms, body=_RELOAD)
        return None if isinstance(answer, Answer) else answer

    async def _read_back(self, *, is_paused: bool, deadline: Deadline) -> Ack:
        said = await self._api.read("/is_paused", _IsPaused, deadline_ms=deadline.left_ms)
        if isinstance(said, Unsupported):
            return await self._read_back_sleep(is_sleeping=is_paused, deadline=deadline)
        if not isinstance(said, _IsPaused):
            return NotConfirmed(detail=f"is_paused must be read back, was not: {said.detail}")
        if said.is_paused is not is_paused:
            return NotConfirmed(detail=f"is_paused must be {is_paused}, was {said.is_paused}")
        return Applied()

    async def _read_back_sleep(self, *, is_sleeping: bool, deadline: Deadline) -> Ack:
        said = await self._api.read("/is_sleeping", _IsSleeping, deadline_ms=deadline.left_ms)
        if not isinstance(said, _IsSleeping):
            return NotConfirmed(detail=f"is_sleeping must be read back, was not: {said.detail}")
        if said.is_sleeping is not is_sleeping:
            return NotConfirmed(detail=f"is_sleeping must be {is_sleeping}, was {said.is_sleeping}")
        return Applied()


def version_of(text: str) -> tuple[int, int]:
    """Return major and minor of a version such as 0.24.0rc1; (0, 0) when it does not begin so."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match is not None else (0, 0)
