"""The orchestrator killed, doubled and fed bad bytes: its decisions stay those that follow from the topic's order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from hcp.codecs import encode
from hcp.fleet import load_fleet
from hcp.kafka.admin import group_lag
from hcp.kafka.producer import RecordProducer
from hcp.model.commands import DecisionAction, OrchestratorCommand
from hcp.model.devices import DeviceMode
from hcp.model.ids import id_from_content
from hcp.model.recommendations import ClassDevices, ModeDevices, Recommendation
from hcp.model.rejections import DeadLetter, RejectReason
from hcp.model.units import MS_PER_HOUR, EpochMs, UsdPerHour
from hcp.topics import OPTIMIZER_RECOMMENDATION, ORCHESTRATOR_COMMAND
from tests.agent_process import ROOT, AgentProcesses, Reader
from tests.decision_history import decided_again
from tests.examples import AT, PRICE, RECOMMENDATION
from tests.fix_services import OwnStack
from tests.sink_process import wait_until

pytestmark = pytest.mark.services
FLEET: Final = load_fleet(ROOT / "fleet.demo.toml")
SITES: Final = tuple(site.facility_id for site in FLEET.facilities)
POLICY: Final = "greedy"
GROUP: Final = "hcp-orchestrator"
HOURS_A_ROUND: Final = 150
KILLS: Final = 3
ASICS: Final = 12


@dataclass(slots=True, kw_only=True)
class Flow:
    """Orchestrators, what they read and what they said, on this module's own broker."""

    bootstrap: str
    agents: AgentProcesses
    producer: RecordProducer
    reader: Reader
    hour: int = 0

    def start(self, *, instance: str = "0") -> None:
        """Start an orchestrator."""
        self.agents.start("orchestrator", "--policy", POLICY, instance=instance)

    def send_round(self) -> None:
        """Send the recommendations of the next hours, of all sites."""
        for hour in range(self.hour, self.hour + HOURS_A_ROUND):
            for site in SITES:
                self.producer.send(_recommendation(site, hour))
        self.hour += HOURS_A_ROUND
        self.producer.flush()

    def command_count(self) -> int:
        """Return how many commands have been read."""
        return len(self.reader.present(lambda _, value: isinstance(value, OrchestratorCommand)))

    def settle(self) -> None:
        """Wait until all is decided and committed, and read what was decided."""
        wait_until(lambda: group_lag(self.bootstrap, GROUP, [OPTIMIZER_RECOMMENDATION.name]) == 0, "all decided")
        while self.reader.poll():
            pass


