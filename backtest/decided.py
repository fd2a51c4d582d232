"""Decide again what a live platform decided: the records of its topics through the functions that decided then.

A decision follows from `optimizer.recommendation` in order, and a recommendation from `market.price` and what had been
counted of `resource.state` by then, which it names by offset. So the topics give the same bytes again, whatever the
machine, the load or the number of restarts.
"""

from collections.abc import Iterable, Iterator, Sequence

from hcp.model.commands import OrchestratorCommand
from hcp.model.facilities import Fleet
from hcp.model.markets import MarketPrice
from hcp.model.recommendations import Recommendation
from hcp.model.rejections import Rejected
from hcp.model.resources import ResourceState
from hcp.model.steps import Cause
from streams.inventory import SiteInventory, on_resource_state
from streams.market import MarketState
from streams.optimizer import on_price
from streams.orchestrator import on_recommendation
from streams.policies import Policy
from streams.site import SiteState


def recommended_again(
    prices: Iterable[tuple[MarketPrice, Cause]],
    reports: Sequence[tuple[ResourceState, Cause]],
    *,
    counted_until: Sequence[int | None],
    fleet: Fleet,
) -> Iterator[Recommendation]:
    """Yield what each price of one site led to.

    Args:
        prices: The site's, in the order of their topic.
        reports: The site's, in the order of their topic.
        counted_until: For each price that led to a recommendation, the last offset of `reports` counted in it.
        fleet: As it was.
    """
    market: MarketState | None = None
    inventory: SiteInventory | None = None
    waiting, limits = list(reversed(reports)), iter(counted_until)
    limit: int | None = next(limits, None)
    for price, cause in prices:
        while waiting and limit is not None and waiting[-1][1].offset <= limit:
            report, report_cause = waiting.pop()
            counted = on_resource_state(inventory, report, fleet=fleet, cause=report_cause)
            if not isinstance(counted, Rejected):
                inventory = dict(counted.updates).get(price.facility_id, inventory)
        step = on_price(market, price, inventory=inventory, fleet=fleet, cause=cause)
        if isinstance(step, Rejected):
            continue
        market = dict(step.updates).get(price.facility_id, market)
        for output in step.outputs:
            if isinstance(output, Recommendation):
                yield output
                limit = next(limits, None)


def decided_again(
    recommendations: Iterable[tuple[Recommendation, Cause]], *, fleet: Fleet, policy: Policy
) -> Iterator[OrchestratorCommand]:
    """Yield what each recommendation led to, in the order of their topic."""
    sites: dict[str, SiteState] = {}
    for recommendation, cause in recommendations:
        step = on_recommendation(
            sites.get(recommendation.facility_id), recommendation, fleet=fleet, policy=policy, cause=cause
        )
        if isinstance(step, Rejected):
            continue
        sites.update(step.updates)
        yield from (output for output in step.outputs if isinstance(output, OrchestratorCommand))
