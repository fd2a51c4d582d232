"""Inference through the gateway: a running workload answers its owner, by its server, and nobody else."""

import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

import pytest

from gateway.inference import InferenceConfig
from gateway.principals import Role
from hcp.model.workloads import WorkloadEventType
from hcp.stack import StackAddresses
from simulators.gpu_workloads.launch import Running, running
from sinks.operational.service import Operational
from tests.examples import EVENT
from tests.gateway_lab import Client, Lab, body_of, client_of, free_port, gateway_lab, keyed, signed_in
from tests.integration.test_customer_sinks import told

pytestmark = pytest.mark.services

DEVICE: Final = "tx-north.gpu-1/00/003"
ASKED: Final = {"prompt": "Once upon a time", "max_tokens": 4}
LIFE: Final = (WorkloadEventType.PLACED, WorkloadEventType.STARTED)


@pytest.fixture(scope="module")
def lab(services: StackAddresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Give one gateway's databases to the module."""
    with gateway_lab(services, tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """Run one simulated inference server that asks for a key."""
    with running("server", "--weights-mb", "1", "--api-key", "secret") as made:
        yield made


def with_servers(lab: Lab, urls: dict[str, str], key: str | None = None, silence_seconds_max: float = 30.0) -> Lab:
    """Return the lab whose gateways know these servers."""
    inference = InferenceConfig(urls=urls, key=key, silence_seconds_max=silence_seconds_max)
    return replace(lab, config=replace(lab.config, inference=inference))


def begin(lab: Lab, workload_id: str, *, kinds: tuple[WorkloadEventType, ...] = LIFE, first_offset: int = 0) -> None:
    """Let the sink write what the Resource Manager would say of a workload."""
    sink = Operational(lab.operational.dsn)
    event = replace(EVENT, workload_id=workload_id, queue_position=None)
    held = {kind: DEVICE if kind in LIFE else "" for kind in kinds}
    sink.take(
        [
            told(replace(event, event_type=kind, device_ids=devices), first_offset + number)
            for number, (kind, devices) in enumerate(held.items())
        ]
    )
    sink.close()


async def submitted(client: Client, headers: dict[str, str], **changes: Any) -> str:
    """Submit a workload; return its id."""
    answer = await client.post("/api/v1/workloads", json={**body_of(), **changes}, headers=keyed(headers))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["workload_id"])


async def ask(client: Client, headers: dict[str, str], workload_id: str, **changes: Any) -> tuple[int, dict[str, Any]]:
    """Ask a workload for a completion; return status and answer."""
    path = f"/api/v1/workloads/{workload_id}/v1/completions"
    answer = await client.post(path, json={**ASKED, **changes}, headers=headers)
    return answer.status_code, answer.json()


async def test_a_running_workload_answers_its_owner(lab: Lab, server: Running) -> None:
    """The tokens are the server's own, and where it runs is seen; before and after, and of a batch, there are none."""
    async with client_of(with_servers(lab, {"*": server.url}, key="secret")) as (client, _):
        mine = await signed_in(client, lab.user())
        workload_id = await submitted(client, mine)
        before = await ask(client, mine, workload_id)
        begin(lab, workload_id)
        found, answer = await ask(client, mine, workload_id)
        seen = (await client.get(f"/api/v1/workloads/{workload_id}", headers=mine)).json()
        begin(lab, workload_id, kinds=(WorkloadEventType.PREEMPTED,), first_offset=9)
        after = await ask(client, mine, workload_id)
        batch = await submitted(client, mine, workload_type="batch")
        begin(lab, batch)
        never = await ask(client, mine, batch)
    assert (before[0], before[1]["type"]) == (409, "urn:hcp:problem:not_running")
    assert found == 200
    assert answer["usage"]["completion_tokens"] == ASKED["max_tokens"]
    assert (seen["status"], seen["device_ids"]) == ("running", [DEVICE])
    assert (after[0], after[1]["type"]) == (409, "urn:hcp:problem:not_running")
    assert (never[0], never[1]["type"]) == (409, "urn:hcp:problem:no_inference")


async def test_a_workload_answers_nobody_else(lab: Lab, server: Running) -> None:
    """Another customer's workload is not there, for an admin neither."""
    async with client_of(with_servers(lab, {"*": server.url}, key="secret")) as (client, _):
        workload_id = await submitted(client, await signed_in(client, lab.user()))
        begin(lab, workload_id)
        other = await signed_in(client, lab.user())
        admin = await signed_in(client, lab.user(role=Role.ADMIN))
        found = [(await ask(client, headers, workload_id))[0] for headers in (other, admin, {})]
    assert found == [404, 404, 401]


async def test_what_the_server_refuses_is_the_customers_to_mend(lab: Lab, server: Running) -> None:
    """In the server's words, as a problem; what is too large is not sent to it at all."""
    async with client_of(with_servers(lab, {"tx-north": server.url}, key="secret")) as (client, _):
        mine = await signed_in(client, lab.user())
        workload_id = await submitted(client, mine)
        begin(lab, workload_id)
        no_model = await ask(client, mine, workload_id, model="gpt-0")
        no_prompt = await ask(client, mine, workload_id, prompt=None)
        too_large = await ask(client, mine, workload_id, prompt="x" * 2_000_000)
    assert (no_model[0], no_model[1]["detail"]) == (400, "The model `gpt-0` does not exist.")
    assert no_prompt[0] == 400
    assert too_large[0] == 413


async def test_a_server_that_is_away_or_refuses_us_is_ours_to_mend(lab: Lab, server: Running) -> None:
    """Nobody listens, none is known, or it does not know our key: 502, and nothing of our inside is told."""
    places: list[dict[str, str]] = [
        {"tx-north.gpu-1": f"http://127.0.0.1:{free_port()}"},
        {"tx-south": server.url},
        {DEVICE: server.url},
    ]
    found = []
    for urls in places:
        async with client_of(with_servers(lab, urls)) as (client, _):
            mine = await signed_in(client, lab.user())
            workload_id = await submitted(client, mine)
            begin(lab, workload_id)
            status, answer = await ask(client, mine, workload_id)
            found.append((status, answer["type"]))
            assert not any(url in answer["detail"] for url in urls.values())
    assert found == [(502, "urn:hcp:problem:inference_unavailable")] * len(places)


class Scripted(BaseHTTPRequestHandler):
    """Streams when asked to, and is silent otherwise; in threads, since the client under test holds up this loop."""

    def do_POST(self) -> None:
        """Answer a completion."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not asked["stream"]:
            self.rfile.read(1)  # until its client gives up
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for piece in (asked["prompt"], "[DONE]"):
            self.wfile.write(f"data: {piece}\n\n".encode())
            self.wfile.flush()


@pytest.fixture
def scripted() -> Iterator[str]:
    """Run the scripted server; return its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_a_stream_comes_as_a_stream_and_silence_ends(lab: Lab, scripted: str) -> None:
    """Server-sent events pass as they are; a server that says nothing is given up."""
    async with client_of(with_servers(lab, {"*": scripted}, silence_seconds_max=1.0)) as (client, _):
        mine = await signed_in(client, lab.user())
        workload_id = await submitted(client, mine)
        begin(lab, workload_id)
        path = f"/api/v1/workloads/{workload_id}/v1/completions"
        streamed = await client.post(path, json={**ASKED, "stream": True}, headers=mine)
        silent = await ask(client, mine, workload_id, stream=False)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert streamed.text == f"data: {ASKED['prompt']}\n\ndata: [DONE]\n\n"
    assert (silent[0], silent[1]["type"]) == (504, "urn:hcp:problem:inference_timeout")
