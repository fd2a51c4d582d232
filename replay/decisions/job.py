"""One replay from its records to its files; run by the CLI, or under another version's streams by a child process."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from hcp.model.commands import DecisionAction
from replay.decisions.engine import Replay
from replay.decisions.memory import SiteMemory
from replay.decisions.output import Output, WhatRan, finish
from replay.decisions.plan import Rules
from replay.decisions.records import History


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What of a history is written.

    Attributes:
        sites: Which sites.
        from_ms: First event time.
        to_ms: Event time before which it ends.
    """

    sites: frozenset[str]
    from_ms: int
    to_ms: int


def run_job(
    rules: Rules,
    history: History,
    *,
    stretch: Stretch,
    out: Path,
    memories: Iterable[SiteMemory] = (),
    code: str = "",
    on_decided: Callable[[int], None] = lambda _: None,
) -> WhatRan:
    """Decide a stretch again and write what comes of it.

    What lies before the stretch is decided too, and not written: decisions depend on it.

    Args:
        rules: The plan, made ready.
        history: The records.
        stretch: What is written.
        out: A folder, or a file that ends in `.parquet`.
        memories: What a snapshot knew.
        code: Commit of the streams, where they are not the program's own.
        on_decided: Told the event time of every recommendation.

    Raises:
        HcpError: `out` cannot be written.
    """
    replay = Replay(rules, sites=stretch.sites, memories=memories)
    actions: Counter[DecisionAction] = Counter()
    count = 0
    with Output(out) as output:
        for decided in replay.run(history, until_ms=stretch.to_ms):
            on_decided(decided.recommendation.observed_at_ms)
            if decided.recommendation.observed_at_ms >= stretch.from_ms:
                output.add(decided)
                count += 1
                actions.update(decision.action for decision in decided.decisions)
    what = WhatRan(
        plan=rules.plan,
        code=code,
        fingerprint=rules.fingerprint(),
        sites=tuple(sorted(stretch.sites)),
        from_ms=stretch.from_ms,
        to_ms=stretch.to_ms,
        recommendations=count,
        switches=actions[DecisionAction.SWITCH],
        holds=actions[DecisionAction.HOLD],
        passed_over=dict(sorted(replay.passed_over.items())),
    )
    finish(out, what)
    return what
