"""`hcp rebuild ...`: what agents and databases hold, made anew from topics alone and held to what is there."""

from collections.abc import Mapping
from typing import Annotated, Final

import typer
from rich.console import Console

from hcp.browse.auditing import audit_of, operator_here
from hcp.cli.processes import FleetFile
from hcp.cli.progress import progress_bar
from hcp.cli.rows import print_rows
from hcp.clock import wall_ms
from hcp.errors import SettingsError
from hcp.fleet import load_fleet
from hcp.kafka.groups import wait_empty
from hcp.kafka.producer import RecordProducer
from hcp.logs import configure_logs
from hcp.settings import Settings, load_settings
from hcp.topics import all_topics, topic_named
from replay.rebuild.job import PRODUCED_BY, RebuiltTable, rebuild, write
from replay.rebuild.tables import AGENTS, MERGED, FoldedTable, Rules, tables_of
from sinks.rebuild.analytics import database_beside, refill
from sinks.rebuild.comparing import ComparedTable, compare
from sinks.rebuild.operational import GROUP as OPERATIONAL_GROUP
from sinks.rebuild.operational import RebuiltTable as RebuiltModelTable
from sinks.rebuild.operational import rebuild_model
from sinks.service import CONNECTIONS_MAX
from streams.policies import policy_named

EXIT_DIFFERENT: Final = 3
KEYS_NAMED: Final = 5

app = typer.Typer(no_args_is_help=True, help="What agents and databases hold, made anew from topics alone.")
AllowGaps = Annotated[bool, typer.Option("--allow-gaps", help="Although retention has eaten the start of a topic.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines instead of a table.")]
_said = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


@app.command()
def agent(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(AGENTS)}.")],
    *,
    table: Annotated[list[str] | None, typer.Option(help="Only this table; may be given again.")] = None,
    policy: Annotated[str, typer.Option(help="The policy that the orchestrator runs with.")] = "threshold",
    write_: Annotated[
        bool, typer.Option("--write", help="Write what differs to the changelog; the agent must be stopped.")
    ] = False,
    why: Annotated[str | None, typer.Option(help="Why, for the audit of --write.")] = None,
    allow_gaps: AllowGaps = False,
    as_json: AsJson = False,
    fleet_file: FleetFile = None,
) -> None:
    """Fold an agent's topics into its tables anew and compare with its changelogs; exit with 3 where they differ.

    The agent may be at work, and ahead of what it has committed. With --write it must be stopped: it recovers from what
    was written, and goes on from where it was.
    """
    settings = load_settings(fleet_file=fleet_file)
    rules = Rules(fleet=load_fleet(settings.fleet_file), policy=policy_named(policy))
    rebuilt = [_rebuilt(settings, each, rules, allow_gaps=allow_gaps) for each in _wanted(name, table)]
    print_rows([_row(each) for each in rebuilt], as_json=as_json)
    for merged in MERGED.get(name, ()):
        _said.print(
            f"{merged}: several topics feed it, in an order that none of them keeps: its changelog is all there is"
        )
    different = [each for each in rebuilt if not each.is_equal]
    for each in different:
        _name_keys(each)
    if different and not write_:
        raise typer.Exit(EXIT_DIFFERENT)
    for each in different:
        written = write(each, bootstrap=settings.kafka_bootstrap)
        anew, held = each.hashes
        after = {"content": anew, "written": written}
        _tell_audit(settings, subject=each.table.changelog, why=why, before={"content": held}, after=after)
        _said.print(f"{each.table.changelog}: {written:,} states written")


