"""From POST to workload.started and to the customer's WebSocket, through every process of the way, phase by phase.

Run: `python -m bench.bench_submit [--warm 300] [--cold 100]` (starts a stack of its own; about two minutes). Warm: an
H100 that serves inference already is free; each workload is cancelled once it runs. Cold: the A100s mine at first, and
each workload takes one more of them through the switch protocol. One submission follows the other; `--pace-ms` spreads
them. Times within are the broker's, which are this machine's clock. The limit is what DESIGN.md promises.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any, Final
from uuid import uuid4

import aiohttp
from rich.table import Table

from bench.bench_agents import read_all
from bench.report import against, machine, show, table
from bench.submit_platform import Platform, fleet_with_cold, platform
from bench.switching import bench_stack
from hcp.model.commands import ControllerCommand, ControllerResult
from hcp.model.workloads import AllocationAction, AllocationRequest, WorkloadEvent
from hcp.topics import ALLOCATION_REQUEST, CONTROLLER_COMMAND, CONTROLLER_RESULT, WORKLOAD_EVENTS

WARM, COLD, PACE_MS, WARM_UP = 300, 100, 20, 20
GOAL_MS, LIMIT_MS = 300.0, 500.0
ANSWER_SECONDS: Final = 20.0
FLEET: Final = Path(__file__).parents[1] / "fleet.demo.toml"
TOPICS: Final = (WORKLOAD_EVENTS.name, ALLOCATION_REQUEST.name, CONTROLLER_COMMAND.name, CONTROLLER_RESULT.name)
CREATED, STARTED, CANCELLED, FAILED = (f"workload.{word}" for word in ("created", "started", "cancelled", "failed"))

Marks = dict[str, float]
"""Milliseconds since 1970 by what happened then."""


@dataclass(slots=True)
class Customer:
    """Submits, and hears what becomes of it.

    Attributes:
        platform: Where.
        marks: By workload: when it was posted, answered, and each event heard.
    """

    platform: Platform
    marks: dict[str, Marks] = field(default_factory=dict)
    _heard: dict[str, asyncio.Event] = field(default_factory=dict)

    async def listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Mark every event as it comes, for ever."""
        async for message in socket:
            frame: dict[str, Any] = json.loads(message.data)
            if frame["type"] == "event" and frame["topic"] == WORKLOAD_EVENTS.name:
                self._note(frame["data"]["workload_id"], frame["data"]["event_type"])

    def _note(self, workload_id: str, what: str) -> None:
        self.marks.setdefault(workload_id, {}).setdefault(what, _now_ms())
        self._event(workload_id, what).set()

    def _event(self, workload_id: str, what: str) -> asyncio.Event:
        return self._heard.setdefault(f"{workload_id} {what}", asyncio.Event())

    async def run_one(self, session: aiohttp.ClientSession, *, device_class: str, is_kept: bool) -> str:
        """Submit a workload and wait until it is heard to run, and to have ended unless it is kept; return its id."""
        wants = {"device_class": device_class, "price_usd_micros_per_device_hour_max": 9_000_000}
        body = {"workload_type": "inference_real_time", "requirements": wants}
        url = f"{self.platform.url}/api/v1/workloads"
        posted_ms = _now_ms()
        async with session.post(url, json=body, headers={"Idempotency-Key": uuid4().hex}) as answer:
            workload_id = str((await answer.json())["workload_id"])
        marks = self.marks.setdefault(workload_id, {})
        marks |= {"posted": posted_ms, "answered": _now_ms()}
        await asyncio.wait_for(self._event(workload_id, STARTED).wait(), ANSWER_SECONDS)
        if not is_kept:
            async with session.delete(f"{url}/{workload_id}") as answer:
                answer.raise_for_status()
            await asyncio.wait_for(self._event(workload_id, CANCELLED).wait(), ANSWER_SECONDS)
        return workload_id


def _now_ms() -> float:
    return time.time() * 1_000


async def _submit(customer: Customer, args: argparse.Namespace) -> tuple[list[str], list[str]]:
    url = customer.platform.url
    async with (
        aiohttp.ClientSession(headers=customer.platform.headers) as session,
        session.ws_connect(f"{url}/api/v1/live") as socket,
    ):
        await socket.send_json({"action": "subscribe", "topics": ["workloads"]})
        listening = asyncio.create_task(customer.listen(socket))
        await _until_placed(customer, session)
        found: dict[str, list[str]] = {"h100": [], "a100": []}
        for name, count in (("h100", WARM_UP + args.warm), ("a100", args.cold)):
            for _ in range(count):
                found[name].append(await customer.run_one(session, device_class=name, is_kept=name == "a100"))
                await asyncio.sleep(args.pace_ms / 1_000)
        listening.cancel()
    return found["h100"][WARM_UP:], found["a100"]


