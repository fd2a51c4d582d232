"""Two runs of decisions side by side: which are the same bytes, which are not, and what that was worth."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from hcp.model.commands import DecisionAction, OrchestratorCommand
from replay.decisions.worth import Key, Worth

_NAMES = tuple(each.name for each in fields(OrchestratorCommand))


class Kind(StrEnum):
    """How a decision differs."""

    CHANGED = "changed"
    ONLY_A = "only in A"
    ONLY_B = "only in B"
    CONTRADICTED = "contradicted"
    """Published more than once in one run, and not as the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run, cut to the stretch that is compared.

    Attributes:
        name: As it was asked for.
        decisions: By command id: it follows from recommendation and class, whatever the rules.
        contradicted: Decisions that a run published again, otherwise.
        worth: What its devices earned; None where that is not known.
    """

    name: str
    decisions: Mapping[str, OrchestratorCommand]
    contradicted: Sequence[OrchestratorCommand]
    worth: Mapping[Key, Worth] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """One decision that is not the same in both; None on the side that has none."""

    kind: Kind
    a: OrchestratorCommand | None
    b: OrchestratorCommand | None

    @property
    def either(self) -> OrchestratorCommand:
        """Return the one that is there."""
        found = self.a or self.b
        assert found is not None, "a difference has a side"
        return found

    def changes(self) -> tuple[str, ...]:
        """Return the names of the fields that differ; none where a side is missing."""
        if self.a is None or self.b is None:
            return ()
        return tuple(name for name in _NAMES if getattr(self.a, name) != getattr(self.b, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassDifference:
    """One class of a site in counts and micro-dollars; the latter None where they are not known."""

    facility_id: str
    device_class: str
    decisions_a: int
    decisions_b: int
    same: int
    kinds: Mapping[Kind, int]
    switches_a: int
    switches_b: int
    usd_micros_a: int | None
    usd_micros_b: int | None

    @property
    def usd_micros(self) -> int | None:
        """Return how much more B earned."""
        if self.usd_micros_a is None or self.usd_micros_b is None:
            return None
        return self.usd_micros_b - self.usd_micros_a


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What two runs came to.

    Attributes:
        classes: Sorted by site and class.
        differing: In the order of event time.
    """

    classes: tuple[ClassDifference, ...]
    differing: tuple[Differing, ...]


def run_of(name: str, decisions: Iterable[OrchestratorCommand], *, worth: Mapping[Key, Worth] | None) -> Run:
    """Return a run; a decision published again as the same bytes (at least once) counts once."""
    known: dict[str, OrchestratorCommand] = {}
    contradicted = [each for each in decisions if known.setdefault(each.command_id, each) != each]
    return Run(name=name, decisions=known, contradicted=contradicted, worth=worth)


def difference(a: Run, b: Run) -> Difference:
    """Compare two runs decision by decision."""
    differing = [
        Differing(
            kind=_kind(a.decisions.get(name), b.decisions.get(name)), a=a.decisions.get(name), b=b.decisions.get(name)
        )
        for name in a.decisions.keys() | b.decisions.keys()
        if a.decisions.get(name) != b.decisions.get(name)
    ]
    differing += [Differing(kind=Kind.CONTRADICTED, a=a.decisions[each.command_id], b=each) for each in a.contradicted]
    differing += [Differing(kind=Kind.CONTRADICTED, a=b.decisions[each.command_id], b=each) for each in b.contradicted]
    differing.sort(key=lambda each: (each.either.observed_at_ms, *_key(each.either), each.kind))
    return Difference(classes=_by_class(a, b, differing), differing=tuple(differing))


def _key(decision: OrchestratorCommand) -> Key:
    return decision.facility_id, decision.device_class


def _kind(a: OrchestratorCommand | None, b: OrchestratorCommand | None) -> Kind:
    if a is None:
        return Kind.ONLY_B
    return Kind.ONLY_A if b is None else Kind.CHANGED


def _by_class(a: Run, b: Run, differing: Iterable[Differing]) -> tuple[ClassDifference, ...]:
    made_a, made_b = (Counter(map(_key, run.decisions.values())) for run in (a, b))
    switched_a, switched_b = (
        Counter(_key(each) for each in run.decisions.values() if each.action is DecisionAction.SWITCH) for run in (a, b)
    )
    kinds: Counter[tuple[Key, Kind]] = Counter((_key(each.either), each.kind) for each in differing)
    keys = {*made_a, *made_b, *(a.worth or ()), *(b.worth or ())}
    return tuple(
        ClassDifference(
            facility_id=key[0],
            device_class=key[1],
            decisions_a=made_a[key],
            decisions_b=made_b[key],
            same=made_a[key] - kinds[key, Kind.CHANGED] - kinds[key, Kind.ONLY_A],
            kinds={kind: kinds[key, kind] for kind in Kind},
            switches_a=switched_a[key],
            switches_b=switched_b[key],
            usd_micros_a=_usd_micros(a, key),
            usd_micros_b=_usd_micros(b, key),
        )
        for key in sorted(keys)
    )


def _usd_micros(run: Run, key: Key) -> int | None:
    if run.worth is None:
        return None
    return run.worth[key].usd_micros if key in run.worth else 0
