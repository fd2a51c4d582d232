"""A gateway ends when it is told to, whatever its tasks are doing at that moment."""

import asyncio
from collections.abc import Iterator
from typing import Final

import pytest

from gateway.app import make_app, make_gateway
from hcp.stack import StackAddresses
from tests.gateway_lab import FLEET, Lab, gateway_lab

pytestmark = pytest.mark.services

STARTS: Final = 25
END_SECONDS_MAX: Final = 90.0


@pytest.fixture(scope="module")
def lab(services: StackAddresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Give one gateway's databases to the module."""
    with gateway_lab(services, tmp_path_factory.mktemp("gateway")) as made:
        yield made


async def test_it_ends_at_any_moment(lab: Lab) -> None:
    """Told to end at ever other moments of its life it does, though redis-py now and then swallows a cancellation."""

    async def live(milliseconds: int) -> None:
        app = make_app(make_gateway(lab.config, FLEET))
        async with app.lifespan():
            await asyncio.sleep(milliseconds / 1_000)

    for number in range(STARTS):
        await asyncio.wait_for(live(number * 3), END_SECONDS_MAX)
