"""The audit event of what a person does to topics."""

import getpass
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hcp.model.ids import id_from_content
from hcp.model.ledger import AuditEvent
from hcp.model.units import EpochMs


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Who does it, from where and why."""

    name: str
    origin: str
    why: str | None = None


def operator_here(*, by: str | None = None, why: str | None = None) -> Operator:
    """Return who runs this process; `by` names the person where the account does not."""
    return Operator(name=by or getpass.getuser(), origin=socket.gethostname(), why=why)


def audit_of(
    operator: Operator,
    *,
    action: str,
    subject: str,
    at_ms: EpochMs,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    identity: tuple[str | int, ...] | None = None,
) -> AuditEvent:
    """Word what was done.

    Args:
        operator: By whom.
        action: snake_case, such as dead.redriven.
        subject: What it was done to, without spaces.
        at_ms: When.
        before: State before; None for none.
        after: State after; the operator's reason is put beside it.
        identity: What the id is made of, where that is not action, subject, operator and time.
    """
    told = {**(after or {}), **({} if operator.why is None else {"why": operator.why})}
    return AuditEvent(
        audit_id=id_from_content(*(identity or (action, subject, operator.name.replace("|", "/"), at_ms))),
        actor=operator.name,
        action=action,
        subject=subject,
        origin=operator.origin,
        before=_words(before),
        after=_words(told),
        observed_at_ms=at_ms,
    )


def _words(state: Mapping[str, Any] | None) -> str | None:
    return json.dumps(state, sort_keys=True) if state else None
