"""A changelog record that the broker refuses ends the process with one clear line, and costs nothing but a restart."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs name not all
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from hcp.kafka.admin import group_lag
from hcp.kafka.producer import RecordProducer
from hcp.model.markets import MarketPrice
from hcp.model.recommendations import Recommendation
from hcp.model.units import MS_PER_MINUTE, EpochMs
from hcp.topics import MARKET_PRICE, OPTIMIZER_RECOMMENDATION
from tests.agent_process import AgentProcesses, Reader
from tests.examples import AT, PRICE
from tests.fix_services import OwnStack
from tests.sink_process import wait_until

pytestmark = pytest.mark.services
CHANGELOG: Final = "hcp-optimizer-markets-changelog"
GROUP: Final = "hcp-optimizer"
PRICES: Final = 3


def _limit_record_bytes(bootstrap: str, limit: str | None) -> None:
    """Let the broker refuse larger records of the changelog; None sets the limit back."""
    operation = AlterConfigOpType.DELETE if limit is None else AlterConfigOpType.SET
    entry = ConfigEntry("max.message.bytes", limit or "", incremental_operation=operation)
    resource = ConfigResource(ResourceType.TOPIC, CHANGELOG, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap})  # must outlive its answer
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(timeout=90)


def _prices(round_: int) -> list[MarketPrice]:
    minutes = range(round_ * PRICES, (round_ + 1) * PRICES)
    return [replace(PRICE, value=float(at), observed_at_ms=EpochMs(AT + at * MS_PER_MINUTE)) for at in minutes]


def test_a_changelog_record_refused_ends_the_process_and_no_state_is_lost(own_stack: OwnStack, tmp_path: Path) -> None:
    """Faust would log it and commit; here nothing is committed, and the next start does the same events again."""
    bootstrap = own_stack.addresses.kafka_bootstrap
    agents = AgentProcesses(bootstrap=bootstrap, directory=tmp_path)
    producer = RecordProducer(bootstrap=bootstrap, produced_by="test")
    reader = Reader(bootstrap=bootstrap, topics=[OPTIMIZER_RECOMMENDATION.name])
    try:
        agents.start("optimizer")
        _send(producer, _prices(0))
        wait_until(lambda: group_lag(bootstrap, GROUP, [MARKET_PRICE.name]) == 0, "the first prices committed")
        _limit_record_bytes(bootstrap, "1")
        _send(producer, _prices(1))
        wait_until(lambda: agents.exit_code("optimizer") is not None, "the optimizer ended")
        assert agents.exit_code("optimizer") == 1
        assert agents.said("optimizer").count("changelog_lost") == 1
        assert "each changelog record must reach the broker" in agents.said("optimizer")
        assert group_lag(bootstrap, GROUP, [MARKET_PRICE.name]) == PRICES
        _limit_record_bytes(bootstrap, None)
        agents.start("optimizer")
        _send(producer, _prices(2))
        wait_until(lambda: group_lag(bootstrap, GROUP, [MARKET_PRICE.name]) == 0, "all prices committed")
        sent = [price for round_ in range(3) for price in _prices(round_)]
        reader.find(lambda _, value: isinstance(value, Recommendation), count=len(sent))
        while reader.poll():
            pass
        answers = {value.recommendation_id: value for _, value in reader.seen}
        assert [(answer.observed_at_ms, answer.market.energy_price_usd_per_mwh) for answer in answers.values()] == [
            (price.observed_at_ms, price.value) for price in sent
        ]
        assert agents.stop("optimizer") == 0
    finally:
        agents.stop_all()
        reader.close()
        producer.close()


def _send(producer: RecordProducer, prices: list[MarketPrice]) -> None:
    for price in prices:
        producer.send(price)
    producer.flush()
