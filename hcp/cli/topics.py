"""`hcp topics ...`: create, list, describe and tail; what moves records is in hcp.cli.topics_data."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from hcp.browse.filters import Condition, conditions
from hcp.browse.overview import TopicState, group_lags, topic_names, topic_states
from hcp.browse.readable import readable
from hcp.browse.selecting import Selection, ranges_of
from hcp.browse.times import time_words
from hcp.cli import topics_data
from hcp.cli.bounds import Offset, Partitions, Since, Until, selection_of
from hcp.cli.rows import print_rows
from hcp.codecs.derive import snake_case
from hcp.errors import BrokerError, SettingsError
from hcp.kafka.admin import ensure_topics
from hcp.kafka.ranges import follow as follow_topic
from hcp.kafka.ranges import read
from hcp.kafka.records import ConsumedRecord
from hcp.model.units import MS_PER_DAY
from hcp.settings import load_settings
from hcp.topics import TOPICS, Topic, all_topics, topic_named

app = typer.Typer(no_args_is_help=True, help="Topics: create, list, describe, tail, produce, export, import, copy.")
Name = Annotated[str, typer.Argument(help="Topic, such as market.price or market.price.dead.")]
LAST: Final = 5
UNLISTED_ANSWER_MS_MAX: Final = 5_000
"""How long the broker may take to say whether it has a topic outside the registry."""
_SCALARS: Final = (str, int, float, bool)


@app.command()
def create(
    replication: Annotated[int, typer.Option(min=1, max=5, help="Replicas; 3 in production.")] = 1,
) -> None:
    """Create every topic that is missing; running it again changes nothing."""
    made = ensure_topics(load_settings().kafka_bootstrap, replication=replication)
    typer.echo(f"{len(made)} topics created, {len(list(all_topics())) - len(made)} were there")


@app.command(name="list")
def list_topics(
    dead: Annotated[bool, typer.Option("--dead", help="Dead-letter topics only.")] = False,
    every: Annotated[
        bool, typer.Option("--all", "-a", help="Every topic on the broker, replays and changelogs.")
    ] = False,
    groups: Annotated[bool, typer.Option("--groups", "-g", help="How far each consumer group lags.")] = False,
    as_json: Annotated[bool, typer.Option("--json", "-J", help="JSON lines instead of a table.")] = False,
) -> None:
    """List topics: partitions, records, bytes on disk, oldest and newest broker timestamp, and groups' lag."""
    bootstrap = load_settings().kafka_bootstrap
    names = topic_names(bootstrap) if every else [topic.dead if dead else topic.name for topic in TOPICS]
    states = topic_states(bootstrap, names)
    if groups:
        print_rows(_lag_rows(bootstrap, states), as_json=as_json)
    else:
        print_rows((_state_row(state) for state in states), as_json=as_json)


def _state_row(state: TopicState) -> dict[str, Any]:
    known = topic_named(state.name)
    return {
        "topic": state.name,
        "partitions": len(state.partitions) or "missing: hcp topics create",
        "records": state.records,
        "bytes": state.size_bytes,
        "oldest": time_words(state.oldest_ms),
        "newest": time_words(state.newest_ms),
        "record": known.record.__name__ if known else None,
    }


def _lag_rows(bootstrap: str, states: tuple[TopicState, ...]) -> Iterator[dict[str, Any]]:
    partitions = {state.name: len(state.partitions) for state in states}
    for each in group_lags(bootstrap, states):
        committed = f"{each.partitions} of {partitions[each.topic]}"
        yield {"group": each.group, "topic": each.topic, "partitions committed": committed, "lag": each.lag}


@app.command()
def describe(name: Name) -> None:
    """Show what a topic is for, key, retention, each partition, and every field of its record."""
    bootstrap = load_settings().kafka_bootstrap
    topic = topic_named(name)
    if topic is None:
        _require_on_broker(bootstrap, name)
    state = topic_states(bootstrap, [name])[0]
    console = Console(highlight=False, soft_wrap=True)
    if topic is None:
        console.print(f"{name}: not of the registry")
    else:
        kept = "for ever" if topic.retention_ms < 0 else f"{topic.retention_ms // MS_PER_DAY} days"
        console.print(f"{topic.name}: {topic.doc}")
        console.print(f"record {topic.record.__name__} (schemas/avro/{snake_case(topic.record.__name__)}.avsc)")
        console.print(f"key {topic.key}, partitioned by {topic.partition_by}, {topic.partitions} partitions")
        console.print(f"cleanup {topic.cleanup}, kept {kept}")
    console.print(f"on the broker: {len(state.partitions)} partitions, {state.records:,} records")
    print_rows(
        {
            "partition": each.partition,
            "start": each.start,
            "end": each.end,
            "bytes": each.size_bytes,
            "oldest": time_words(each.oldest_ms),
            "newest": time_words(each.newest_ms),
        }
        for each in state.partitions
    )
    if topic is not None:
        console.print(_fields(topic))


