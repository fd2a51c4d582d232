"""Policies: interchangeable answers to "does the best mode pay the switch?"; live, in replay and in backtests alike."""

from typing import Final

from streams.policies.base import Choice, ClassView, Policy, Reading, Timing
from streams.policies.baselines import AlwaysMine, Greedy, Never, Threshold
from streams.policies.lcp import Lcp
from streams.policies.predictive import Predictive

__all__ = ["POLICIES", "POLICY_NAMES", "Choice", "ClassView", "Policy", "Reading", "Timing", "policy_named"]

POLICIES: Final[tuple[Policy, ...]] = (Threshold(), Predictive(), Lcp(), Greedy(), AlwaysMine(), Never())

POLICY_NAMES: Final = ", ".join(policy.name for policy in POLICIES)


def policy_named(name: str) -> Policy:
    """Return the policy of that name; hyphens serve as underscores.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    for policy in POLICIES:
        if policy.name == name.replace("-", "_"):
            return policy
    raise ValueError(f"policy must be one of {POLICY_NAMES}, was {name!r}")
