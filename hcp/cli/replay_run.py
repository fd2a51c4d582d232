"""`hcp replay run|list|drop`: records of topics once more, onto topics of the replay's own, never onto live ones."""

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console

from hcp.browse.auditing import operator_here
from hcp.browse.times import instant_ms, time_words
from hcp.cli.progress import progress_bar
from hcp.cli.replay_bounds import Asked, planned_ranges
from hcp.cli.rows import print_rows
from hcp.clock import wall_ms
from hcp.errors import HcpError, SettingsError
from hcp.kafka.ranges import Range
from hcp.kafka.replays import replay_name
from hcp.settings import Settings, load_settings
from replay.run.job import Progress, measure, run
from replay.run.plan import ENDED_KEY, RunPlan, begin, drop, gaps, left, note, planned, replays

EXIT_INTERRUPTED: Final = 130
AS_FAST_AS_POSSIBLE: Final = "max"
_HOURS: Final = re.compile(r"\d{2}:\d{2}(?::\d{2})?")
_said = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def run_topics(  # every option stands for itself
    *,
    topics: Annotated[list[str] | None, typer.Option("--topic", help="Topic; may be given again.")] = None,
    from_time: Annotated[
        str | None, typer.Option("--from", help="From when: 2026-11-24T03:00Z, 2h before now; default: all there is.")
    ] = None,
    to_time: Annotated[
        str | None, typer.Option("--to", help="Up to when, not included; 03:30 is on the day of --from.")
    ] = None,
    by_event_time: Annotated[
        bool, typer.Option("--by-event-time", help="--from and --to are event time; slower: the rest is read too.")
    ] = False,
    offsets: Annotated[
        list[str] | None,
        typer.Option(metavar="TOPIC[PARTITION]@FIRST-LAST", help="Only these offsets; may be given again."),
    ] = None,
    from_event: Annotated[str | None, typer.Option(help="From this record: its id, or market.price[3]@42.")] = None,
    to_event: Annotated[str | None, typer.Option(help="Up to this record, included.")] = None,
    keys: Annotated[
        list[str] | None, typer.Option("--key", help="Only records with this key; may be given again.")
    ] = None,
    speed: Annotated[
        str | None, typer.Option(help="Times the pace of then, 1 by default; max: as fast as possible.")
    ] = None,
    into: Annotated[str, typer.Option(help="Name of the replay: its topics are NAME.TOPIC.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how much and how long, write nothing.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a replay stopped, as it was planned.")] = False,
    allow_gaps: Annotated[bool, typer.Option("--allow-gaps", help="Go on although retention ate the start.")] = False,
) -> None:
    """Send records once more in event-time order, onto topics of a name of their own; nothing live is touched.

    hcp replay run --topic market.price --topic metrics.gpu --from 2026-11-24T03:00Z --to 03:30 --into replay-42
    """
    settings = load_settings()
    replay_name(into)
    if resume:
        if any((topics, offsets, from_time, to_time, from_event, to_event, keys, dry_run)):
            raise SettingsError(
                "--resume must come with --into and --speed alone, was given with more: the plan is kept"
            )
        _resume(settings, into, None if speed is None else (_speed(speed),))
        return
    times = _times(from_time, to_time)
    asked = Asked(
        topics=tuple(topics or ()),
        from_ms=times[0],
        to_ms=times[1],
        is_event_time=by_event_time,
        offsets=tuple(offsets or ()),
        from_event=from_event,
        to_event=to_event,
    )
    ranges, partitions = planned_ranges(settings.kafka_bootstrap, asked)
    _judge(ranges, allow_gaps=allow_gaps)
    plan = RunPlan(
        into=into,
        ranges=ranges,
        partitions=partitions,
        keys=tuple(keys or ()),
        speed=_speed(speed or "1"),
        from_ms=times[0] if by_event_time else None,
        to_ms=times[1] if by_event_time else None,
        planned_at_ms=wall_ms(),
        planned_by=operator_here().name,
    )
    if dry_run:
        _tell(settings, plan)
        return
    with _alone(settings, into):
        begin(settings.kafka_bootstrap, plan)
        _run(settings, plan, plan.ranges)


def _resume(settings: Settings, into: str, speed: tuple[float | None] | None) -> None:
    """Go on as planned, or at another speed where one is given."""
    with _alone(settings, into):
        plan, is_over = planned(settings.kafka_bootstrap, into)
        if is_over:
            _said.print(f"{into} has ended; nothing is left")
        else:
            paced = plan if speed is None else replace(plan, speed=speed[0])
            _run(settings, paced, left(settings.kafka_bootstrap, plan))


