"""`hcp device ...`: what devices are doing, and a person's orders to them: hold, stop, release, switch by hand."""

import getpass
import re
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from hcp.cli.processes import FleetFile
from hcp.clock import seconds, wall_ms
from hcp.codecs import decode
from hcp.errors import FleetError, HcpError
from hcp.fleet import load_fleet
from hcp.kafka.producer import RecordProducer
from hcp.kafka.tail import tail
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.facilities import Fleet, Shard
from hcp.model.ids import device_id, id_from_content
from hcp.model.ledger import AuditEvent
from hcp.model.orders import OperatorOrder, OrderAction, order_of
from hcp.model.resources import ResourceState, StateReporter
from hcp.settings import load_settings
from hcp.topics import AUDIT_EVENTS, RESOURCE_STATE

app = typer.Typer(no_args_is_help=True, help="Devices: what they do; hold, stop, release or switch them by hand.")

EVERYTHING: Final = 2**40
ANSWERS_LOOKED_AT: Final = 500
"""Newest audit events of a partition among which an order's is looked for."""
LOOK_AGAIN_MS: Final = 300
_TARGET: Final = re.compile(r"(?P<shard>[^/]+/\d+)(?:/(?P<first>\d+)(?:-(?P<last>\d+))?)?")

Targets = Annotated[
    list[str],
    typer.Argument(
        help="Devices: tx-north.gpu-1/00/3, a row of them tx-north.gpu-1/00/3-7, or a shard tx-north.gpu-1/00."
    ),
]
Why = Annotated[str, typer.Option("--why", help="Why, for whoever finds the devices so and for the audit.")]
By = Annotated[str | None, typer.Option("--by", help="Who orders it; default: the user of this shell.")]
Wait = Annotated[int, typer.Option(min=0, help="Seconds to wait until the order is taken; 0: do not wait.")]


@app.command()
def maintenance(targets: Targets, why: Why, by: By = None, wait: Wait = 15, fleet_file: FleetFile = None) -> None:
    """Leave devices as they run and keep HCP from switching them."""
    _order(OrderAction.MAINTENANCE, targets, why=why, by=by, wait_seconds=wait, fleet_file=fleet_file)


@app.command()
def pause(targets: Targets, why: Why, by: By = None, wait: Wait = 15, fleet_file: FleetFile = None) -> None:
    """Stop devices at once, past every limit, and keep HCP from switching them."""
    _order(OrderAction.PAUSE, targets, why=why, by=by, wait_seconds=wait, fleet_file=fleet_file)


@app.command(name="lock-out")
def lock_out(targets: Targets, why: Why, by: By = None, wait: Wait = 15, fleet_file: FleetFile = None) -> None:
    """Stop devices; only whoever locked them releases them: for hands inside the machine."""
    _order(OrderAction.LOCK_OUT, targets, why=why, by=by, wait_seconds=wait, fleet_file=fleet_file)


@app.command()
def release(targets: Targets, why: Why, by: By = None, wait: Wait = 15, fleet_file: FleetFile = None) -> None:
    """End maintenance, pause, lock-out and quarantine: policies decide on the devices again."""
    _order(OrderAction.RELEASE, targets, why=why, by=by, wait_seconds=wait, fleet_file=fleet_file)


@app.command()
def switch(
    targets: Targets,
    to: Annotated[DeviceMode, typer.Option("--to", help="Mode wanted.")],
    why: Why,
    by: By = None,
    wait: Wait = 15,
    fleet_file: FleetFile = None,
) -> None:
    """Switch active devices once, whatever they earn; the hardware's limits hold, and policies decide on from there."""
    _order(OrderAction.SWITCH, targets, why=why, by=by, wait_seconds=wait, fleet_file=fleet_file, to_mode=to)


@app.command(name="list")
def list_devices(
    target: Annotated[
        str | None, typer.Argument(help="A shard, to see each device of it; default: all, counted.")
    ] = None,
    state: Annotated[DeviceState | None, typer.Option(help="Each device in this state.")] = None,
) -> None:
    """Show what devices do and whether they may be switched, from resource.state."""
    books = list(_books(load_settings().kafka_bootstrap))
    if target is not None:
        books = [book for book in books if book.shard_id == target]
        if not books:
            raise HcpError(f"target must be a shard that has reported, was {target}; `hcp device list` shows all")
    console = Console(highlight=False, soft_wrap=True)
    if target is None and state is None:
        console.print(_counted(books))
    else:
        console.print(_each(books, state))


