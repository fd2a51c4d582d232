"""The regret job as a process: every hour once by id and value, across kill -9, duplicates and late records."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from hcp.kafka.producer import RecordProducer
from hcp.kafka.records import ConsumedRecord
from hcp.model.ids import id_from_content
from hcp.model.recommendations import Recommendation
from hcp.model.regret import Regret
from hcp.model.units import MS_PER_MINUTE, EpochMs, UsdPerHour
from hcp.topics import OPTIMIZER_REGRET
from streams.regret import RegretState, on_recommendation_settled
from tests.agent_process import AgentProcesses, Reader
from tests.examples import AT, RECOMMENDATION
from tests.fix_services import OwnStack
from tests.unit.streams.world import DEMO_FLEET, step

pytestmark = pytest.mark.services
INTERVAL_MS: Final = 15 * MS_PER_MINUTE
HOURS: Final = 300
SITES: Final = ("tx-north", "tx-south")


def _advice(site: str, number: int) -> Recommendation:
    """Recommend at the end of the site's `number`-th quarter; mining pays in some and loses in others."""
    end_ms = AT + (number + 1) * INTERVAL_MS
    (scored,) = RECOMMENDATION.classes
    mining, sleep = scored.scores
    profit = UsdPerHour((number * 7 % 11 - 5) / 10)
    return replace(
        RECOMMENDATION,
        recommendation_id=id_from_content("regret-agent", site, number),
        facility_id=site,
        observed_at_ms=EpochMs(end_ms),
        market=replace(RECOMMENDATION.market, energy_observed_at_ms=end_ms, energy_interval_ms=INTERVAL_MS),
        classes=(replace(scored, scores=(replace(mining, profit_usd_per_hour=profit), sleep)),),
    )


def _expected(records: list[Recommendation]) -> list[Regret]:
    """Return the hours that the pure transformation closes."""
    states: dict[str, RegretState] = {}
    hours: list[Regret] = []
    for record in records:
        done = step(on_recommendation_settled(states.get(record.facility_id), record, fleet=DEMO_FLEET))
        states.update(done.updates)
        hours += [output for output in done.outputs if isinstance(output, Regret)]
    return hours


def _end(hour: Regret) -> int:
    return hour.observed_at_ms


def _is(wanted: Regret, _record: ConsumedRecord, value: Any) -> bool:
    return bool(value == wanted)


def test_no_hour_is_lost_or_doubled_across_kill_9(own_stack: OwnStack, tmp_path: Path) -> None:
    """Killed while records flow, the job goes on from its table: the hours are those of the transformation alone."""
    bootstrap = own_stack.addresses.kafka_bootstrap
    agents = AgentProcesses(bootstrap=bootstrap, directory=tmp_path)
    reader = Reader(bootstrap=bootstrap, topics=[OPTIMIZER_REGRET.name, "optimizer.recommendation.dead"])
    producer = RecordProducer(bootstrap=bootstrap, produced_by="test")
    quarters = 4 * HOURS + 1
    told = [_advice(site, number) for number in range(quarters) for site in SITES]
    expected = {hour.regret_id: hour for hour in _expected(told)}
    assert len(expected) == HOURS * len(SITES)

    def send(records: list[Recommendation]) -> None:
        for record in records:
            producer.send(record)
        producer.flush()

    try:
        agents.start("regret")
        send(told[: len(told) // 2])
        reader.find(lambda _, value: isinstance(value, Regret), count=20)  # it is in the middle of them
        agents.kill("regret")
        send(told[len(told) // 4 : len(told) // 2])  # all of them again
        send(told[len(told) // 2 :])
        agents.start("regret")
        for last in [max((hour for hour in expected.values() if hour.facility_id == site), key=_end) for site in SITES]:
            reader.find(partial(_is, last))
        found = [value for _, value in reader.seen]
        assert {value.regret_id: value for value in found} == expected
        assert all(value == expected[value.regret_id] for value in found)
    finally:
        agents.stop_all()
        reader.close()
        producer.close()
