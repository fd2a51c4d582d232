"""What may happen to a running or starting stack: its processes killed, its ports taken, its data damaged, Ctrl-C."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from confluent_kafka import Producer

from hcp.errors import StackError
from hcp.settings import load_settings
from hcp.stack import Stack, WantedPorts, default_cache_dir
from hcp.stack.processes import send, wait_gone
from hcp.stack.supervisor import Identity, myself, read_state
from tests.fix_services import STATE_DIR

pytestmark = pytest.mark.services
SECONDS_MAX = 180.0
OWNER = """
import sys, threading
from pathlib import Path
from hcp.stack import running_stack
with running_stack(Path(sys.argv[1]), Path(sys.argv[2])):
    print("up", flush=True)
    threading.Event().wait(120)
"""
STARTER = """
import sys
from pathlib import Path
from hcp.stack import Stack
Stack(Path(sys.argv[1]), Path(sys.argv[2])).up(attached=False)
"""


def _eventually(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < until, "it must come true in time"
        threading.Event().wait(0.1)


def _cache() -> Path:
    return default_cache_dir(load_settings().cache_dir)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Give a stack's folder beside the run's own stack, and remove whatever it became."""
    folder = STATE_DIR / "stacks" / f"fault-{os.getpid()}"
    yield folder
    Stack(folder, _cache()).wipe()


def _python(program: str, directory: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", program, str(directory), str(_cache())]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _identities(directory: Path) -> list[Identity]:
    state = read_state(directory / "supervisor.json")
    assert state is not None
    return [state.supervisor, *state.services.values()]


def test_killed_services_come_back_with_their_data(directory: Path) -> None:
    """Kill -9 of all three: each is restarted on its port, and what was acknowledged is still there."""
    stack = Stack(directory, _cache())
    addresses = stack.up(attached=True)
    store = redis.Redis.from_url(addresses.redis_url)
    store.set("kept", "yes")
    with psycopg.connect(addresses.timescale_dsn) as connection:
        connection.execute("create table kept as select 42 as answer")
    _eventually(lambda: store.info("persistence")["aof_pending_bio_fsync"] == 0)
    before = _identities(directory)[1:]
    for identity in before:
        send(identity, signal.SIGKILL)
    assert wait_gone(before, seconds_max=SECONDS_MAX)
    _eventually(lambda: stack.status().is_healthy)
    assert all(service.restarts >= 1 for service in stack.status().services)
    assert store.get("kept") == b"yes"
    with psycopg.connect(addresses.timescale_dsn) as connection:
        assert connection.execute("select answer from kept").fetchone() == (42,)


def test_a_killed_supervisor_takes_its_services_along_and_hinders_nobody(directory: Path) -> None:
    """Kill -9 of the supervisor ends the services; the stale state is seen through and the next `up` works."""
    stack = Stack(directory, _cache())
    addresses = stack.up(attached=False)
    identities = _identities(directory)
    send(identities[0], signal.SIGKILL)
    assert wait_gone(identities, seconds_max=SECONDS_MAX)
    assert not stack.status().is_running
    assert stack.up(attached=True) == addresses
    assert stack.status().is_healthy


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_owner_that_is_told_to_end_leaves_nothing(directory: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM at the owner end the stack."""
    owner = _python(OWNER, directory)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "up\n"
    identities = _identities(directory)
    owner.send_signal(number)
    owner.communicate(timeout=SECONDS_MAX)
    assert wait_gone(identities, seconds_max=SECONDS_MAX)


def test_a_start_that_is_killed_leaves_nothing(directory: Path) -> None:
    """Kill -9 of `hcp stack up` in the middle: what it had started ends, though it was to stay."""
    starter = _python(STARTER, directory)
    _eventually(lambda: (state := read_state(directory / "supervisor.json")) is not None and len(state.services) == 3)
    identities = _identities(directory)
    starter.kill()
    starter.communicate(timeout=SECONDS_MAX)
    assert wait_gone(identities, seconds_max=SECONDS_MAX)


def test_a_port_taken_meanwhile_is_replaced_and_data_stays(directory: Path) -> None:
    """Every kept port in use by somebody else: new ones, same data; asked for explicitly: a line, and nothing runs."""
    stack = Stack(directory, _cache())
    first = stack.up(attached=True)
    with psycopg.connect(first.timescale_dsn) as connection:
        connection.execute("create table kept as select 42 as answer")
    stack.down()
    ports = json.loads((directory / "stack.json").read_text(encoding="utf-8"))["ports"]
    taken = [socket.create_server(("127.0.0.1", port)) for port in ports.values()]
    try:
        with pytest.raises(StackError, match=f"port {ports['redis']} for redis must be free") as caught:
            stack.up(attached=True, wanted=WantedPorts(redis=ports["redis"]))
        assert "\n" not in str(caught.value)
        second = stack.up(attached=True)
        assert {second.kafka_bootstrap, second.redis_url}.isdisjoint({first.kafka_bootstrap, first.redis_url})
        lost: list[object] = []
        producer = Producer({"bootstrap.servers": second.kafka_bootstrap, "message.timeout.ms": 1_000})
        producer.produce("no_such_topic", b"x", on_delivery=lambda error, _message: lost.append(error))
        producer.flush(10)
        assert lost, "the broker answers on its new port"
        with psycopg.connect(second.timescale_dsn) as connection:
            assert connection.execute("select answer from kept").fetchone() == (42,)
    finally:
        for each in taken:
            each.close()


def test_a_service_that_cannot_start_is_named_with_its_log(directory: Path) -> None:
    """Damaged data: one line with the service, the end of its log and the log's path; nothing stays running."""
    stack = Stack(directory, _cache())
    stack.up(attached=True)
    stack.down()
    (directory / "redis" / "data" / "appendonlydir").rename(directory / "redis" / "data" / "lost")
    (directory / "redis" / "data" / "appendonlydir").write_text("damaged", encoding="utf-8")
    with pytest.raises(StackError, match=r"redis ended with exit code 1.*log: .*redis\.log") as caught:
        stack.up(attached=True)
    assert "\n" not in str(caught.value)
    assert not stack.is_running()
    assert stack.status().failure is None or "redis" in str(stack.status().failure)


def test_a_stale_state_file_gets_nobody_killed(directory: Path) -> None:
    """A state file that names our own pid with another start time: nobody is signalled, the stack starts."""
    stack = Stack(directory, _cache())
    stack.up(attached=True)
    state_file = directory / "supervisor.json"
    text = state_file.read_text(encoding="utf-8")
    stack.down()
    stale = json.loads(text)
    me = myself()
    impostor = {"pid": me.pid, "start_ticks": me.start_ticks - 1, "boot_id": me.boot_id}
    stale["supervisor"] = impostor
    stale["services"] = dict.fromkeys(stale["services"], impostor)
    state_file.write_text(json.dumps(stale), encoding="utf-8")
    assert not stack.is_running()
    stack.down()
    stack.up(attached=True)
    assert stack.status().is_healthy
