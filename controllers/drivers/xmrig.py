"""A miner with xmrig's HTTP API (6.x) behind the Workload port.

Proof that it hashes: an accepted or rejected share more than before (`results`), or a hash rate where there was none.
`hashes_total` of xmrig adds up the difficulty of accepted shares; a count of hashes is not to be had from it.
"""

import asyncio
import math
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
    Refused,
    Unsupported,
)
from hcp.clock import seconds

POLL_MS: Final = 2
CALL_MS_MAX: Final = 100
STATE_MS_MAX: Final = 50
RATE_KNOWN_SECONDS: Final = 20
"""From this uptime on a null rate says that nothing was hashed within its 10 s; before, that it is not known."""
_METHOD_NOT_FOUND: Final = -32601


@dataclass(frozen=True, slots=True, kw_only=True)
class XmrigConfig:
    """Where a miner is and what may be believed of it.

    Attributes:
        url: Root of its HTTP API; `http.restricted` must be false there.
        access_token: Bearer token; "" sends none.
        hash_rate_h_per_s_max: More than this card can do: a rate above it is no proof, it is a fault.
        cgroup_dir: Writable cgroup v2 with the miner's processes alone; None when there is none.
        pid_file: File with the miner's process id; None when there is none.
    """

    url: str
    access_token: str = ""
    hash_rate_h_per_s_max: float = math.inf
    cgroup_dir: Path | None = None
    pid_file: Path | None = None


class _Results(msgspec.Struct, frozen=True):
    shares_total: int
    hashes_total: int


class _HashRate(msgspec.Struct, frozen=True):
    total: tuple[float | None, ...]


class _Summary(msgspec.Struct, frozen=True):
    paused: bool
    uptime: int
    results: _Results
    hashrate: _HashRate

    @property
    def rate_h_per_s(self) -> float | None:
        """Hash rate over the last 10 s."""
        return self.hashrate.total[0] if self.hashrate.total else None


class _RpcError(msgspec.Struct, frozen=True):
    code: int
    message: str = ""


class _RpcAnswer(msgspec.Struct, frozen=True):
    error: _RpcError | None = None


class XmrigWorkload(HeldWorkload):
    """One xmrig."""

    def __init__(self, config: XmrigConfig, session: aiohttp.ClientSession) -> None:
        """Drive the miner at `config.url` over a shared session."""
        super().__init__(hold_of(cgroup_dir=config.cgroup_dir, pid_file=config.pid_file))
        self._config = config
        self._api = Endpoint(session, url=config.url, token=config.access_token)
        self._rpc_id = 0
        self._rate_h_per_s: float | None = None

    @property
    def hash_rate_h_per_s(self) -> float | None:
        """Return the mean of 10 s as of the last observation."""
        return self._rate_h_per_s

    async def pause_by_api(self, *, mode: PauseMode, deadline_ms: int) -> Ack:  # noqa: ARG002  # a miner has no requests
        """Pause; threads end the hash (a GPU: the batch) that they are at."""
        return await self._order("pause", is_paused=True, deadline=Deadline(deadline_ms))

    async def activate_by_api(self, *, deadline_ms: int) -> Ack:
        """Resume; a paused thread looks for it every 20 ms (CUDA: 200 ms)."""
        return await self._order("resume", is_paused=False, deadline=Deadline(deadline_ms))

    async def observed_by_api(self, *, deadline_ms: int) -> ObservedState:
        """Read the summary; not paused and without a hash rate yet is ramping."""
        summary = await self._summary(deadline_ms)
        self._rate_h_per_s = summary.rate_h_per_s if isinstance(summary, _Summary) else None
        if not isinstance(summary, _Summary):
            return ObservedState.UNKNOWN
        if summary.paused:
            return ObservedState.PAUSED
        return ObservedState.ACTIVE if summary.rate_h_per_s else ObservedState.RAMPING

    async def export_state(self) -> bytes:
        """Return the counters; a miner needs nothing to go on, its pool gives it the next job."""
        summary = await self._summary(STATE_MS_MAX)
        if not isinstance(summary, _Summary):
            return b"{}"
        return msgspec.json.encode(summary.results)

    async def verify(self, *, deadline_ms: int) -> Proof:
        """Read until there is a share more than at first, or a hash rate where there was none."""
        deadline = Deadline(deadline_ms)
        before = await self._summary(min(deadline.left_ms, CALL_MS_MAX))
        if not isinstance(before, _Summary):
            return Disproven(detail=f"hashes must be seen to advance, were not: {before.detail}")
        now, reads, silence = before, 1, ""
        while not silence:
            proof = self._proof(before, now)
            if proof is not None:
                return proof
            await asyncio.sleep(seconds(min(POLL_MS, max(0, deadline.left_ms))))
            if deadline.left_ms <= 0:
                break
            later = await self._summary(min(deadline.left_ms, CALL_MS_MAX))
            if isinstance(later, _Summary):
                now, reads = later, reads + 1
            else:
                silence = f"; then {later.detail}"
        shares = now.results.shares_total
        return Disproven(detail=f"shares must rise within {deadline_ms} ms, were {shares} in {reads} readings{silence}")

    def _proof(self, before: _Summary, now: _Summary) -> Proof | None:
        rate = now.rate_h_per_s
        if now.paused:
            return Disproven(detail="miner must not be paused, was")
        if rate is not None and not 0.0 <= rate <= self._config.hash_rate_h_per_s_max:
            highest = self._config.hash_rate_h_per_s_max
            return Disproven(detail=f"hash rate must be from 0 to {highest} H/s, was {rate}")
        hashes = now.results.hashes_total - before.results.hashes_total
        shares = now.results.shares_total - before.results.shares_total
        if shares > 0:
            return Proven(evidence=f"{shares} shares, {hashes} hashes of work more")
        if shares < 0 or hashes < 0:
            return Disproven(detail=f"shares must not fall, fell by {-shares}: the miner began anew")
        if before.rate_h_per_s is None and before.uptime >= RATE_KNOWN_SECONDS and rate:
            return Proven(evidence=f"hash rate was none, is {rate} H/s")
        return None

    async def _order(self, method: str, *, is_paused: bool, deadline: Deadline) -> Ack:
        self._rpc_id += 1
        body: dict[str, object] = {"jsonrpc": "2.0", "method": method, "id": self._rpc_id}
        answer = await self._api.order("/json_rpc", deadline_ms=deadline.left_ms, body=body)
        if not isinstance(answer, Answer):
            return answer
        said = decoded("/json_rpc", answer, _RpcAnswer)
        if isinstance(said, Refused):
            return said
        if said.error is not None:
            detail = f"{method} must be taken, was: {said.error.code} {said.error.message}"
            return Unsupported(detail=detail) if said.error.code == _METHOD_NOT_FOUND else Refused(detail=detail)
        summary = await self._summary(deadline.left_ms)
        if not isinstance(summary, _Summary):
            return NotConfirmed(detail=f"{method} must be read back, was not: {summary.detail}")
        if summary.paused is not is_paused:
            return NotConfirmed(detail=f"miner must say paused={is_paused} after {method}, said {summary.paused}")
        return Applied()

    async def _summary(self, deadline_ms: int) -> _Summary | Failure:
        return await self._api.read("/2/summary", _Summary, deadline_ms=deadline_ms)
