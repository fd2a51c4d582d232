"""`hcp topics produce|export|import|copy`: what moves records, each named in what it says."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from hcp.browse.archive import STREAM, ArchiveReader, ArchiveWriter
from hcp.browse.auditing import operator_here
from hcp.browse.moving import (
    PRODUCED_BY,
    Moved,
    Target,
    audit,
    copy_records,
    export_topic,
    import_records,
    origin_of,
    ready,
)
from hcp.browse.selecting import Selection, ranges_of
from hcp.browse.typed import Mistake, typed_records
from hcp.cli.bounds import Offset, Partitions, Since, Until, selection_of
from hcp.cli.progress import progress_bar
from hcp.clock import wall_ms
from hcp.errors import HcpError, SettingsError
from hcp.kafka.producer import RecordProducer
from hcp.kafka.ranges import Range
from hcp.model.rejections import DeadLetter
from hcp.settings import load_settings
from hcp.topics import TOPICS, Topic, topic_named

MISTAKES_SHOWN: Final = 20
EXIT_REFUSED: Final = 1
Key = Annotated[str | None, typer.Option("--key", "-k", help="Only records with this key.")]
Create = Annotated[bool, typer.Option("--create", help="Make the target, with as many partitions, where missing.")]
Append = Annotated[bool, typer.Option("--append", help="Go on where the target holds records already.")]
YesLive = Annotated[bool, typer.Option("--yes-live", help="Write to a live topic, which processes act upon.")]
Why = Annotated[str | None, typer.Option(help="Why, for the audit of a live topic.")]
By = Annotated[str | None, typer.Option(help="Who does it, for that audit; default: this account.")]


def produce(
    name: Annotated[str, typer.Argument(help="Topic of the registry, such as market.price.")],
    file: Annotated[str, typer.Argument(help="JSON lines; - for standard input.")] = STREAM,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every line and send nothing.")] = False,
    event_time: Annotated[
        bool, typer.Option("--event-time", help="Broker timestamp from observed_at_ms instead of now.")
    ] = False,
    why: Why = None,
    by: By = None,
) -> None:
    """Send records typed as JSON lines, or as tail prints them: all of them, or none when any line is wrong."""
    topic = _record_topic(name)
    records = _all_right(file, topic)
    if dry_run or not records:
        typer.echo(f"{len(records):,} records would be sent to {name}")
        return
    bootstrap = load_settings().kafka_bootstrap
    audit(
        bootstrap,
        operator_here(by=by, why=why),
        action="topic.produced",
        topic=name,
        after={"records": len(records), "source": file},
    )
    producer = RecordProducer(bootstrap=bootstrap, produced_by=PRODUCED_BY)
    for record in records:
        producer.send(record, timestamp_ms=record.observed_at_ms if event_time else None)
    producer.close()
    typer.echo(f"{len(records):,} records sent to {name}")


def export(
    name: Annotated[str, typer.Argument(help="Topic.")],
    file: Annotated[str, typer.Argument(help="Ends in .parquet or .jsonl; - for JSON lines on standard output.")],
    *,
    since: Since = None,
    until: Until = None,
    offset: Offset = None,
    partition: Partitions = None,
    last: Annotated[int | None, typer.Option("--last", "-n", min=0, help="From the end of each partition.")] = None,
    key: Key = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a topic, or a part of it, to a file byte for byte; without bounds, all there is now."""
    if file != STREAM and Path(file).exists() and not force:
        raise SettingsError(f"the file must not exist without --force, was there: {file}")
    bootstrap = load_settings().kafka_bootstrap
    selection = selection_of(since=since, until=until, offset=offset, partition=partition, last=last)
    ranges = _ranges(bootstrap, name, selection)
    with _steps("exported", sum(each.count for each in ranges)) as on_step:
        writer = ArchiveWriter(file, origin_of(bootstrap, name))
        moved = export_topic(bootstrap, ranges, writer, key=_raw(key), on_step=on_step)
    _say(moved, "exported", file)