def _counted(books: Iterable[ResourceState]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("shard", "class", "devices", "modes", "states"):
        table.add_column(heading, justify="right" if heading == "devices" else "left")
    for book in books:
        words = (_words(Counter(map(str, column))) for column in (book.modes, book.states))
        table.add_row(book.shard_id, book.device_class, str(len(book.device_indexes)), *words)
    return table


def _words(counts: "Counter[str]") -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _each(books: Iterable[ResourceState], wanted: DeviceState | None) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("device", "class", "mode", "state", "epoch", "owner"):
        table.add_column(heading)
    for book in books:
        columns = zip(book.device_indexes, book.modes, book.states, book.epochs, book.owners, strict=True)
        for index, mode, state, epoch, owner in columns:
            if wanted is None or state is wanted:
                name = device_id(shard_id=book.shard_id, device_index=index)
                table.add_row(name, book.device_class, mode, state, str(epoch), owner)
    return table


def _books(bootstrap: str) -> Iterator[ResourceState]:
    """Yield the last report of each shard, the Resource Manager's where there is one, sorted by shard."""
    last: dict[str, ResourceState] = {}
    for record in tail(bootstrap, RESOURCE_STATE.name, last=EVERYTHING, follow=False):
        report = decode(record.value)
        if isinstance(report, ResourceState):
            known = last.get(report.shard_id)
            if (
                known is None
                or known.reported_by is not StateReporter.RESOURCES
                or report.reported_by is known.reported_by
            ):
                last[report.shard_id] = report
    yield from (last[shard_id] for shard_id in sorted(last))


def _order(
    action: OrderAction,
    targets: list[str],
    *,
    why: str,
    by: str | None,
    wait_seconds: int,
    fleet_file: FleetFile,
    to_mode: DeviceMode | None = None,
) -> None:
    settings = load_settings(fleet_file=fleet_file)
    fleet = load_fleet(settings.fleet_file)
    wanted: dict[str, tuple[Shard, set[int]]] = {}
    for target in targets:
        shard, indexes = parse_target(target, fleet)
        wanted.setdefault(shard.shard_id, (shard, set()))[1].update(indexes)
    operator = by or getpass.getuser()
    orders = [
        order_of(
            action,
            shard,
            indexes,
            operator=operator,
            origin=socket.gethostname(),
            why=why,
            to_mode=to_mode,
            observed_at_ms=wall_ms(),
        )
        for shard, indexes in wanted.values()
    ]
    producer = RecordProducer(bootstrap=settings.kafka_bootstrap, produced_by="cli.device")
    for order in orders:
        producer.send(order)
    producer.close()
    if wait_seconds:
        _show_answers(settings.kafka_bootstrap, orders, wait_seconds=wait_seconds)
    else:
        typer.echo(f"{len(orders)} orders sent")


def parse_target(target: str, fleet: Fleet) -> tuple[Shard, range]:
    """Return the shard and the device indexes that a target names.

    Raises:
        FleetError: It names none of the fleet.
    """
    match = _TARGET.fullmatch(target)
    shard = fleet.shard(match["shard"]) if match is not None else None
    if match is None or shard is None:
        known = ", ".join(each.shard_id for each in list(fleet.shards())[:3])
        raise FleetError(f"target must be a device, a row of them or a shard of the fleet ({known}, ...), was {target}")
    if match["first"] is None:
        return shard, range(shard.device_count)
    first = int(match["first"])
    last = int(match["last"]) if match["last"] is not None else first
    if not first <= last < shard.device_count:
        raise FleetError(f"devices of {shard.shard_id} must be from 0 to {shard.device_count - 1}, was {target}")
    return shard, range(first, last + 1)


def _show_answers(bootstrap: str, orders: list[OperatorOrder], *, wait_seconds: int) -> None:
    """Show what each order changed, from the audit events that say so."""
    waiting = {id_from_content(order.order_id, "audit"): order for order in orders}
    until_s = time.monotonic() + wait_seconds
    while waiting and time.monotonic() < until_s:
        for record in tail(bootstrap, AUDIT_EVENTS.name, last=ANSWERS_LOOKED_AT, follow=False):
            event = decode(record.value)
            if isinstance(event, AuditEvent) and waiting.pop(event.audit_id, None) is not None:
                typer.echo(f"{event.subject}  was {event.before}  is {event.after}")
        if waiting:
            time.sleep(seconds(LOOK_AGAIN_MS))
    if waiting:
        raise HcpError(
            f"orders must be taken within {wait_seconds} s, was not so for "
            f"{', '.join(order.shard_id for order in waiting.values())}: is `hcp agent resources` up?"
        )
