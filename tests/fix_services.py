"""The fixtures that give tests real Kafka, TimescaleDB and Redis: one stack for the run, one for a module to break."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from hcp.errors import StackError
from hcp.kafka.admin import ensure_topics
from hcp.settings import load_settings
from hcp.stack import Stack, StackAddresses, default_cache_dir, running_stack
from hcp.stack.processes import send, wait_gone
from hcp.stack.supervisor import read_state
from hcp.stack.values import Service

STATE_DIR = Path(__file__).resolve().parents[1] / ".hcp"
GONE_SECONDS_MAX = 90.0


@pytest.fixture(scope="session")
def services() -> Iterator[StackAddresses]:
    """Run a stack of this run's own and remove it afterwards; a stack that cannot start fails the run."""
    directory = STATE_DIR / "stacks" / f"test-{os.getpid()}"
    cache_dir = default_cache_dir(load_settings().cache_dir)
    with ExitStack() as stack:
        try:
            addresses = stack.enter_context(running_stack(directory, cache_dir, keep=False))
        except StackError as error:
            pytest.fail(f"the embedded services did not start: {error}", pytrace=False)
        yield addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnStack:
    """A stack that only one test module uses, so that it may be broken, and its topics hold nobody else's records."""

    stack: Stack
    directory: Path
    addresses: StackAddresses

    def kill(self, service: Service) -> None:
        """End a service by kill -9; the supervisor starts it again on its port."""
        state = read_state(self.directory / "supervisor.json")
        assert state is not None, "the stack must run"
        identity = state.services[service.value]
        send(identity, signal.SIGKILL)
        assert wait_gone([identity], seconds_max=GONE_SECONDS_MAX), f"{service} must be gone"


@pytest.fixture(scope="module")
def own_stack(request: pytest.FixtureRequest) -> Iterator[OwnStack]:
    """Run a stack for one module, every topic made, and remove it afterwards."""
    directory = STATE_DIR / "stacks" / f"{request.module.__name__.rpartition('.')[2]}-{os.getpid()}"
    stack = Stack(directory, default_cache_dir(load_settings().cache_dir))
    try:
        addresses = stack.up(attached=True)
        ensure_topics(addresses.kafka_bootstrap)
        yield OwnStack(stack=stack, directory=directory, addresses=addresses)
    finally:
        stack.down()
        stack.wipe()
