"""`hcp topics ...`: create, list, describe and tail what the registry names."""

import json
import time
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from hcp.codecs import decode
from hcp.codecs.derive import snake_case
from hcp.errors import BrokerError
from hcp.kafka.admin import describe as describe_topics
from hcp.kafka.admin import ensure_topics
from hcp.kafka.records import ConsumedRecord
from hcp.kafka.tail import tail as tail_records
from hcp.model.rejections import Rejected
from hcp.model.units import MS_PER_SECOND
from hcp.settings import load_settings
from hcp.topics import TOPICS, Topic, all_topics, topic_named

app = typer.Typer(no_args_is_help=True, help="Topics of the registry: create, list, describe, tail.")
Name = Annotated[str, typer.Argument(help="Topic, such as market.price or market.price.dead.")]
DAY_MS = 24 * 3_600_000


@app.command()
def create(
    replication: Annotated[int, typer.Option(min=1, max=5, help="Replicas; 3 in production.")] = 1,
) -> None:
    """Create every topic that is missing; running it again changes nothing."""
    made = ensure_topics(load_settings().kafka_bootstrap, replication=replication)
    typer.echo(f"{len(made)} topics created, {len(list(all_topics())) - len(made)} were there")


@app.command(name="list")
def list_topics(
    dead: Annotated[bool, typer.Option("--dead", help="Dead-letter topics only.")] = False,  # a flag
) -> None:
    """List topics with what they hold."""
    names = [topic.dead if dead else topic.name for topic in TOPICS]
    table = Table(box=None, pad_edge=False)
    for heading, justify in (("topic", "left"), ("partitions", "right"), ("records", "right"), ("record", "left")):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    for found in describe_topics(load_settings().kafka_bootstrap, names):
        topic = _known(found.name)
        partitions = str(found.partitions) if found.partitions else "missing: hcp topics create"
        table.add_row(found.name, partitions, f"{found.records:,}", topic.record.__name__)
    Console(highlight=False, soft_wrap=True).print(table)


@app.command()
def describe(name: Name) -> None:
    """Show key, partitions, retention and every field of a topic."""
    topic = _known(name)
    found = describe_topics(load_settings().kafka_bootstrap, [name])[0]
    console = Console(highlight=False, soft_wrap=True)
    kept = "for ever" if topic.retention_ms < 0 else f"{topic.retention_ms // DAY_MS} days"
    console.print(f"{topic.name}: {topic.doc}")
    console.print(f"record {topic.record.__name__} (schemas/avro/{snake_case(topic.record.__name__)}.avsc)")
    console.print(f"key {topic.key}, partitioned by {topic.partition_by}, {topic.partitions} partitions")
    console.print(
        f"cleanup {topic.cleanup}, kept {kept}; on the broker: {found.partitions} partitions, {found.records:,} records"
    )
    if topic.record is not None:
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
    last: Annotated[
        int, typer.Option("--last", "-n", min=0, help="Records to show from the end of each partition.")
    ] = 5,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until Ctrl-C.")] = False,
    key: Annotated[str | None, typer.Option(help="Only records with this key.")] = None,
) -> None:
    """Print decoded records as JSON lines: topic, partition, offset, time, key, value."""
    topic = _known(name)
    for record in tail_records(load_settings().kafka_bootstrap, topic.name, last=last, follow=follow):
        if key is None or (record.key or b"").decode(errors="replace") == key:
            typer.echo(json.dumps(_readable(record), ensure_ascii=False))


def _readable(record: ConsumedRecord) -> dict[str, Any]:
    value = decode(record.value)
    shown: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.timestamp_ms / MS_PER_SECOND)),
        "key": (record.key or b"").decode(errors="replace"),
    }
    if isinstance(value, Rejected):
        return {**shown, "rejected": value.reason.value, "detail": value.detail, "raw": (record.value or b"").hex()}
    return {**shown, "value": msgspec.to_builtins(value)}


def _known(name: str) -> Topic:
    topic = topic_named(name)
    if topic is None:
        raise BrokerError(f"topic must be one of {', '.join(each.name for each in TOPICS)} (or its .dead), was {name}")
    return topic
