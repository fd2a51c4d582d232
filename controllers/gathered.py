"""Many small requests of one moment become one call: while a call is under way, the next ones gather."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

ITEMS_MAX: Final = 512

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Gathered(Generic[Item, Answer]):
    """Batch concurrent `submit`s into calls of up to 512 items; answers come in the order of the items."""

    def __init__(self, call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]]) -> None:
        """Send batches by `call`; what it raises, every submitter of that batch gets."""
        self._call = call
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Answer:
        """Return the answer to one item."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())
        return await future

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:ITEMS_MAX], self._waiting[ITEMS_MAX:]
            try:
                answers = await self._call([item for item, _ in batch])
            except Exception as error:  # noqa: BLE001  # handed to every submitter, who knows what it means
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
