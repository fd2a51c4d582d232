"""`hcp replay decisions|snapshot`: the pure streams over recorded topics, without agents; nothing live is touched."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.status import Status

from hcp.browse.times import instant_ms, time_words
from hcp.cli.rows import print_rows
from hcp.clock import wall_ms
from hcp.errors import HcpError, SettingsError
from hcp.fleet import load_fleet
from hcp.settings import load_settings
from replay.decisions.checkout import run_elsewhere
from replay.decisions.engine import Replay
from replay.decisions.job import Stretch, run_job
from replay.decisions.memory import SiteMemory
from replay.decisions.output import WhatRan
from replay.decisions.plan import Devices, Plan, Rules, Scores, rules_of, sites_of
from replay.decisions.snapshot import SUFFIX, snapshot_for, snapshot_of, write_snapshot
from replay.decisions.topics import Gap, Recorded, recorded
from streams.policies import POLICY_NAMES

_progress = Console(stderr=True, highlight=False, soft_wrap=True)
EVER_MS: Final = 2**53
_EVENTS_A_WORD: Final = 500
"""Recommendations between two words of progress."""

FromTime = Annotated[
    str | None,
    typer.Option("--from", help="Event time: 2026-11-24T03:00Z, 7d before now; default: all there is."),
]
ToTime = Annotated[str | None, typer.Option("--to", help="Event time, not included; default: all there is.")]
PolicyName = Annotated[str, typer.Option(help=f"Policy that decides: {POLICY_NAMES}.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="[SITE:]NAME=VALUE", help="Another value of an option or limit; may be given again."),
]
ScoresFrom = Annotated[Scores, typer.Option(help="Recommendations as recorded, or scored again from prices.")]
DevicesAt = Annotated[Devices, typer.Option(help="Devices where they were, or where the replay's switches lead.")]
Sites = Annotated[list[str] | None, typer.Option("--site", help="Only this site; may be given again.")]
Prefix = Annotated[str, typer.Option(help="Before the topics' names, for copies of them such as replay-42.")]
FleetFile = Annotated[
    Path | None, typer.Option("--fleet", help="Fleet description; default: HCP_FLEET_FILE or fleet.toml.")
]
FromSnapshot = Annotated[Path | None, typer.Option(help="Snapshot to go on from, or a folder of them: the last fit.")]
AllowGaps = Annotated[bool, typer.Option("--allow-gaps", help="Go on although retention has eaten the start.")]


def decisions(  # every option stands for itself
    *,
    out: Annotated[Path, typer.Option(help="Folder; or a .parquet file, which takes decisions alone.")],
    from_time: FromTime = None,
    to_time: ToTime = None,
    policy: PolicyName = "threshold",
    options: Options = None,
    scores: ScoresFrom = Scores.RECORDED,
    devices: DevicesAt = Devices.RECORDED,
    code: Annotated[str | None, typer.Option(metavar="REF", help="Streams of this git commit, branch or tag.")] = None,
    from_snapshot: FromSnapshot = None,
    sites: Sites = None,
    prefix: Prefix = "",
    fleet_file: FleetFile = None,
    allow_gaps: AllowGaps = False,
) -> None:
    """Decide again what was decided, by the same rules or others, and write decisions and recommendations."""
    stretch_ms = _stretch_ms(from_time, to_time)
    plan = Plan(policy=policy, options=tuple(options or ()), scores=scores, devices=devices)
    if code is not None and from_snapshot is not None:
        raise SettingsError("--code must begin where the record begins, was given with --from-snapshot")
    settings = load_settings(fleet_file=fleet_file)
    fleet = load_fleet(settings.fleet_file)
    wanted = sites_of(fleet, sites or ())
    stretch = Stretch(sites=wanted, from_ms=stretch_ms[0], to_ms=stretch_ms[1])
    if code is not None:
        found = _recorded(settings.kafka_bootstrap, plan, wanted, prefix=prefix)
        _refuse_gaps(found.gaps, from_ms=stretch.from_ms, allow_gaps=allow_gaps, is_tail=False)
        with _progress.status(f"deciding with the streams of {code}"):
            what = run_elsewhere(
                plan, found.history(), stretch=stretch, out=out, ref=code, fleet_file=settings.fleet_file
            )
    else:
        rules = rules_of(plan, fleet=fleet)
        memories = _memories(from_snapshot, from_ms=stretch.from_ms, rules=rules)
        found = _recorded(settings.kafka_bootstrap, plan, wanted, prefix=prefix, memories=memories)
        _refuse_gaps(found.gaps, from_ms=stretch.from_ms, allow_gaps=allow_gaps, is_tail=bool(memories))
        with _deciding() as said:
            what = run_job(rules, found.history(), stretch=stretch, out=out, memories=memories, on_decided=said.about)
    _print(what, out=out)


def snapshot(  # every option stands for itself
    *,
    at: Annotated[str, typer.Option("--at", help="Event time: 2026-11-24T03:00Z, or 1h before now.")],
    out: Annotated[Path, typer.Option(help=f"File; or a folder, where it is named after its time, ending {SUFFIX}.")],
    policy: PolicyName = "threshold",
    options: Options = None,
    scores: ScoresFrom = Scores.RECORDED,
    devices: DevicesAt = Devices.RECORDED,
    from_snapshot: FromSnapshot = None,
    prefix: Prefix = "",
    fleet_file: FleetFile = None,
    allow_gaps: AllowGaps = False,
) -> None:
    """Write down what the replay of these rules knows at a time, so that a later one need not begin at the start."""
    at_ms = instant_ms(at, option="--at", now_ms=wall_ms())
    settings = load_settings(fleet_file=fleet_file)
    fleet = load_fleet(settings.fleet_file)
    rules = rules_of(Plan(policy=policy, options=tuple(options or ()), scores=scores, devices=devices), fleet=fleet)
    wanted = sites_of(fleet, ())
    memories = _memories(from_snapshot, from_ms=at_ms, rules=rules)
    found = _recorded(settings.kafka_bootstrap, rules.plan, wanted, prefix=prefix, memories=memories)
    _refuse_gaps(found.gaps, from_ms=at_ms, allow_gaps=allow_gaps, is_tail=bool(memories))
    replay = Replay(rules, sites=wanted, memories=memories)
    with _deciding() as said:
        for decided in replay.run(found.history(), until_ms=at_ms):
            said.about(decided.recommendation.observed_at_ms)
    path = out
    if out.is_dir() or out.suffix != SUFFIX:
        path = out / (time_words(at_ms).replace(":", "").replace(".", "") + SUFFIX)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_snapshot(path, snapshot_of(replay.memories(), at_ms=at_ms, rules=rules))
    except OSError as error:
        raise HcpError(f"--out must be a file or folder that can be written, was {error}") from error
    typer.echo(path)


def _stretch_ms(from_time: str | None, to_time: str | None) -> tuple[int, int]:
    """Read the bounds of a stretch of event time."""
    now_ms = wall_ms()
    from_ms = 0 if from_time is None else instant_ms(from_time, option="--from", now_ms=now_ms)
    to_ms = EVER_MS if to_time is None else instant_ms(to_time, option="--to", now_ms=now_ms)
    if from_ms >= to_ms:
        raise SettingsError(f"--from must be before --to, was {from_time} and {to_time}")
    return from_ms, to_ms


def _memories(path: Path | None, *, from_ms: int, rules: Rules) -> tuple[SiteMemory, ...]:
    return () if path is None else snapshot_for(path, from_ms=from_ms, rules=rules).memories()


def _recorded(
    bootstrap: str, plan: Plan, sites: frozenset[str], *, prefix: str, memories: Sequence[SiteMemory] = ()
) -> Recorded:
    dotted = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
    return recorded(bootstrap, scores=plan.scores, sites=sorted(sites), memories=memories, prefix=dotted)


def _refuse_gaps(gaps: Sequence[Gap], *, from_ms: int, allow_gaps: bool, is_tail: bool) -> None:
    """Say what retention has eaten; refuse where the stretch itself, or what follows a snapshot, is not whole.

    Raises:
        HcpError: It is not, and that was not allowed.
    """
    for gap in gaps:
        begins = "nothing is left" if gap.first_ms is None else f"it begins at {time_words(gap.first_ms)}"
        words = f"{gap.topic}/{gap.partition} lacks what was before offset {gap.first_offset}: {begins}"
        if (is_tail or gap.first_ms is None or gap.first_ms > from_ms) and not allow_gaps:
            raise HcpError(f"the record must be whole, was not: {words}; --allow-gaps decides on what is there")
        _progress.print(f"[yellow]gap:[/] {words}; what a site knew before that is not known")


@dataclass(slots=True)
class _Said:
    """Words of progress."""

    status: Status
    count: int = 0

    def about(self, observed_at_ms: int) -> None:
        """Say how far deciding is, every so often."""
        self.count += 1
        if self.count % _EVENTS_A_WORD == 0:
            self.status.update(f"deciding {time_words(observed_at_ms)}")


@contextmanager
def _deciding() -> Iterator[_Said]:
    with _progress.status("deciding") as status:
        yield _Said(status)


def _print(what: WhatRan, *, out: Path) -> None:
    print_rows(
        [
            {
                "policy": what.plan.policy,
                "options": " ".join(what.plan.options) or None,
                "code": what.code[:12] or None,
                "recommendations": what.recommendations,
                "switches": what.switches,
                "holds": what.holds,
            }
        ],
        as_json=False,
    )
    for why, count in what.passed_over.items():
        _progress.print(f"passed over: {count:,} {why.replace('_', ' ')}", markup=False)
    _progress.print(f"written to {out}", markup=False)
