"""Router, live sink and gateway together: what agents say of a workload reaches its customer's WebSocket alone.

The live sink dies in between by kill -9: nothing that was said meanwhile is missing in the end.
"""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from hcp.clock import wall_ms
from hcp.kafka.producer import RecordProducer
from hcp.model.markets import PriceSeries
from tests.fix_services import OwnStack
from tests.gateway_lab import (
    GatewayProcess,
    Lab,
    body_of,
    gateway_lab,
    gateway_process,
    keyed,
    relay_process,
    running,
)
from tests.sink_process import wait_until
from tests.unit.streams.world import a_price

pytestmark = pytest.mark.services

ANSWER_SECONDS: Final = 120.0
WANTS: Final = body_of(facility_id="tx-north")


@pytest.fixture(scope="module")
def lab(own_stack: OwnStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Give a gateway's databases, and a price to the one site that is asked for."""
    producer = RecordProducer(bootstrap=own_stack.addresses.kafka_bootstrap, produced_by="test")
    producer.send(a_price(PriceSeries.GPU_RENTAL, "h100", 2.5, at_ms=wall_ms(), facility_id="tx-north"))
    producer.close()
    with gateway_lab(own_stack.addresses, tmp_path_factory.mktemp("gateway")) as made:
        yield made


@contextmanager
def working(lab: Lab, folder: Path, *arguments: str, says: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run an `hcp` process and wait until it says that it works."""
    with running(lab, folder, *arguments, HCP_STATE_DIR=str(folder)) as (process, log):

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            return says in log.read_text(encoding="utf-8")

        wait_until(is_ready, f"{arguments} works")
        yield process


class Ear:
    """Hears one customer's workloads."""

    def __init__(self, socket: ClientConnection) -> None:
        """Listen on an open socket."""
        self._socket = socket
        self.heard: list[tuple[str, str]] = []

    async def subscribed(self) -> None:
        """Wait until what comes from now on is heard; what came before may be heard first."""
        while await self._frame() != "subscribed":
            continue

    async def until(self, workload_id: str, kind: str) -> None:
        """Wait for an event of a workload."""
        while (workload_id, kind) not in self.heard:
            await self._frame()

    async def _frame(self) -> str:
        frame: dict[str, Any] = json.loads(await asyncio.wait_for(self._socket.recv(), ANSWER_SECONDS))
        if frame["type"] == "event":
            self.heard.append((frame["data"]["workload_id"], frame["data"]["event_type"]))
        return str(frame["type"])


@asynccontextmanager
async def ear(served: GatewayProcess, headers: dict[str, str], after: str | None = None) -> AsyncIterator[Ear]:
    """Subscribe to a customer's workloads, from `after` on."""
    url = served.url.replace("http", "ws") + "/api/v1/live"
    async with connect(url, additional_headers=headers) as socket:
        wanted = {"action": "subscribe", "topics": ["workloads"]} | ({"after": {"workloads": after}} if after else {})
        await socket.send(json.dumps(wanted))
        made = Ear(socket)
        await made.subscribed()
        yield made


def submit(served: GatewayProcess, headers: dict[str, str]) -> str:
    """Submit a workload; return its id."""
    answer = httpx.post(f"{served.url}/api/v1/workloads", json=WANTS, headers=keyed(headers), timeout=60.0)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["workload_id"])


def cancel(served: GatewayProcess, headers: dict[str, str], workload_id: str) -> None:
    """Ask for a workload's end."""
    answer = httpx.delete(f"{served.url}/api/v1/workloads/{workload_id}", headers=headers, timeout=60.0)
    assert answer.status_code == 202, answer.text


async def test_what_agents_say_is_heard_by_whom_it_concerns_also_after_the_sinks_death(
    lab: Lab, tmp_path: Path
) -> None:
    """Two customers submit; each hears created, queued and cancelled of its own, in that order."""
    with (
        gateway_process(lab, tmp_path) as served,
        relay_process(lab, tmp_path),
        working(lab, tmp_path, "agent", "router", says="agent_ready"),
    ):
        ann, bob = served.sign_in(lab.user()), served.sign_in(lab.user())
        async with ear(served, ann) as hers, ear(served, bob) as his:
            with working(lab, tmp_path, "sink", "live", says="sink_ready") as sink:
                first, other = submit(served, ann), submit(served, bob)
                await hers.until(first, "workload.queued")
                await his.until(other, "workload.queued")
                sink.kill()
                sink.wait()
            cancel(served, ann, first)
            cancel(served, bob, other)
            with working(lab, tmp_path, "sink", "live", says="sink_ready"):
                await hers.until(first, "workload.cancelled")
                await his.until(other, "workload.cancelled")
                second = submit(served, ann)
                await hers.until(second, "workload.queued")
        async with ear(served, ann, after="0-0") as again:
            await again.until(second, "workload.queued")
    kinds = ["workload.created", "workload.queued", "workload.cancelled"]
    wanted = [(first, kind) for kind in kinds] + [(second, kind) for kind in kinds[:2]]
    assert list(dict.fromkeys(hers.heard)) == wanted  # what was said again for the sink's death counts once
    assert again.heard == hers.heard
    assert list(dict.fromkeys(his.heard)) == [(other, kind) for kind in kinds]
