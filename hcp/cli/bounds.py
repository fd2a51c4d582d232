"""The options that bound a part of a topic, the same in every command that reads one."""

from typing import Annotated

import typer

from hcp.browse.selecting import Selection
from hcp.browse.times import instant_ms
from hcp.clock import wall_ms
from hcp.model.units import EpochMs

Since = Annotated[
    str | None, typer.Option(help="From when, by broker timestamp: 15m, 2h30m, 2026-11-24T03:12Z, ms since the epoch.")
]
Until = Annotated[str | None, typer.Option(help="Up to when, not included; likewise. Default: now's end.")]
Offset = Annotated[
    str | None, typer.Option("--offset", "-o", help="beginning, end, the first OFFSET, or -COUNT from the end.")
]
Partitions = Annotated[list[int] | None, typer.Option("--partition", "-p", help="Partition; may be given again.")]


def selection_of(
    *, since: str | None, until: str | None, offset: str | None, partition: list[int] | None, last: int | None = None
) -> Selection:
    """Read the options that bound a topic.

    Raises:
        SettingsError: One of them is no time.
    """
    return Selection(
        since_ms=time_ms(since, "--since"),
        until_ms=time_ms(until, "--until"),
        offset=offset,
        partitions=tuple(partition or ()),
        last=last,
    )


def time_ms(text: str | None, option: str) -> EpochMs | None:
    """Read an optional time.

    Raises:
        SettingsError: It is none.
    """
    return None if text is None else instant_ms(text, option=option, now_ms=wall_ms())
