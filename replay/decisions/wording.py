"""Differences as rows for people: what a table, a page and JSON lines hold."""

from datetime import UTC, datetime

from hcp.model.commands import DecisionAction, OrchestratorCommand
from hcp.model.units import USD_MICROS_PER_USD
from replay.decisions.difference import ClassDifference, Difference, Differing, Kind

Row = dict[str, object]


def class_rows(found: Difference) -> list[Row]:
    """Return a row a class, and one of all where there are several."""
    rows = [_class_row(each) for each in found.classes]
    if len(rows) > 1:
        names = list(rows[0])[2:]
        total: Row = {"site": "all", "class": ""}
        for name in names:
            cells = [row[name] for row in rows]
            numbers = [cell for cell in cells if isinstance(cell, int | float)]
            total[name] = round(sum(numbers), 2) if len(numbers) == len(cells) else None
        rows.append(total)
    return rows


def _class_row(each: ClassDifference) -> Row:
    return {
        "site": each.facility_id,
        "class": each.device_class,
        "A": each.decisions_a,
        "B": each.decisions_b,
        "same": each.same,
        **{kind.value: each.kinds[kind] for kind in Kind if kind is not Kind.CONTRADICTED or each.kinds[kind]},
        "switches A": each.switches_a,
        "switches B": each.switches_b,
        "USD A": _usd(each.usd_micros_a),
        "USD B": _usd(each.usd_micros_b),
        "B - A": _usd(each.usd_micros),
    }


def differing_row(each: Differing) -> Row:
    """Return what differs in one decision."""
    at = datetime.fromtimestamp(each.either.observed_at_ms / 1_000, tz=UTC)
    changes = each.changes()
    return {
        "time": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "site": each.either.facility_id,
        "class": each.either.device_class,
        "kind": each.kind.value,
        "A": None if each.a is None else in_words(each.a),
        "B": None if each.b is None else in_words(each.b),
        "fields": " ".join(changes) or None,
    }


def in_words(decision: OrchestratorCommand) -> str:
    """Return a decision in a few words: what moves where, and why."""
    if decision.action is DecisionAction.HOLD:
        return f"hold {decision.from_mode} ({decision.reason})"
    moved = f"{decision.device_count} {decision.from_mode} to {decision.to_mode}"
    return f"switch {moved} ({decision.reason})"


def _usd(micros: int | None) -> float | None:
    return None if micros is None else round(micros / USD_MICROS_PER_USD, 2)
