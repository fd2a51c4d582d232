"""One replay from its records to its files; what lies before the stretch is decided too, as decisions depend on it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hcp.model.commands import DecisionAction
from replay.decisions.engine import Decided, Replay
from replay.decisions.memory import SiteMemory
from replay.decisions.output import Output, WhatRan, finish
from replay.decisions.plan import Plan, Rules
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where decisions come from, for what is written beside them.

    Attributes:
        plan: The rules.
        fingerprint: Of the rules with their fleet.
        code: Commit of the streams; empty for those of the program itself.
    """

    plan: Plan
    fingerprint: str
    code: str = ""


def run_job(
    rules: Rules,
    history: History,
    *,
    stretch: Stretch,
    out: Path,
    memories: Iterable[SiteMemory] = (),
    on_decided: Callable[[int], None] = lambda _: None,
) -> WhatRan:
    """Decide a stretch again with the program's own streams and write what comes of it.

    Args:
        rules: The plan, made ready.
        history: The records.
        stretch: What is written.
        out: A folder, or a file that ends in `.parquet`.
        memories: What a snapshot knew.
        on_decided: Told the event time of every recommendation.

    Raises:
        HcpError: `out` cannot be written.
    """
    replay = Replay(rules, sites=stretch.sites, memories=memories)
    return write(
        replay.run(history, until_ms=stretch.to_ms),
        source=Source(plan=rules.plan, fingerprint=rules.fingerprint()),
        passed_over=replay.passed_over,
        stretch=stretch,
        out=out,
        on_decided=on_decided,
    )


def write(
    found: Iterable[Decided],
    *,
    source: Source,
    passed_over: Mapping[str, int],
    stretch: Stretch,
    out: Path,
    on_decided: Callable[[int], None] = lambda _: None,
) -> WhatRan:
    """Write what was decided within a stretch; `passed_over` is read when all of it has been.

    Raises:
        HcpError: `out` cannot be written.
    """
    actions: Counter[DecisionAction] = Counter()
    count = 0
    with Output(out) as output:
        for decided in found:
            on_decided(decided.recommendation.observed_at_ms)
            if decided.recommendation.observed_at_ms >= stretch.from_ms:
                output.add(decided)
                count += 1
                actions.update(decision.action for decision in decided.decisions)
    what = WhatRan(
        plan=source.plan,
        code=source.code,
        fingerprint=source.fingerprint,
        sites=tuple(sorted(stretch.sites)),
        from_ms=stretch.from_ms,
        to_ms=stretch.to_ms,
        recommendations=count,
        switches=actions[DecisionAction.SWITCH],
        holds=actions[DecisionAction.HOLD],
        passed_over=dict(sorted(passed_over.items())),
    )
    finish(out, what)
    return what
