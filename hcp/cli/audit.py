"""`hcp audit ...`: who changed what, and proof that nothing of it was changed, removed or slipped in since."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console

from hcp.browse.times import time_words
from hcp.cli.bounds import time_ms
from hcp.cli.progress import progress_bar
from hcp.cli.rows import print_rows
from hcp.codecs import decode
from hcp.errors import SettingsError
from hcp.kafka.ranges import ranges_by_time, read
from hcp.kafka.records import address_words
from hcp.model.ledger import AuditEvent
from hcp.settings import load_settings
from hcp.topics import AUDIT_EVENTS
from sinks.timescale.asking import Question
from sinks.timescale.audit import Audited, Head, TopicEvent, heads, verify

EXIT_BROKEN: Final = 1
SHOWN: Final = 50
FINDINGS_SHOWN: Final = 50
_LISTED: Final = """
select (extract(epoch from observed_at) * 1000)::bigint as at_ms, actor, action, subject, origin, before, after,
       kafka_partition, kafka_offset
from audit_events
where (%(actor)s::text is null or actor = %(actor)s) and (%(action)s::text is null or action like %(action)s)
  and (%(subject)s::text is null or subject = %(subject)s)
  and observed_at >= coalesce(to_timestamp(%(since)s / 1000.0), '-infinity')
  and observed_at < coalesce(to_timestamp(%(until)s / 1000.0), 'infinity')
order by observed_at desc, kafka_partition, kafka_offset desc
"""

app = typer.Typer(no_args_is_help=True, help="Who changed what; and that the record of it is whole.")
_console = Console(highlight=False, soft_wrap=True, markup=False)


@app.command(name="list")
def list_events(
    *,
    actor: Annotated[str | None, typer.Option(help="Who.")] = None,
    action: Annotated[str | None, typer.Option(help="What was done; % stands for anything, as in dead.%.")] = None,
    subject: Annotated[str | None, typer.Option(help="To what.")] = None,
    since: Annotated[str | None, typer.Option(help="From when: 15m, 2h30m, 2026-11-24T03:12Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Up to when, not included.")] = None,
    count: Annotated[int, typer.Option("-n", help="At most so many.", min=1)] = SHOWN,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines, whole.")] = False,
) -> None:
    """Show audit events, the newest first, out of TimescaleDB."""
    bounds = {"since": time_ms(since, "--since"), "until": time_ms(until, "--until")}
    question = Question(load_settings().timescale_dsn.get_secret_value())
    try:
        answer = question.ask(_LISTED, rows_max=count, actor=actor, action=action, subject=subject, **bounds)
    finally:
        question.close()
    found = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    print_rows(map(_whole if as_json else _short, found), as_json=as_json)
    if answer.is_cut:
        typer.echo(f"there are more than {count}: -n shows more, the filters fewer", err=True)


@app.command(name="heads")
def print_heads() -> None:
    """Print the newest link of each partition; noted elsewhere, it proves later that nothing was rewritten."""
    for head in heads(load_settings().timescale_dsn.get_secret_value()):
        typer.echo(msgspec.json.encode(head).decode())


@app.command(name="verify")
def verify_chain(
    *,
    noted: Annotated[
        Path | None, typer.Option("--heads", help="File of what `hcp audit heads` printed earlier.", dir_okay=False)
    ] = None,
    topic: Annotated[bool, typer.Option("--topic/--no-topic", help="Compare with audit.events as well.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="What was seen and found as one JSON object.")] = False,
) -> None:
    """Compute every hash of the audit chain again; exit with 1 when an event was changed, removed or slipped in."""
    settings = load_settings()
    expected = () if noted is None else _heads_in(noted)
    dsn = settings.timescale_dsn.get_secret_value()
    seen = verify(dsn, noted=expected, topic=_on_topic(settings.kafka_bootstrap) if topic else None)
    if as_json:
        typer.echo(msgspec.json.encode(seen).decode())
    else:
        _tell(seen)
    if seen.findings:
        raise typer.Exit(EXIT_BROKEN)


def _on_topic(bootstrap: str) -> Iterator[TopicEvent]:
    with progress_bar() as bar:
        ranges = ranges_by_time(bootstrap, [AUDIT_EVENTS.name])
        task = bar.add_task(AUDIT_EVENTS.name, total=sum(each.count for each in ranges))
        for batch in read(bootstrap, ranges):
            for record in batch:
                event = decode(record.value)
                if isinstance(event, AuditEvent):  # else the sink refused it as well: a dead letter
                    yield TopicEvent(partition=record.partition, offset=record.offset, event=event)
            bar.advance(task, len(batch))


def _heads_in(file: Path) -> tuple[Head, ...]:
    try:
        return tuple(msgspec.json.decode(line, type=Head) for line in file.read_bytes().splitlines() if line.strip())
    except OSError as error:
        raise SettingsError(f"file of heads must be readable, was {file}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise SettingsError(f"{file} must hold lines that `hcp audit heads` printed, was: {error}") from error


def _tell(seen: Audited) -> None:
    for finding in seen.findings[:FINDINGS_SHOWN]:
        _console.print(f"{finding.fault.value}: {finding.address}: {finding.words}")
    if len(seen.findings) > FINDINGS_SHOWN:
        _console.print(f"and {len(seen.findings) - FINDINGS_SHOWN:,} more: --json has them all")
    compared = "topic not read" if seen.records is None else f"{seen.records:,} records of the topic compared"
    waiting = f", {seen.waiting:,} wait for the sink" if seen.waiting else ""
    retired = f", {seen.retired:,} past their retention" if seen.retired else ""
    _console.print(f"{seen.links:,} links, {seen.events:,} events hashed{retired}; {compared}{waiting}")
    for head in seen.heads:
        _console.print(f"head of {AUDIT_EVENTS.name}[{head.partition}]: link {head.link:,} {head.link_hash}")
    _console.print(f"{len(seen.findings):,} findings: the log is NOT whole" if seen.findings else "the log is whole")


def _short(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "time": time_words(row["at_ms"]),
        "actor": row["actor"],
        "action": row["action"],
        "subject": row["subject"],
        "before": row["before"],
        "after": row["after"],
        "record": address_words(AUDIT_EVENTS.name, row["kafka_partition"], row["kafka_offset"]),
    }


def _whole(row: dict[str, Any]) -> dict[str, Any]:
    state = {name: _parsed(row[name]) for name in ("before", "after")}
    return {**_short(row), "origin": row["origin"], **state}


def _parsed(text: str | None) -> Any:  # noqa: ANN401  # JSON
    """Return a state as JSON where it is, else as its text."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text
