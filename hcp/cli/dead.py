"""`hcp dead ...`: what was refused and why, put back after a fix exactly once, or put away."""

import json
from collections import Counter, deque
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from hcp.browse.auditing import operator_here
from hcp.browse.letters import Fate, Letter, Wanted, address_of, dead_topic, fate_of, fates, letters
from hcp.browse.readable import readable_value, text_of
from hcp.browse.redrive import handle, refusal
from hcp.browse.times import time_words
from hcp.cli.bounds import Since, Until, time_ms
from hcp.cli.progress import progress_bar
from hcp.cli.rows import print_rows
from hcp.clock import wall_ms
from hcp.errors import BrokerError, SettingsError
from hcp.kafka.records import address_words
from hcp.model.ledger import AuditEvent
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.units import MS_PER_DAY
from hcp.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Dead letters: list, show, redrive after a fix, discard.")
Addresses = Annotated[list[str] | None, typer.Argument(help="Letters by name, such as 'market.price.dead[0]@17'.")]
Topics = Annotated[
    list[str] | None, typer.Option("--topic", "-t", help="Topic they were refused from; may be given again.")
]
Reasons = Annotated[list[RejectReason] | None, typer.Option("--reason", "-r", help="Why refused; may be given again.")]
Key = Annotated[str | None, typer.Option("--key", "-k", help="Key of the refused record.")]
Text = Annotated[str | None, typer.Option(help="Text that the detail contains, whatever the case.")]
Everything = Annotated[bool, typer.Option("--all", "-a", help="Every open letter there is, where no filter is given.")]
Why = Annotated[str | None, typer.Option(help="Why, for the audit.")]
By = Annotated[str | None, typer.Option(help="Who does it, for the audit; default: this account.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")]
SHOWN: Final = 100
REFUSED_SHOWN: Final = 20
EXIT_REFUSED: Final = 1


def wanted_of(
    addresses: list[str] | None = None,
    *,
    topic: list[str] | None,
    reason: list[RejectReason] | None,
    since: str | None,
    until: str | None,
    key: str | None,
    text: str | None,
) -> Wanted:
    """Read the options that say which letters are meant.

    Raises:
        SettingsError: A name or a time is none.
    """
    return Wanted(
        addresses=tuple(address_of(each) for each in addresses or ()),
        topics=tuple(dead_topic(each) for each in topic or ()),
        reasons=tuple(reason or ()),
        since_ms=time_ms(since, "--since"),
        until_ms=time_ms(until, "--until"),
        key=key,
        text=text,
    )


@app.command(name="list")
def list_letters(
    *,
    topic: Topics = None,
    reason: Reasons = None,
    since: Since = None,
    until: Until = None,
    key: Key = None,
    text: Text = None,
    handled: Annotated[bool, typer.Option("--handled", help="Those redriven and discarded too.")] = False,
    summary: Annotated[bool, typer.Option("--summary", "-s", help="Count by topic, reason and fate.")] = False,
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="Newest of each topic to show.")] = SHOWN,
    as_json: Annotated[bool, typer.Option("--json", "-J", help="JSON lines instead of a table.")] = False,
) -> None:
    """List letters that nobody has handled yet: where, when, from where, why."""
    wanted = wanted_of(topic=topic, reason=reason, since=since, until=until, key=key, text=text)
    found = (each for each in _with_fates(wanted) if handled or each[1] is Fate.OPEN)
    if summary:
        counts = Counter((letter.address.topic, _reason(letter), fate.value) for letter, fate in found)
        rows: list[dict[str, Any]] = [
            {"topic": name, "reason": why, "fate": fate, "letters": count}
            for (name, why, fate), count in sorted(counts.items())
        ]
    else:
        newest: dict[str, deque[dict[str, Any]]] = {}
        for letter, fate in found:
            newest.setdefault(letter.address.topic, deque(maxlen=last)).append(_row(letter, fate))
        rows = [row for held in newest.values() for row in held]
    print_rows(rows, as_json=as_json)


@app.command()
def show(
    address: Annotated[str, typer.Argument(help="Letter by name, such as 'market.price.dead[0]@17'.")],
) -> None:
    """Show a letter whole: why, by whom, its record decoded as far as it can be, and what became of it."""
    bootstrap = load_settings().kafka_bootstrap
    wanted = Wanted(addresses=(address_of(address),))
    letter = next(letters(bootstrap, wanted.addresses[0].topic, wanted), None)
    if letter is None:
        raise BrokerError(f"a letter must lie at {address}, was none: see `hcp dead list`")
    known = fates(bootstrap, since_ms=letter.timestamp_ms)
    typer.echo(json.dumps(_whole(letter, known), indent=2, ensure_ascii=False))


