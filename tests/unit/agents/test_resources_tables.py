"""Which workloads the Resource Manager goes through at an event: all that live, a few of those to be forgotten."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

from agents.resources import ENDED_LOOKED_AT_MAX, Tables
from streams.tickets import Ticket, TicketStatus, ticket_of
from tests.unit.streams.placing import a_request
from tests.unit.streams.world import START_MS


class _Table(dict[bytes, bytes]):
    """A table that is a plain dictionary, filled by whoever holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: list[Callable[[], Awaitable[None]]] = []

    def on_recover(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Remember whom to call."""
        self.callbacks.append(callback)

    def recover(self, found: dict[bytes, bytes]) -> None:
        """Be filled anew, as after a rebalance."""
        self.clear()
        self.update(found)
        for callback in self.callbacks:
            asyncio.run(cast("Any", callback()))


class _App:
    """Offers such tables."""

    def __init__(self) -> None:
        self.tables: dict[str, _Table] = {}

    def Table(self, name: str, **_: object) -> _Table:  # noqa: N802  # as faust
        """Make a table."""
        return self.tables.setdefault(name, _Table())


def a_ticket(name: str, *, is_over: bool = False) -> Ticket:
    """Open a workload's books, or close them."""
    ticket = ticket_of(a_request(name), now_ms=START_MS)
    return replace(ticket, status=TicketStatus.OVER, over_at_ms=START_MS) if is_over else ticket


def made() -> tuple[Tables, _App]:
    """Make both tables."""
    app = _App()
    return Tables(cast("Any", app)), app


def test_what_is_over_is_passed_by_but_for_the_first_to_be_forgotten() -> None:
    """However many ended within the hour, an event looks at a bounded number of them, oldest first."""
    tables, _ = made()
    assert tables.tickets_to_attend() == []
    for number in range(ENDED_LOOKED_AT_MAX + 10):
        tables.set(f"over-{number}", a_ticket(f"over-{number}"))
        tables.set(f"over-{number}", a_ticket(f"over-{number}", is_over=True))
    tables.set("lives", a_ticket("lives"))
    oldest = [f"over-{number}" for number in range(ENDED_LOOKED_AT_MAX)]
    assert tables.tickets_to_attend() == ["lives", *oldest]
    tables.set("over-0", None)
    assert tables.tickets_to_attend() == ["lives", *oldest[1:], f"over-{ENDED_LOOKED_AT_MAX}"]


def test_what_is_over_and_still_holds_devices_is_attended_to() -> None:
    """Its devices are to be given back."""
    tables, _ = made()
    assert tables.tickets_to_attend() == []
    tables.set("holds", replace(a_ticket("holds", is_over=True), devices=(("tx-north.gpu-1/00", 0),)))
    tables.set("over", a_ticket("over", is_over=True))
    assert tables.tickets_to_attend() == ["holds", "over"]


def test_a_rebalance_shows_other_workloads() -> None:
    """What the table holds after it counts, not what was known before."""
    tables, app = made()
    tables.set("mine", a_ticket("mine"))
    assert tables.tickets_to_attend() == ["mine"]
    raw = dict(app.tables["tickets"])[b"mine"]
    app.tables["tickets"].recover({b"yours": raw})
    assert tables.tickets_to_attend() == ["yours"]
