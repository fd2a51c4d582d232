"""The fixture that gives tests real Kafka, TimescaleDB and Redis, one stack for the whole run."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hcp.errors import StackError
from hcp.settings import load_settings
from hcp.stack import StackAddresses, default_cache_dir, running_stack

STATE_DIR = Path(__file__).resolve().parents[1] / ".hcp"


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