def import_file(
    file: Annotated[str, typer.Argument(help="Written by `hcp topics export`; - for JSON lines on standard input.")],
    name: Annotated[str, typer.Argument(help="Topic to write to, with as many partitions as that of the file.")],
    *,
    create: Create = False,
    append: Append = False,
    yes_live: YesLive = False,
    why: Why = None,
    by: By = None,
) -> None:
    """Send a file's records to a topic byte for byte, each into its partition; offsets are those the broker gives."""
    bootstrap = load_settings().kafka_bootstrap
    with ArchiveReader(file) as reader:
        target = Target(topic=name, partitions=reader.origin.partitions, create=create, append=append, live=yes_live)
        ready(bootstrap, target, operator=operator_here(by=by, why=why), source=file)
        with _steps("imported", reader.count) as on_step:
            moved = import_records(bootstrap, reader, target, on_step=on_step)
    _say(moved, "imported", name)


def copy(
    source: Annotated[str, typer.Argument(help="Topic to read.")],
    name: Annotated[str, typer.Argument(help="Topic to write to, with as many partitions.")],
    *,
    since: Since = None,
    until: Until = None,
    offset: Offset = None,
    partition: Partitions = None,
    last: Annotated[int | None, typer.Option("--last", "-n", min=0, help="From the end of each partition.")] = None,
    key: Key = None,
    create: Create = False,
    append: Append = False,
    yes_live: YesLive = False,
    why: Why = None,
    by: By = None,
) -> None:
    """Copy a topic, or a part of it, to another byte for byte, each record into the same partition."""
    if source == name:
        raise SettingsError(f"the target must be another topic, was the source itself: {name}")
    bootstrap = load_settings().kafka_bootstrap
    selection = selection_of(since=since, until=until, offset=offset, partition=partition, last=last)
    ranges = _ranges(bootstrap, source, selection)
    partitions = origin_of(bootstrap, source).partitions
    target = Target(topic=name, partitions=partitions, create=create, append=append, live=yes_live)
    ready(bootstrap, target, operator=operator_here(by=by, why=why), source=source)
    with _steps("copied", sum(each.count for each in ranges)) as on_step:
        moved = copy_records(bootstrap, ranges, target, key=_raw(key), on_step=on_step)
    _say(moved, "copied", name)


def register(app: typer.Typer) -> None:
    """Add these commands to `hcp topics`."""
    app.command()(produce)
    app.command()(export)
    app.command(name="import")(import_file)
    app.command()(copy)


def _record_topic(name: str) -> Topic:
    topic = topic_named(name)
    if topic is None or topic.record is DeadLetter:
        raise SettingsError(f"topic must be one of {', '.join(each.name for each in TOPICS)}, was {name}")
    return topic


def _all_right(file: str, topic: Topic) -> list[Any]:
    """Return the records of a file, or end with its mistakes."""
    with ExitStack() as opened:
        lines = sys.stdin
        try:
            if file != STREAM:
                lines = opened.enter_context(Path(file).open(encoding="utf-8"))
            found = list(typed_records(lines, topic, at_ms=wall_ms()))
        except (OSError, UnicodeDecodeError) as error:
            raise HcpError(f"{file} must be readable text, was: {error}") from error
    mistakes = [each for each in found if isinstance(each, Mistake)]
    for mistake in mistakes[:MISTAKES_SHOWN]:
        typer.echo(str(mistake), err=True)
    if mistakes:
        typer.echo(f"{len(mistakes):,} of {len(found):,} records are wrong: none was sent", err=True)
        raise typer.Exit(EXIT_REFUSED)
    return found


def _ranges(bootstrap: str, topic: str, selection: Selection) -> tuple[Range, ...]:
    ranges = ranges_of(bootstrap, topic, selection)
    is_bound = selection.since_ms is not None or selection.offset not in {None, "beginning"}
    cut = [str(each.partition) for each in ranges if each.is_cut and is_bound]
    if cut:
        typer.echo(f"retention may have eaten the beginning in partitions {', '.join(cut)} of {topic}", err=True)
    return ranges


@contextmanager
def _steps(words: str, total: int | None) -> Iterator[Callable[[int], None]]:
    with progress_bar() as progress:
        bar = progress.add_task(words, total=total)
        yield lambda count: progress.advance(bar, count)


def _say(moved: Moved, words: str, place: str) -> None:
    """Say what was done on standard error: standard output may be the file."""
    typer.echo(f"{moved.records:,} records, {moved.size_bytes:,} bytes {words} to {place}", err=True)
    if moved.retimed and words != "exported":
        typer.echo(f"{moved.retimed:,} of them had no timestamp and got that of now", err=True)


def _raw(key: str | None) -> bytes | None:
    return None if key is None else key.encode()