def list_replays(
    *, as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of a table.")] = False
) -> None:
    """List the replays on the broker."""
    bootstrap = load_settings().kafka_bootstrap
    rows: list[dict[str, object]] = []
    for name in replays(bootstrap):
        try:
            plan, is_over = planned(bootstrap, name)
        except HcpError as error:
            rows.append({"replay": name, "topics": str(error)})
            continue
        rows.append(
            {
                "replay": name,
                "topics": " ".join(plan.partitions),
                "records": sum(each.count for each in plan.ranges),
                "left": 0 if is_over else sum(each.count for each in left(bootstrap, plan)),
                "begun": time_words(plan.planned_at_ms),
                "by": plan.planned_by,
            }
        )
    print_rows(rows, as_json=as_json)


def drop_replay(
    name: Annotated[str, typer.Argument(help="Of the replay.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a replay's topics; those it was made from are not touched."""
    settings = load_settings()
    with _alone(settings, name):
        if not yes:
            typer.confirm(f"delete every topic that begins with {replay_name(name)}. ?", abort=True)
        for topic in drop(settings.kafka_bootstrap, name):
            typer.echo(topic)


def _times(from_time: str | None, to_time: str | None) -> tuple[int | None, int | None]:
    now_ms = wall_ms()
    from_ms = None if from_time is None else instant_ms(from_time, option="--from", now_ms=now_ms)
    if to_time is not None and _HOURS.fullmatch(to_time):
        if from_ms is None:
            raise SettingsError(f"--to must be a whole time without --from, was {to_time}")
        to_time = f"{time_words(from_ms)[:10]}T{to_time}Z"
    to_ms = None if to_time is None else instant_ms(to_time, option="--to", now_ms=now_ms)
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise SettingsError(f"--from must be before --to, was {time_words(from_ms)} and {time_words(to_ms)}")
    return from_ms, to_ms


def _speed(words: str) -> float | None:
    if words == AS_FAST_AS_POSSIBLE:
        return None
    try:
        speed = float(words)
    except ValueError:
        speed = 0.0
    if not 0.0 < speed < float("inf"):
        raise SettingsError(f"--speed must be a number above 0, or {AS_FAST_AS_POSSIBLE}, was {words}")
    return speed


def _judge(ranges: tuple[Range, ...], *, allow_gaps: bool) -> None:
    """Say what retention has eaten; refuse where that was not allowed.

    Raises:
        SettingsError: The start of a range is gone.
    """
    for each in gaps(ranges):
        words = f"{each.topic}/{each.partition} lacks what was before offset {each.start}"
        if not allow_gaps:
            raise SettingsError(f"the record must be whole, was not: {words}; --allow-gaps replays what is there")
        _said.print(f"gap: {words}")


def _tell(settings: Settings, plan: RunPlan) -> None:
    with progress_bar() as bar:
        task = bar.add_task("looking", total=sum(each.count for each in plan.ranges))
        found = measure(settings.kafka_bootstrap, plan, on_read=lambda count: bar.advance(task, count))
    row: dict[str, object] = {"records": found.records, "bytes": found.size_bytes, "unreadable": found.unreadable}
    row |= {"first": time_words(found.first_ms), "last": time_words(found.last_ms)}
    lasts = found.first_ms is not None and found.last_ms is not None and plan.speed is not None
    span_ms = (found.last_ms or 0) - (found.first_ms or 0)
    row["takes"] = f"{span_ms / 1_000 / (plan.speed or 1.0):,.1f} s" if lasts else "as long as the broker does"
    print_rows([row])


def _run(settings: Settings, plan: RunPlan, ranges: tuple[Range, ...]) -> None:
    progress = Progress()
    try:
        with progress_bar() as bar:
            task = bar.add_task(plan.into, total=sum(each.count for each in ranges))
            run(
                settings.kafka_bootstrap,
                plan,
                ranges,
                progress=progress,
                on_read=lambda count: bar.advance(task, count),
            )
    except KeyboardInterrupt:
        _said.print(f"{progress.records:,} records sent; go on with: hcp replay run --into {plan.into} --resume")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    note(settings.kafka_bootstrap, plan.into, ENDED_KEY, msgspec.json.encode(progress))
    print_rows(
        [
            {
                "replay": plan.into,
                "records": progress.records,
                "bytes": progress.size_bytes,
                "unreadable": progress.unreadable,
                "last": time_words(progress.last_ms),
                "late at most": f"{progress.late_s_max * 1_000:,.1f} ms",
            }
        ]
    )


@contextmanager
def _alone(settings: Settings, name: str) -> Iterator[None]:
    """Keep a second process on this machine from the same replay; the kernel lets go whatever ends this one."""
    folder = settings.state_dir / "replays"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{replay_name(name)}.lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(f"{name} must be run by one process at a time, is by another") from error
        yield
