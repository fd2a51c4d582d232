"""`hcp replay diff A B`: what changed between two runs of decisions, in counts, dollars and words."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Protocol, TypeVar

import typer
from rich.console import Console

from hcp.browse.times import instant_ms
from hcp.cli.rows import print_rows
from hcp.clock import wall_ms
from hcp.decisions_parquet import read_decisions
from hcp.errors import SettingsError
from hcp.fleet import load_fleet
from hcp.model.facilities import Fleet
from hcp.settings import load_settings
from replay.decisions.difference import Run, difference, run_of
from replay.decisions.output import DECISIONS, RECOMMENDATIONS, read_recommendations, what_ran
from replay.decisions.page import write_page
from replay.decisions.plan import sites_of
from replay.decisions.topics import live_decisions, live_recommendations
from replay.decisions.wording import class_rows, differing_row
from replay.decisions.worth import worth_of

DIFFERS: Final = 3
"""Exit code; 1 is an error's."""
LIVE: Final = "live"
EVER_MS: Final = 2**53
SHOWN: Final = 20
_notes = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


class _AtASite(Protocol):
    @property
    def facility_id(self) -> str: ...
    @property
    def observed_at_ms(self) -> int: ...


Value = TypeVar("Value", bound=_AtASite)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """What is compared of both runs."""

    from_ms: int
    to_ms: int
    sites: frozenset[str]

    def of(self, values: Iterable[Value]) -> Iterator[Value]:
        """Yield the values within it."""
        for each in values:
            if each.facility_id in self.sites and self.from_ms <= each.observed_at_ms < self.to_ms:
                yield each


def diff(  # every option stands for itself
    *,
    a: Annotated[str, typer.Argument(help="Folder or .parquet file of `hcp replay decisions`, or `live`.")],
    b: Annotated[str, typer.Argument(help="Likewise.")],
    from_time: Annotated[str | None, typer.Option("--from", help="Event time; default: what both hold.")] = None,
    to_time: Annotated[str | None, typer.Option("--to", help="Event time, not included.")] = None,
    sites: Annotated[list[str] | None, typer.Option("--site", help="Only this site; may be given again.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=0, help="Differences printed at most.")] = SHOWN,
    as_json: Annotated[bool, typer.Option("--json", help="Every difference as a JSON line, nothing else.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with money over time as well.")] = None,
    prefix: Annotated[str, typer.Option(help="Before the topics' names, for `live` from copies of them.")] = "",
    fleet_file: Annotated[
        Path | None, typer.Option("--fleet", help="Fleet description; default: HCP_FLEET_FILE or fleet.toml.")
    ] = None,
) -> None:
    """Say what changed between two runs, decision by decision; exits with 3 when anything did, with 0 when nothing.

    hcp replay diff live again: nothing may differ where the rules are live's.
    """
    settings = load_settings(fleet_file=fleet_file)
    fleet = load_fleet(settings.fleet_file)
    compared = _compared((a, b), fleet=fleet, times=(from_time, to_time), sites=sites or ())
    dotted = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
    runs = [_run(name, compared, fleet=fleet, bootstrap=settings.kafka_bootstrap, prefix=dotted) for name in (a, b)]
    found = difference(*runs)
    if html is not None:
        write_page(html, found, a=runs[0], b=runs[1])
    if as_json:
        print_rows([differing_row(each) for each in found.differing], as_json=True)
    else:
        print_rows(class_rows(found))
        if found.differing:
            typer.echo()
            print_rows([differing_row(each) for each in found.differing[:limit]])
        if len(found.differing) > limit:
            _notes.print(f"{len(found.differing) - limit:,} more differ; --limit shows more of them, --json all")
        if any(run.worth is None for run in runs):
            _notes.print("dollars are known of folders and of live, not of a file of decisions alone")
    if found.differing:
        raise typer.Exit(DIFFERS)


def _compared(
    names: tuple[str, str], *, fleet: Fleet, times: tuple[str | None, str | None], sites: Iterable[str]
) -> _Compared:
    """Return what both runs hold, cut to what was asked for."""
    now_ms = wall_ms()
    from_ms, to_ms = (
        otherwise if words is None else instant_ms(words, option=option, now_ms=now_ms)
        for words, option, otherwise in zip(times, ("--from", "--to"), (0, EVER_MS), strict=True)
    )
    wanted = sites_of(fleet, tuple(sites))
    for name in names:
        if name != LIVE and Path(name).is_dir():
            what = what_ran(Path(name))
            from_ms, to_ms, wanted = max(from_ms, what.from_ms), min(to_ms, what.to_ms), wanted & frozenset(what.sites)
    if from_ms >= to_ms or not wanted:
        raise SettingsError(f"{names[0]} and {names[1]} must have a time and a site in common, had none")
    return _Compared(from_ms=from_ms, to_ms=to_ms, sites=wanted)


def _run(name: str, compared: _Compared, *, fleet: Fleet, bootstrap: str, prefix: str) -> Run:
    if name == LIVE:
        decisions = live_decisions(bootstrap, from_ms=compared.from_ms, prefix=prefix)
        recommendations = sorted(
            compared.of(live_recommendations(bootstrap, from_ms=compared.from_ms, prefix=prefix)),
            key=lambda each: each.observed_at_ms,
        )
        return run_of(name, compared.of(decisions), worth=worth_of(recommendations, fleet=fleet))
    path = Path(name)
    if path.is_dir():
        worth = worth_of(compared.of(read_recommendations(path / RECOMMENDATIONS)), fleet=fleet)
        return run_of(name, compared.of(read_decisions(path / DECISIONS)), worth=worth)
    return run_of(name, compared.of(read_decisions(path)), worth=None)