async def _until_placed(customer: Customer, session: aiohttp.ClientSession) -> None:
    """Submit until one runs: at first the devices have not been reported yet."""
    until = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < until:
        try:
            await asyncio.wait_for(customer.run_one(session, device_class="h100", is_kept=False), 2.0)
        except TimeoutError:
            continue
        return
    raise TimeoutError(f"a workload must run within {ANSWER_SECONDS:.0f} s of the start, none did")


def add_records(marks: dict[str, Marks], bootstrap: str) -> None:
    """Add what the broker stamped: events, requests, commands and results by the workload they are for."""
    commands: dict[str, str] = {}
    found = sorted(read_all(bootstrap, *TOPICS), key=lambda pair: pair[0].timestamp_ms)
    placements = {
        value.workload_id: value for _, value in found if isinstance(value, WorkloadEvent) and value.device_ids
    }
    devices = {each.device_ids: name for name, each in placements.items()}
    for record, value in found:
        name, what = "", ""
        match value:
            case WorkloadEvent():
                name, what = value.workload_id, f"sent {value.event_type}"
            case AllocationRequest() if value.action is AllocationAction.RESERVE:
                name, what = value.workload_id, "routed"
            case ControllerCommand():
                device = f"{value.shard_id}/{value.device_indexes[0]:03d}"
                name, what = devices.get(device, ""), "commanded"
                commands[value.command_id] = name
            case ControllerResult():
                name, what = commands.get(value.command_id, ""), "switched"
        if name in marks:
            marks[name].setdefault(what, float(record.timestamp_ms))


PHASES: Final = (
    ("POST answered", "posted", "answered"),
    ("outbox relayed", "posted", f"sent {CREATED}"),
    ("routed", f"sent {CREATED}", "routed"),
    ("allocated, started", "routed", f"sent {STARTED}"),
    ("  allocated: command sent", "routed", "commanded"),
    ("  command done by the controller", "commanded", "switched"),
    ("  result taken: started", "switched", f"sent {STARTED}"),
    ("heard on the WebSocket", f"sent {STARTED}", STARTED),
    ("POST to started", "posted", f"sent {STARTED}"),
    ("POST to heard", "posted", STARTED),
)


def phases(title: str, lives: Sequence[Marks]) -> Table:
    """Return p50, p95, p99 and the longest of each phase, of those lives that have it."""
    made = table(f"{title}, {len(lives)} submissions, ms", "phase", "p50", "p95", "p99", "max", "limit", "p99 / limit")
    for name, start, end in PHASES:
        taken = [life[end] - life[start] for life in lives if start in life and end in life]
        if len(taken) < 2:  # quantiles need two
            continue
        cuts = quantiles(taken, n=100, method="inclusive")
        whole = against(cuts[98], LIMIT_MS) if name.startswith("POST to") else ("", "")
        made.add_row(name, *(f"{each:.1f}" for each in (cuts[49], cuts[94], cuts[98], max(taken))), *whole)
    return made


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--warm", type=int, default=WARM, help=f"submissions that find a warm device; default {WARM}")
    made.add_argument("--cold", type=int, default=COLD, help=f"submissions that switch one; default {COLD}")
    made.add_argument("--pace-ms", type=int, default=PACE_MS, help=f"pause between two; default {PACE_MS}")
    return made


def main() -> None:
    """Submit, and print a table each of warm and cold starts."""
    args = parser().parse_args()
    with tempfile.TemporaryDirectory() as place, bench_stack("bench-submit") as addresses:
        folder = Path(place)
        fleet_file = fleet_with_cold(FLEET, folder / "fleet.toml", cold_count=max(args.cold, 1))
        with platform(addresses, folder, fleet_file=fleet_file) as running:
            customer = Customer(running)
            warm, cold = asyncio.run(_submit(customer, args))
            add_records(customer.marks, running.bootstrap)
    show(machine(), phases("warm devices", [customer.marks[each] for each in warm]))
    show(phases("devices that mine", [customer.marks[each] for each in cold]))
    show(f"goal of p99, POST to started on warm devices: {GOAL_MS:.0f} ms; must: {LIMIT_MS:.0f} ms")


if __name__ == "__main__":
    main()
