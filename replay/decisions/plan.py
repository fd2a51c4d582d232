"""What is replayed and under which rules: the policy, its options, the fleet, and what is taken as recorded."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from hcp.errors import SettingsError
from hcp.model.facilities import Fleet
from replay.decisions.options import with_options
from streams.policies import Policy, policy_named
from streams.situation import LIMITS, Limits


class Scores(StrEnum):
    """Where recommendations come from."""

    RECORDED = "recorded"
    """As the optimizer published them."""
    AGAIN = "again"
    """Scored again from `market.price`; in the order, and with the devices counted, as recorded."""


class Devices(StrEnum):
    """Where devices are taken to be."""

    RECORDED = "recorded"
    """Where they were, whatever the replay decides: the same rules give the same bytes as live."""
    FOLLOWED = "followed"
    """Where the replay's own switches lead, at once: what other rules would have done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The rules of a replay, as they are written beside what came of it.

    Attributes:
        policy: By name.
        options: `NAME=VALUE`, as given.
        scores: Where recommendations come from.
        devices: Where devices are taken to be.
    """

    policy: str
    options: tuple[str, ...] = ()
    scores: Scores = Scores.RECORDED
    devices: Devices = Devices.RECORDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """A plan made ready to decide.

    Attributes:
        plan: The plan.
        fleet: With the plan's options.
        policy: With the plan's options.
        limits: With the plan's options.
    """

    plan: Plan
    fleet: Fleet
    policy: Policy
    limits: Limits = LIMITS

    def fingerprint(self) -> str:
        """Return what tells these rules from others, the fleet included: two runs of one history differ only by it."""
        ruled = (self.plan.scores, self.plan.devices, self.policy.name, self.policy, self.limits, self.fleet)
        return hashlib.sha256(msgspec.json.encode(ruled)).hexdigest()


def rules_of(plan: Plan, *, fleet: Fleet) -> Rules:
    """Make a plan ready.

    Raises:
        SettingsError: There is no such policy or option, or a value is out of its range; the message lists what is.
    """
    try:
        policy = policy_named(plan.policy)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    changed = with_options(plan.options, policy=policy, limits=LIMITS, fleet=fleet)
    return Rules(plan=plan, fleet=changed.fleet, policy=changed.policy, limits=changed.limits)


def sites_of(fleet: Fleet, wanted: Sequence[str]) -> frozenset[str]:
    """Return the sites wanted; all of the fleet when none is named.

    Raises:
        SettingsError: The fleet has none of that name.
    """
    known = [site.facility_id for site in fleet.facilities]
    for name in wanted:
        if name not in known:
            raise SettingsError(f"--site must be one of {', '.join(known)}, was {name}")
    return frozenset(wanted or known)