@pytest.fixture(scope="module")
def flow(own_stack: OwnStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """Give the flow without an orchestrator; end whatever a test has started."""
    bootstrap = own_stack.addresses.kafka_bootstrap
    agents = AgentProcesses(bootstrap=bootstrap, directory=tmp_path_factory.mktemp("agents"))
    topics = (OPTIMIZER_RECOMMENDATION.name, ORCHESTRATOR_COMMAND.name, OPTIMIZER_RECOMMENDATION.dead)
    reader = Reader(bootstrap=bootstrap, topics=topics)
    producer = RecordProducer(bootstrap=bootstrap, produced_by="test")
    try:
        yield Flow(bootstrap=bootstrap, agents=agents, producer=producer, reader=reader)
    finally:
        agents.stop_all()
        reader.close()
        producer.close()


def _recommendation(site: str, hour: int) -> Recommendation:
    """Recommend the other mode every few hours, for devices that are in the one recommended before."""
    wants_mining = hour // 3 % 2 == 0
    best, other = (DeviceMode.MINING, DeviceMode.SLEEP) if wants_mining else (DeviceMode.SLEEP, DeviceMode.MINING)
    known = RECOMMENDATION.classes[0]
    scores = (
        replace(known.scores[0], mode=best),
        replace(known.scores[1], mode=other, gain_usd_per_hour=UsdPerHour(1.0 + hour % 7)),
    )
    is_turn = hour % 3 == 0
    counts = ((other, ASICS), (best, 0)) if is_turn else ((best, ASICS), (other, 0))
    modes = tuple(ModeDevices(mode=mode, movable_count=count, switching_count=0) for mode, count in counts)
    at_ms = EpochMs(AT + hour * MS_PER_HOUR)
    return replace(
        RECOMMENDATION,
        recommendation_id=id_from_content("fault", site, hour),
        facility_id=site,
        observed_at_ms=at_ms,
        market=replace(RECOMMENDATION.market, energy_observed_at_ms=at_ms),
        classes=(replace(known, best_mode=best, runner_up_mode=other, scores=scores),),
        devices=(
            ClassDevices(device_class=known.device_class, modes=modes, stale_count=0, epoch_sum=hour // 3 * ASICS),
        ),
        cause_offset=hour,
        cause_timestamp_ms=at_ms,
    )


def _assert_decided(flow: Flow) -> None:
    """Each decision that follows from the topic was sent, and no other; the same bytes may come more than once."""
    flow.settle()
    read = flow.reader.present(lambda _, value: isinstance(value, Recommendation))
    assert len(read) == flow.hour * len(SITES)
    again = decided_again([record for record, _ in read], fleet=FLEET, policy=POLICY)
    live = {record.value for record, value in flow.reader.seen if isinstance(value, OrchestratorCommand)}
    assert live == {encode(command) for command in again}
    switched = {command.facility_id for command in again if command.action is DecisionAction.SWITCH}
    assert switched == set(SITES)
    assert len(again) > flow.hour


def _wait_for_more(flow: Flow, is_enough: Callable[[], bool]) -> None:
    def is_read() -> bool:
        flow.reader.poll()
        return is_enough()

    wait_until(is_read, "more commands")


def test_an_orchestrator_killed_in_the_middle_decides_what_it_would_have(flow: Flow) -> None:
    """Kill -9 in the middle of recommendations, more than once: the decisions of one undisturbed run."""
    for _ in range(KILLS):
        flow.send_round()
        before = flow.command_count()
        flow.start()
        _wait_for_more(flow, lambda before=before: flow.command_count() > before)  # type: ignore[misc]
        flow.agents.kill("orchestrator")
    assert group_lag(flow.bootstrap, GROUP, [OPTIMIZER_RECOMMENDATION.name]) > 0, "the last was killed at work"
    flow.start()
    _assert_decided(flow)


def test_a_second_orchestrator_joins_in_the_middle_and_outlives_the_first(flow: Flow) -> None:
    """Partitions change hands with their state, at a join and at a kill -9: no decision differs."""
    flow.send_round()
    flow.start(instance="1")
    flow.send_round()
    flow.agents.kill("orchestrator")
    flow.send_round()
    _assert_decided(flow)
    assert flow.agents.exit_code("orchestrator", instance="1") is None


BAD: Final[tuple[tuple[bytes, RejectReason], ...]] = (
    (b"", RejectReason.NOT_A_RECORD),
    (b"junk", RejectReason.NOT_A_RECORD),
    (encode(RECOMMENDATION)[:-7], RejectReason.UNDECODABLE),
    (encode(PRICE), RejectReason.WRONG_TYPE),
)


def test_corrupt_recommendations_are_dead_lettered_and_nothing_stops(flow: Flow) -> None:
    """Bytes that are no recommendation, between good ones on each partition: kept whole, and passed by."""
    for site in SITES:
        partition = OPTIMIZER_RECOMMENDATION.partition_of(_recommendation(site, 0))
        for raw, _ in BAD:
            flow.producer.send_raw(OPTIMIZER_RECOMMENDATION.name, site.encode(), raw, partition=partition)
    flow.send_round()
    _assert_decided(flow)
    letters: list[tuple[Any, DeadLetter]] = flow.reader.find(
        lambda _, value: isinstance(value, DeadLetter), count=len(BAD) * len(SITES)
    )
    for site in SITES:
        own = [letter for _, letter in letters if letter.record_key == site.encode()]
        assert [letter.record_value for letter in own] == [raw for raw, _ in BAD]
        assert [letter.reason for letter in own] == [reason for _, reason in BAD]
    assert flow.agents.stop("orchestrator", instance="1") == 0