@app.command()
def analytics(
    *,
    into: Annotated[
        str | None, typer.Option(help="Name of the new database; default: the live one's, _rebuilt.")
    ] = None,
    topic: Annotated[
        list[str] | None, typer.Option("--topic", "-t", help="Only this topic; may be given again.")
    ] = None,
    connections: Annotated[
        int, typer.Option(help="Partitions are dealt out to so many.", min=1, max=CONNECTIONS_MAX)
    ] = 1,
    comparing: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Hold it to the live database afterwards.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Fill a new database from the topics and compare it with the live one; exit with 3 where they differ.

    It is beside the live one, which nothing touches. Stopped at any moment, it goes on when called again. The live sink
    goes on from it too: point HCP_TIMESCALE_DSN there, or rename.
    """
    settings = load_settings()
    configure_logs(level=settings.log_level, log_format=settings.log_format, process="rebuild")
    live = settings.timescale_dsn.get_secret_value()
    anew = database_beside(live, into)
    names = tuple(_topic(each) for each in topic or ()) or tuple(each.name for each in all_topics())
    with progress_bar() as bar:
        task = bar.add_task("storing", total=None)
        done = refill(
            anew,
            bootstrap=settings.kafka_bootstrap,
            topics=names,
            connections=connections,
            on_ranges=lambda count: bar.update(task, total=count),
            on_stored=lambda count: bar.advance(task, count),
        )
    refused = "".join(f", {count:,} {reason}" for reason, count in sorted(done.refused.items()))
    _said.print(f"{done.records:,} records read now{refused}; {done.rows:,} rows")
    if not comparing:
        return
    with progress_bar() as bar:
        task = bar.add_task("comparing", total=None)
        found = compare(
            live, anew, ranges=done.ranges, on_table=lambda name: bar.update(task, description=f"comparing {name}")
        )
    print_rows([_compared_row(each) for each in found], as_json=as_json)
    if not all(each.is_equal for each in found):
        raise typer.Exit(EXIT_DIFFERENT)


@app.command()
def operational(
    *,
    write_: Annotated[
        bool, typer.Option("--write", help="Put the live tables right; `hcp sink operational` must be stopped.")
    ] = False,
    why: Annotated[str | None, typer.Option(help="Why, for the audit of --write.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fold the topics into status, cost and invoices of workloads anew and compare; exit with 3 where they differ.

    What customers sent is the gateway's own, and on no topic: it stays. The sink may be at work; what it has not come
    to is left out. With --write it must be stopped.
    """
    settings = load_settings()
    if write_:
        wait_empty(settings.kafka_bootstrap, OPERATIONAL_GROUP, what="the sink operational")
    with progress_bar() as bar:
        task = bar.add_task("reading", total=None)
        found = rebuild_model(
            settings.postgres_dsn.get_secret_value(),
            bootstrap=settings.kafka_bootstrap,
            is_writing=write_,
            on_read=lambda count: bar.advance(task, count),
        )
    waiting = f", {found.waiting:,} wait for the sink" if found.waiting else ""
    ignored = "".join(f", {count:,} {reason}" for reason, count in sorted(found.ignored.items()))
    _said.print(f"{found.records:,} records read{waiting}{ignored}")
    print_rows([_model_row(each) for each in found.tables], as_json=as_json)
    if found.is_written:
        content = {each.table: each.content for each in found.tables}
        _tell_audit(
            settings,
            subject="hcp.read_model",
            why=why,
            before={name: held for name, (held, _) in content.items()},
            after={name: anew for name, (_, anew) in content.items()},
        )
        _said.print("the live tables were put right")
    elif not found.is_equal:
        raise typer.Exit(EXIT_DIFFERENT)


def _model_row(rebuilt: RebuiltModelTable) -> dict[str, object]:
    return {
        "table": rebuilt.table,
        "rows anew": rebuilt.rows[1],
        "rows live": rebuilt.rows[0],
        "equal": "yes" if rebuilt.is_equal else "NO",
        "wrong": rebuilt.wrong,
        "missing": rebuilt.missing,
        "unknown": rebuilt.unknown,
        "content anew": rebuilt.content[1],
        "content live": rebuilt.content[0],
    }


def _topic(name: str) -> str:
    if topic_named(name) is None:
        raise SettingsError(f"topic must be one of the registry, see `hcp topics list`, was {name}")
    return name


def _compared_row(compared: ComparedTable) -> dict[str, object]:
    return {
        "table": compared.table,
        "rows anew": compared.anew.rows,
        "rows live": compared.live.rows,
        "equal": "yes" if compared.is_equal else "NO",
        "older than the topics": compared.older,
        "content anew": compared.anew.content,
        "content live": compared.live.content,
    }


def _wanted(name: str, tables: list[str] | None) -> tuple[FoldedTable, ...]:
    if name not in AGENTS:
        raise SettingsError(f"agent must be one of {', '.join(AGENTS)}, was {name}")
    found = tables_of(name)
    unknown = sorted({*(tables or ())} - {each.name for each in found})
    if unknown:
        known = ", ".join(each.name for each in found) or "none that follows from topics alone"
        raise SettingsError(f"table of {name} must be one of {known}, was {unknown[0]}")
    return tuple(each for each in found if not tables or each.name in tables)


def _rebuilt(settings: Settings, table: FoldedTable, rules: Rules, *, allow_gaps: bool) -> RebuiltTable:
    with progress_bar() as bar:
        task = bar.add_task(f"{table.agent}: {table.name}", total=None)
        return rebuild(
            table,
            rules,
            bootstrap=settings.kafka_bootstrap,
            allow_gaps=allow_gaps,
            on_read=lambda count: bar.advance(task, count),
        )


def _row(rebuilt: RebuiltTable) -> dict[str, object]:
    anew, held = rebuilt.hashes
    return {
        "agent": rebuilt.table.agent,
        "table": rebuilt.table.name,
        "records": rebuilt.folded.records,
        "states": len(rebuilt.folded.states),
        "held": len(rebuilt.held),
        "equal": "yes" if rebuilt.is_equal else "NO",
        "wrong": len(rebuilt.wrong),
        "missing": len(rebuilt.missing),
        "unknown": len(rebuilt.unknown),
        "content anew": anew[:16],
        "content held": held[:16],
    }


def _name_keys(rebuilt: RebuiltTable) -> None:
    for what, keys in (("wrong", rebuilt.wrong), ("missing", rebuilt.missing), ("unknown", rebuilt.unknown)):
        if keys:
            more = f" and {len(keys) - KEYS_NAMED:,} more" if len(keys) > KEYS_NAMED else ""
            _said.print(f"{rebuilt.table.name}: {what}: {', '.join(keys[:KEYS_NAMED])}{more}")


def _tell_audit(
    settings: Settings, *, subject: str, why: str | None, before: Mapping[str, object], after: Mapping[str, object]
) -> None:
    producer = RecordProducer(bootstrap=settings.kafka_bootstrap, produced_by=PRODUCED_BY)
    producer.send(
        audit_of(
            operator_here(why=why),
            action="table.rebuilt",
            subject=subject,
            at_ms=wall_ms(),
            before=before,
            after=after,
        )
    )
    producer.close()
