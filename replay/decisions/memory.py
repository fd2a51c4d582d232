"""What a replay knows of a site at a moment: the states that agents hold in their tables, and how far they were fed."""

from dataclasses import dataclass

from replay.decisions.followed import Followed
from streams.market import MarketState
from streams.site import SiteState


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteMemory:
    """One site.

    Attributes:
        facility_id: The site.
        site: State of the orchestrator; None before its first recommendation.
        taken_offset: The last record of `optimizer.recommendation` that was taken; -1 before the first.
        market: State of the optimizer; None where recommendations are taken as recorded.
        market_offset: The last record of `market.price` in it; -1 before the first.
        followed: Its devices where a replay's own switches lead, sorted by class; empty where they are as recorded.
    """

    facility_id: str
    site: SiteState | None = None
    taken_offset: int = -1
    market: MarketState | None = None
    market_offset: int = -1
    followed: tuple[Followed, ...] = ()