def _fields(topic: Topic) -> Table:
    import schemas  # noqa: PLC0415  # only this command reads the schema files

    schema = dict(schemas.current())[snake_case(topic.record.__name__)]
    table = Table(box=None, pad_edge=False)
    for heading in ("field", "doc"):
        table.add_column(heading, overflow="fold")
    for field in schema["fields"]:
        table.add_row(field["name"], field["doc"])
    return table


@app.command()
def tail(
    name: Name,
    *,
    last: Annotated[
        int | None,
        typer.Option("--last", "-n", min=0, help="Records from the end of each partition; alone or of what was asked."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until Ctrl-C.")] = False,
    key: Annotated[str | None, typer.Option("--key", "-k", help="Only records with this key.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Only records with FIELD=VALUE (or != < <= > >= ~); may be given again.")
    ] = None,
    since: Since = None,
    until: Until = None,
    offset: Offset = None,
    partition: Partitions = None,
    count: Annotated[int | None, typer.Option("--count", "-c", min=1, help="End after so many records shown.")] = None,
    headers: Annotated[bool, typer.Option("--headers", "-H", help="Show headers too.")] = False,
    as_table: Annotated[bool, typer.Option("--table", help="A table of the plain fields.")] = False,
    _as_json: Annotated[bool, typer.Option("--json", "-J", help="JSON lines, which is the default.")] = False,
) -> None:
    """Print decoded records as JSON lines, or as a table: without any bound, the last 5 of each partition."""
    if as_table and follow:
        raise SettingsError("--table must be given without --follow, was given with it: its widths need every record")
    selection = selection_of(since=since, until=until, offset=offset, partition=partition, last=last)
    if selection.is_unbound:
        selection = selection_of(since=None, until=None, offset=None, partition=partition, last=LAST)
    wanted = conditions(where or ())
    shown = _matching(name, selection, follow=follow, key=key, where=wanted)
    rows = (readable(record, headers=headers) for record in _first(shown, count))
    if as_table:
        print_rows(_cells(row) for row in rows)
    else:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))


def _matching(
    name: str, selection: Selection, *, follow: bool, key: str | None, where: tuple[Condition, ...]
) -> Iterator[ConsumedRecord]:
    """Yield the records asked for, each batch in the order of its broker timestamps."""
    bootstrap = load_settings().kafka_bootstrap
    ranges = ranges_of(bootstrap, name, selection)
    for batch in read(bootstrap, ranges):
        yield from _filtered(batch, key=key, where=where)
    if follow:
        for batch in follow_topic(bootstrap, {each.place: each.end for each in ranges}):
            yield from _filtered(batch, key=key, where=where)


def _filtered(
    batch: Iterable[ConsumedRecord], *, key: str | None, where: tuple[Condition, ...]
) -> Iterator[ConsumedRecord]:
    for record in sorted(batch, key=lambda each: (each.timestamp_ms, each.partition, each.offset)):
        if key is not None and (record.key or b"").decode(errors="replace") != key:
            continue
        if not where or _holds(readable(record, headers=True), where):
            yield record


def _holds(shown: Mapping[str, Any], where: tuple[Condition, ...]) -> bool:
    """Hold conditions to the value's fields, and to what is beside them: partition, rejected, headers.produced_by."""
    value = shown.get("value")
    fields = {**shown, **(value if isinstance(value, dict) else shown.get("partial") or {})}
    return all(condition.holds(fields) for condition in where)


def _first(records: Iterator[ConsumedRecord], count: int | None) -> Iterator[ConsumedRecord]:
    for number, record in enumerate(records, start=1):
        yield record
        if number == count:
            return


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    value = row.get("value")
    fields = value if isinstance(value, dict) else {name: row[name] for name in ("rejected", "detail") if name in row}
    plain = {name: cell for name, cell in fields.items() if cell is None or isinstance(cell, _SCALARS)}
    return {name: row[name] for name in ("partition", "offset", "time", "key")} | plain


def _require_on_broker(bootstrap: str, name: str) -> None:
    """Refuse a name that neither the registry nor the broker has: most likely it was mistyped."""
    must = (
        f"topic must be one of {', '.join(each.name for each in TOPICS)} (or its .dead), or on the broker, was {name}"
    )
    try:
        names = topic_names(bootstrap, answer_ms_max=UNLISTED_ANSWER_MS_MAX)
    except BrokerError as error:
        raise BrokerError(f"{must}; the broker was not there to ask: {error}") from error
    if name not in names:
        raise BrokerError(must)


topics_data.register(app)
