"""`hcp trace`: the chain of records that led to an id and followed from it, out of TimescaleDB or the topics."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from hcp.browse.chain import Chain, Link, Source, chain_of, parent_of
from hcp.browse.scanned import ScannedChains
from hcp.browse.times import time_words
from hcp.cli.bounds import time_ms
from hcp.cli.progress import progress_bar
from hcp.cli.rows import WIDTH, print_rows
from hcp.errors import HcpError, StoreError
from hcp.model.units import MS_PER_SECOND
from hcp.settings import Settings, load_settings
from sinks.timescale.chains import StoredChains

EXIT_NOTHING: Final = 1
_said = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def trace(
    name: Annotated[
        str,
        typer.Argument(
            help="Id of a record or workload, a device (tx-north.gpu-1/00/003), or an address (market.price[3]@42)."
        ),
    ],
    *,
    timeline: Annotated[bool, typer.Option("--timeline", help="A line a record by time, instead of a tree.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines, by time.")] = False,
    scan: Annotated[bool, typer.Option("--scan", help="Read the topics, not the database.")] = False,
    from_time: Annotated[str | None, typer.Option("--from", help="Scan from when, by broker timestamp.")] = None,
    to_time: Annotated[str | None, typer.Option("--to", help="Scan up to when, not included.")] = None,
) -> None:
    """Show what led to a record and what followed from it, with addresses, times and the gaps between.

    From the database where it answers and knows the name, else from the topics: --from and --to bound what is read.
    """
    settings = load_settings()
    bounds = (time_ms(from_time, "--from"), time_ms(to_time, "--to"))
    chain = None if scan else _stored(settings, name)
    if chain is None or not chain.links:
        with _scanned(settings, bounds) as source:
            chain = chain_of(source, name)
    if not chain.links:
        raise HcpError(f"an id, a workload, a device or an address must be known, was not: {name}")
    if as_json or timeline:
        print_rows(_rows(chain), as_json=as_json)
    else:
        for tree in _trees(chain):
            Console(highlight=False, width=WIDTH).print(tree)
    if chain.is_cut:
        _said.print("there is more: the chain was cut")


def _stored(settings: Settings, name: str) -> Chain | None:
    try:
        source = StoredChains(settings.timescale_dsn.get_secret_value())
        try:
            return chain_of(source, name)
        finally:
            source.close()
    except StoreError as error:
        _said.print(f"the database cannot say ({error}): the topics are read")
        return None


@contextmanager
def _scanned(settings: Settings, bounds: tuple[int | None, int | None]) -> Iterator[Source]:
    with progress_bar() as bar:
        task = bar.add_task("reading topics", total=None)
        yield ScannedChains(
            settings.kafka_bootstrap,
            from_ms=bounds[0],
            to_ms=bounds[1],
            on_read=lambda count: bar.advance(task, count),
        )


def _rows(chain: Chain) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    asked = {link.address for link in chain.start}
    for link in chain.links:
        parent = parent_of(link, chain.links)
        rows.append(
            {
                "recorded": time_words(link.recorded_at_ms),
                "event time": time_words(link.observed_at_ms),
                "after": None if parent is None else _gap(parent, link),
                "record": link.address,
                "because of": None if parent is None else parent.address,
                "asked for": "yes" if link.address in asked else "",
                "what": link.words,
            }
        )
    return rows


def _gap(parent: Link, link: Link) -> str:
    return f"+{(link.recorded_at_ms - parent.recorded_at_ms) / MS_PER_SECOND:,.3f} s"


def _trees(chain: Chain) -> list[Tree]:
    """Hang every record under what led to it."""
    asked = {link.address for link in chain.start}
    nodes: dict[str, Tree] = {}
    roots = []
    for link in chain.links:  # by time: what led to a record comes before it, or stands as a root of its own
        parent = parent_of(link, chain.links)
        words = Text(f"{link.words}  ", style="bold" if link.address in asked else "")
        words.append(f"{link.address} {time_words(link.recorded_at_ms)}", style="dim")
        if parent is not None and parent.address in nodes:
            words.append(f" {_gap(parent, link)}", style="dim")
            nodes[link.address] = nodes[parent.address].add(words)
        else:
            nodes[link.address] = Tree(words)
            roots.append(nodes[link.address])
    return roots
