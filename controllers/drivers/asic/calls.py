"""How a library is called: under a deadline, a few at a time for one miner, whatever it raises turned into one error.

Both libraries are asyncio's to call (pyasic_rs runs on threads of its own and hands back awaitables; the parts of
pyasic used here are coroutines over asyncio's streams), so a deadline cancels the call and its sockets close. What they
do not bound is how many calls may wait on a hung miner; that is done here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from controllers.drivers.asic.client import AsicUnreachableError
from hcp.clock import seconds

CALLS_AT_ONCE_MAX: Final = 4
"""To one miner: an order and its reading back beside a poll; one more fails at once instead of waiting."""
DETAIL_CHARACTERS_MAX: Final = 160

Value = TypeVar("Value")


class LibraryError(Exception):
    """A library raised; stays within the drivers. Its text is the library's, shortened."""


class Calls:
    """The calls of one miner."""

    def __init__(self, host: str) -> None:
        """Begin with none under way."""
        self.host = host
        self._under_way = 0

    async def run(self, call: Callable[[], Awaitable[Value]], *, what: str, deadline_ms: int) -> Value:
        """Make a call and return what it returns.

        Args:
            call: Makes the awaitable; pyasic_rs begins to work with that already, so it is made here and not before.
            what: Names it in errors.
            deadline_ms: From now.

        Raises:
            AsicUnreachableError: Not done by then, or too many calls are under way.
            LibraryError: The library raised.
        """
        if self._under_way >= CALLS_AT_ONCE_MAX:
            raise AsicUnreachableError(f"{self.host} must have at most {CALLS_AT_ONCE_MAX} calls open, had as many")
        self._under_way += 1
        bound = asyncio.timeout(seconds(max(deadline_ms, 0)))
        try:
            async with bound:
                return await call()
        except TimeoutError as error:
            if not bound.expired():
                raise LibraryError(shortened(error)) from error
            raise AsicUnreachableError(f"{self.host} must answer {what} within {deadline_ms} ms, did not") from error
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise LibraryError(shortened(error)) from error
        finally:
            self._under_way -= 1


def shortened(error: BaseException) -> str:
    """Return an error's text, never longer than a line."""
    return f"{type(error).__name__}: {error}"[:DETAIL_CHARACTERS_MAX]
