"""What a run earned: replays its recommendations and verified switches from Kafka through the pure profit ledger."""

from collections import defaultdict
from typing import Final

from hcp.codecs import decode
from hcp.kafka.tail import tail
from hcp.model.commands import ControllerResult, DeviceOutcome
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Fleet
from hcp.model.recommendations import Recommendation
from hcp.topics import CONTROLLER_RESULT, OPTIMIZER_RECOMMENDATION, Topic
from streams.profit import ProfitLedger, ProfitSummary
from streams.settlement import initial_counts

EVERYTHING: Final = 2**40
Counts = dict[str, defaultdict[DeviceMode, int]]


def profits(bootstrap: str, *, fleet: Fleet) -> ProfitSummary:
    """Return realised profit and both baselines over all that is on the broker, in event time.

    Raises:
        BrokerError: The broker does not answer.
    """
    recommendations = [item for item in _read(bootstrap, OPTIMIZER_RECOMMENDATION) if isinstance(item, Recommendation)]
    results = [item for item in _read(bootstrap, CONTROLLER_RESULT) if isinstance(item, ControllerResult)]
    return ledger_of(recommendations, results, fleet=fleet).summary()


def ledger_of(recommendations: list[Recommendation], results: list[ControllerResult], *, fleet: Fleet) -> ProfitLedger:
    """Merge both histories by event time; a switch decided at a price counts for the interval that begins there."""
    counts = counts_at_start(fleet)
    ledger = ProfitLedger(fleet=fleet)
    events: list[tuple[int, int, Recommendation | ControllerResult]] = [
        *((item.observed_at_ms, 0, item) for item in recommendations),
        *((item.observed_at_ms, 1, item) for item in results),
    ]
    for _, _, item in sorted(events, key=lambda event: event[:2]):
        site = counts[item.facility_id]
        if isinstance(item, ControllerResult):
            _apply(site, item)
        else:
            ledger.add(item, {name: dict(by_mode) for name, by_mode in site.items()})
    return ledger


def counts_at_start(fleet: Fleet) -> dict[str, Counts]:
    """Return the devices by facility, class and mode before anybody decided."""
    return {
        facility.facility_id: {
            name: defaultdict(int, initial_counts(facility, name)) for name in facility.device_classes()
        }
        for facility in fleet.facilities
    }


def _apply(site: Counts, result: ControllerResult) -> None:
    moved = sum(outcome is DeviceOutcome.COMMITTED for outcome in result.outcomes)
    by_mode = site[result.device_class]
    by_mode[result.from_mode] -= moved
    by_mode[result.to_mode] += moved


def _read(bootstrap: str, topic: Topic) -> list[object]:
    return [decode(record.value) for record in tail(bootstrap, topic.name, last=EVERYTHING, follow=False)]
