"""`hcp explain`: why a decision was made, from TimescaleDB when it has it, else from the topics themselves."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Annotated, Any, Final, Protocol

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hcp.cli import explaining
from hcp.cli.explaining import PHASES, DeviceResult, Explained
from hcp.codecs import decode
from hcp.errors import BrokerError, HcpError, StoreError
from hcp.kafka.tail import tail
from hcp.model.commands import ControllerResult, DecisionAction, DeviceOutcome, OrchestratorCommand
from hcp.model.recommendations import ModeScore
from hcp.model.units import MS_PER_MINUTE
from hcp.settings import Settings, load_settings
from hcp.topics import CONTROLLER_RESULT, OPTIMIZER_RECOMMENDATION, ORCHESTRATOR_COMMAND, Topic
from sinks.timescale.decisions import DecisionHistory

PREFIX_MIN: Final = 8
LISTED_MAX: Final = 10
NEWEST_LISTED: Final = 5
EVERYTHING: Final = 2**40
HEADINGS: Final = (
    "mode", "revenue", "energy", "demand", "wear", "profit", "gain", "switch cost", "payback", "confidence",
    "break-even", "movable", "switching",
)  # fmt: skip


class Source(Protocol):
    """Where decisions can be read."""

    def beginning_with(self, prefix: str, *, count_max: int) -> list[OrchestratorCommand]:
        """Return decisions whose id begins so, newest first."""

    def newest(self, *, count_max: int, facility_id: str | None) -> list[OrchestratorCommand]:
        """Return the newest decisions."""

    def explained(self, decision: OrchestratorCommand) -> Explained:
        """Return a decision with all that is known of it."""


class Database:
    """Decisions from TimescaleDB."""

    def __init__(self, history: DecisionHistory) -> None:
        """Ask `history`."""
        self._history = history
        self.beginning_with, self.newest = history.beginning_with, history.newest

    def explained(self, decision: OrchestratorCommand) -> Explained:
        """Return a decision with its recommendation and results."""
        results = tuple(
            DeviceResult(
                outcome=DeviceOutcome(row["outcome"]), phases_ms={phase: row[f"{phase}_ms"] for phase in PHASES}
            )
            for row in self._history.results(decision.command_id)
        )
        return Explained(decision=decision, recommendation=self._history.recommendation(decision), results=results)


class Topics:
    """Decisions from Kafka, for a platform without its database; each question reads a topic from its start."""

    def __init__(self, bootstrap: str) -> None:
        """Read from `bootstrap`."""
        self._bootstrap = bootstrap

    def beginning_with(self, prefix: str, *, count_max: int) -> list[OrchestratorCommand]:
        """Return decisions whose id begins so, newest first."""
        return [each for each in self._decisions() if each.command_id.startswith(prefix)][:count_max]

    def newest(self, *, count_max: int, facility_id: str | None) -> list[OrchestratorCommand]:
        """Return the newest decisions, of one site or of all."""
        return [each for each in self._decisions() if facility_id in {None, each.facility_id}][:count_max]

    def explained(self, decision: OrchestratorCommand) -> Explained:
        """Return a decision with its recommendation and results."""
        wanted = decision.recommendation_id
        advice = next((each for each in self._read(OPTIMIZER_RECOMMENDATION) if each.recommendation_id == wanted), None)
        answers = [] if decision.action is DecisionAction.HOLD else self._read(CONTROLLER_RESULT)
        unique = {each.command_id: each for each in answers if each.decision_id == decision.command_id}
        results = tuple(device for answer in unique.values() for device in _devices_of(answer))
        return Explained(decision=decision, recommendation=advice, results=results)

    def _decisions(self) -> list[OrchestratorCommand]:
        unique = {each.command_id: each for each in self._read(ORCHESTRATOR_COMMAND)}
        return sorted(unique.values(), key=lambda each: (-each.observed_at_ms, each.command_id))

    def _read(self, topic: Topic) -> Iterator[Any]:
        for record in tail(self._bootstrap, topic.name, last=EVERYTHING, follow=False):
            value = decode(record.value)
            if isinstance(value, topic.record):
                yield value


def explain(
    decision_id: Annotated[
        str | None, typer.Argument(help="Id of the decision; its first 8 characters are enough.")
    ] = None,
    last: Annotated[bool, typer.Option("--last", help="The newest decision instead.")] = False,
    facility: Annotated[str | None, typer.Option(help="With --last: the newest of this site.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as one JSON object.")] = False,
) -> None:
    """Say why devices were switched, or not: every term, the threshold, what would have flipped it, what caused it."""
    if (decision_id is None) is not last:
        raise HcpError("a decision must be named, by its id or by --last, was neither or both")
    prefix = None if decision_id is None else _checked(decision_id)
    with ExitStack() as cleanup:
        found = _found(_sources(load_settings(), cleanup), prefix=prefix, facility_id=facility)
    if as_json:
        typer.echo(json.dumps(_plain(found), ensure_ascii=False))
    else:
        _print(found, Console(highlight=False, soft_wrap=True))


def _checked(decision_id: str) -> str:
    prefix = decision_id.lower()
    if len(prefix) < PREFIX_MIN or set(prefix) - set("0123456789abcdef-"):
        raise HcpError(f"decision id must be {PREFIX_MIN} or more of its characters 0-9, a-f and -, was {decision_id}")
    return prefix


def _sources(settings: Settings, cleanup: ExitStack) -> Iterator[Source]:
    """Yield the database when it answers, then the topics."""
    try:
        history = DecisionHistory(settings.timescale_dsn.get_secret_value())
    except StoreError:
        pass  # the topics are asked next; should they not answer either, that is said
    else:
        cleanup.callback(history.close)
        yield Database(history)
    yield Topics(settings.kafka_bootstrap)


def _found(sources: Iterator[Source], *, prefix: str | None, facility_id: str | None) -> Explained:
    """Return what the first source has that knows the decision.

    Raises:
        HcpError: None knows it, or several decisions begin so.
    """
    newest: list[OrchestratorCommand] = []
    answered, failure = False, None
    for source in sources:
        try:
            if prefix is None:
                decisions = source.newest(count_max=1, facility_id=facility_id)
            else:
                decisions = source.beginning_with(prefix, count_max=LISTED_MAX)
            if len(decisions) > 1:
                raise HcpError(f"decision id must begin one decision only, was {prefix}: {_ids(decisions)}")
            if decisions:
                return source.explained(decisions[0])
            newest = newest or source.newest(count_max=NEWEST_LISTED, facility_id=None)
            answered = True
        except (StoreError, BrokerError) as error:
            failure = error
    if failure is not None and not answered:
        raise failure
    raise HcpError(f"decision must be one that is kept, was {prefix or 'none'}; the newest: {_ids(newest) or 'none'}")


def _ids(decisions: Sequence[OrchestratorCommand]) -> str:
    return ", ".join(each.command_id for each in decisions)


def _devices_of(answer: ControllerResult) -> Iterator[DeviceResult]:
    columns = {phase: getattr(answer, f"{phase}_ms") for phase in PHASES}
    for place, outcome in enumerate(answer.outcomes):
        yield DeviceResult(outcome=outcome, phases_ms={phase: column[place] for phase, column in columns.items()})


def _plain(found: Explained) -> dict[str, Any]:
    return {
        "decision": msgspec.to_builtins(found.decision),
        "sentence": explaining.sentence(found.decision),
        "counterfactual": explaining.counterfactual(found),
        "cause": explaining.cause_text(found.decision),
        "recommendation": msgspec.to_builtins(found.recommendation),
        "outcomes": explaining.outcome_counts(found.results),
        "phases": [msgspec.to_builtins(phase) for phase in explaining.phase_times(found.results)],
    }


def _print(found: Explained, console: Console) -> None:
    decision = found.decision
    lines = [explaining.sentence(decision), explaining.against_threshold(decision), explaining.counterfactual(found)]
    console.print(escape("\n".join(lines)))
    if found.recommendation is None:
        console.print(f"recommendation {decision.recommendation_id} is no longer kept")
    else:
        console.print(escape(f"prices: {explaining.prices(found.recommendation)}"))
        console.print(escape(f"devices: {explaining.devices_text(found.devices)}"))
        console.print(_modes(found))
    console.print(escape(f"cause: {explaining.cause_text(decision)}    {explaining.cause_command(decision)}"))
    if decision.action is DecisionAction.SWITCH:
        _print_results(found, console)
    console.print(f"decision {decision.command_id}")


def _modes(found: Explained) -> Table:
    table = Table(box=None, pad_edge=False, title="modes, one device; USD/h but for the switch cost in USD")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "mode" else "right", no_wrap=True)
    counts = {} if found.devices is None else {at.mode: at for at in found.devices.modes}
    for row in () if found.scored is None else found.scored.scores:
        at = counts.get(row.mode)
        table.add_row(
            *_cells(row, found),
            f"{at.movable_count:,}" if at is not None else "0",
            f"{at.switching_count:,}" if at is not None else "0",
        )
    return table


def _cells(row: ModeScore, found: Explained) -> tuple[str, ...]:
    decision = found.decision
    marks = [
        word
        for word, mode in (("from", decision.from_mode), ("best", decision.best_mode), ("2nd", decision.runner_up_mode))
        if row.mode is mode
    ]
    return (
        f"{row.mode} ({', '.join(marks)})" if marks else str(row.mode),
        f"{row.revenue_usd_per_hour:.4f}",
        f"{row.energy_cost_usd_per_hour:.4f}",
        f"{row.demand_cost_usd_per_hour:.4f}",
        f"{row.wear_usd_per_hour:.4f}",
        f"{row.profit_usd_per_hour:.4f}",
        f"{row.gain_usd_per_hour:.4f}",
        f"{row.switch_cost_usd:.4f}",
        "never" if row.payback_ms is None else f"{row.payback_ms / MS_PER_MINUTE:,.1f} min",
        f"{row.confidence:.3f}",
        "none" if row.break_even_usd_per_mwh is None else f"{row.break_even_usd_per_mwh:,.2f} USD/MWh",
    )


def _print_results(found: Explained, console: Console) -> None:
    """Print what became of a switch."""
    counts = explaining.outcome_counts(found.results)
    told = ", ".join(f"{outcome} {count:,}" for outcome, count in counts.items())
    console.print(f"what became of it: {told or 'no result yet'}")
    phases = explaining.phase_times(found.results)
    if phases:
        said = ", ".join(f"{phase.phase} {phase.p50_ms:,.1f} / {phase.p99_ms:,.1f}" for phase in phases)
        console.print(f"phases of committed devices, p50 / p99 ms: {said}")