@app.command()
def redrive(
    addresses: Addresses = None,
    *,
    topic: Topics = None,
    reason: Reasons = None,
    since: Since = None,
    until: Until = None,
    key: Key = None,
    text: Text = None,
    everything: Everything = False,
    why: Why = None,
    by: By = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Put refused records back on their topics, each once for ever; those that would be refused again stay."""
    wanted = wanted_of(addresses, topic=topic, reason=reason, since=since, until=until, key=key, text=text)
    _handle(wanted, Fate.REDRIVEN, everything=everything, why=why, by=by, yes=yes, dry_run=dry_run)


@app.command()
def discard(
    addresses: Addresses = None,
    *,
    topic: Topics = None,
    reason: Reasons = None,
    since: Since = None,
    until: Until = None,
    key: Key = None,
    text: Text = None,
    everything: Everything = False,
    why: Why = None,
    by: By = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Put letters away for good: no longer listed, never redriven; the topic keeps them for its retention."""
    wanted = wanted_of(addresses, topic=topic, reason=reason, since=since, until=until, key=key, text=text)
    _handle(wanted, Fate.DISCARDED, everything=everything, why=why, by=by, yes=yes, dry_run=dry_run)


def _handle(
    wanted: Wanted, fate: Fate, *, everything: bool, why: str | None, by: str | None, yes: bool, dry_run: bool
) -> None:
    word = fate.value.removeprefix("dead.")
    if wanted.is_unbound and not everything:
        raise SettingsError("letters must be chosen by name, by a filter or with --all, was none of these")
    if dry_run or not yes:
        count = _foretell(wanted, fate, word)
        if dry_run or count == 0:
            return
        typer.confirm(f"{count:,} letters will be {word}. Go on?", abort=True, err=True)
    with progress_bar() as progress:
        bar = progress.add_task("letters", total=None)
        handled = handle(
            load_settings().kafka_bootstrap,
            wanted,
            fate=fate,
            operator=operator_here(by=by, why=why),
            on_letter=lambda _: progress.advance(bar),
        )
    typer.echo(f"{handled.done:,} {word}, {handled.already:,} handled before, {len(handled.refused):,} refused")
    for letter, words in handled.refused[:REFUSED_SHOWN]:
        typer.echo(f"refused {letter.address}: {words}", err=True)
    if handled.refused:
        raise typer.Exit(EXIT_REFUSED)


def _foretell(wanted: Wanted, fate: Fate, word: str) -> int:
    """Say what would be done; return how many letters."""
    at_ms, count = wall_ms(), 0
    for letter, known in _with_fates(wanted):
        if known is not Fate.OPEN:
            continue
        words = refusal(letter, at_ms=at_ms) if fate is Fate.REDRIVEN else None
        count += words is None
        if words is not None:
            typer.echo(f"would be refused {letter.address}: {words}", err=True)
    typer.echo(f"{count:,} letters would be {word}")
    return count


def _with_fates(wanted: Wanted) -> Iterator[tuple[Letter, Fate]]:
    bootstrap = load_settings().kafka_bootstrap
    known: dict[str, AuditEvent] = {}
    known_since_ms = wall_ms() + MS_PER_DAY  # nothing is known yet
    for topic in wanted.dead_topics:
        for number, letter in enumerate(letters(bootstrap, topic, wanted)):
            if number == 0 and letter.timestamp_ms < known_since_ms:
                known_since_ms = letter.timestamp_ms
                known = fates(bootstrap, since_ms=known_since_ms)
            yield letter, fate_of(letter, known)


def _row(letter: Letter, fate: Fate) -> dict[str, Any]:
    found = letter.letter
    row = {"letter": str(letter.address), "time": time_words(letter.timestamp_ms), "reason": _reason(letter)}
    if not isinstance(found, Rejected):
        row["record"] = address_words(found.source_topic, found.source_partition, found.source_offset)
        row["key"], row["by"] = text_of(found.record_key) or "-", found.rejected_by
    return {**row, "fate": fate.value.removeprefix("dead."), "detail": found.detail}


def _whole(letter: Letter, known: dict[str, AuditEvent]) -> dict[str, Any]:
    fate, found = fate_of(letter, known), letter.letter
    shown = _row(letter, fate)
    if not isinstance(found, Rejected):
        shown["record_time"] = time_words(found.source_timestamp_ms)
        shown["decoded"] = readable_value(found.record_value)
        if fate is Fate.OPEN:
            shown["redrive"] = refusal(letter, at_ms=wall_ms()) or "would be read today"
    if fate is not Fate.OPEN:
        event = known[str(letter.address)]
        shown["handled"] = {"by": event.actor, "at": time_words(event.observed_at_ms), "after": event.after}
    return shown


def _reason(letter: Letter) -> str:
    return f"no dead letter: {letter.letter.reason}" if isinstance(letter.letter, Rejected) else letter.letter.reason
