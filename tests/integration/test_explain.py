"""`hcp explain` on a real database without Kafka, and on real topics without a database: the same answer."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from hcp.kafka.admin import ensure_topics
from hcp.kafka.producer import RecordProducer
from hcp.kafka.records import ConsumedRecord
from hcp.model.commands import ControllerResult, DecisionAction, DecisionReason, OrchestratorCommand
from hcp.model.recommendations import Recommendation
from hcp.model.units import EpochMs
from hcp.stack import StackAddresses
from hcp.topics import topic_of
from sinks.timescale.migrations import migrate
from sinks.timescale.writer import Decoded, Writer
from tests.examples import AT, DECISION, RECOMMENDATION, RESULT
from tests.sink_process import fresh_database

pytestmark = pytest.mark.services
ROOT: Final = Path(__file__).parents[2]
NOWHERE: Final = "127.0.0.1:1"
NO_DATABASE: Final = f"postgresql://nobody@{NOWHERE}/none?connect_timeout=2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The records of this module, at a site of its own; `switch` and `hold` begin alike."""

    site: str
    advice: Recommendation
    switch: OrchestratorCommand
    hold: OrchestratorCommand
    result: ControllerResult

    @property
    def records(self) -> tuple[object, ...]:
        """Return all, the recommendation first."""
        return self.advice, self.switch, self.hold, self.result


def a_history() -> Told:
    """Make records that no other test has."""
    site, stem = f"x{uuid4().hex[:12]}", uuid4().hex[:8]
    advice = replace(RECOMMENDATION, recommendation_id=str(uuid4()), facility_id=site)
    switch = replace(
        DECISION,
        command_id=f"{stem}-1111-4000-8000-{uuid4().hex[:12]}",
        facility_id=site,
        recommendation_id=advice.recommendation_id,
    )
    hold = replace(
        switch,
        command_id=f"{stem}-2222-4000-8000-{uuid4().hex[:12]}",
        action=DecisionAction.HOLD,
        reason=DecisionReason.SWITCH_PENDING,
        to_mode=switch.from_mode,
        device_count=0,
        flip_usd_per_mwh=None,
        observed_at_ms=EpochMs(AT + 60_000),
    )
    result = replace(RESULT, command_id=str(uuid4()), decision_id=switch.command_id, facility_id=site)
    return Told(site=site, advice=advice, switch=switch, hold=hold, result=result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to explain from, and what is there."""

    told: Told
    environment: dict[str, str]

    def explain(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `hcp explain`."""
        return subprocess.run(
            [sys.executable, "-m", "hcp", "explain", *arguments],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "250", **self.environment},  # noqa: TID251  # for a child process
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def explained(self, *arguments: str) -> dict[str, Any]:
        """Return what `hcp explain --json` says."""
        done = self.explain(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said


@pytest.fixture(scope="module", params=["database", "topics"])
def place(request: pytest.FixtureRequest, services: StackAddresses) -> Iterator[Place]:
    """The same history once in a database without Kafka, once on topics without a database."""
    told = a_history()
    if request.param == "topics":
        ensure_topics(services.kafka_bootstrap)
        producer = RecordProducer(bootstrap=services.kafka_bootstrap, produced_by="test")
        for record in (*told.records, told.switch):  # one of them twice: delivery is at least once
            producer.send(record)
        producer.flush()
        producer.close()
        yield Place(
            told=told,
            environment={"HCP_KAFKA_BOOTSTRAP": services.kafka_bootstrap, "HCP_TIMESCALE_DSN": NO_DATABASE},
        )
        return
    with fresh_database(services) as database:
        migrate(database.dsn)
        writer = Writer(database.dsn, sink="t")
        batch = [_in_hand(record, offset) for offset, record in enumerate(told.records)]
        writer.write(batch, expected={}, following={("t", 0): 1}, on_refused=lambda refused: pytest.fail(str(refused)))
        writer.close()
        yield Place(told=told, environment={"HCP_KAFKA_BOOTSTRAP": NOWHERE, "HCP_TIMESCALE_DSN": database.dsn})


def _in_hand(value: object, offset: int) -> Decoded:
    record = ConsumedRecord(
        topic=topic_of(value).name, partition=0, offset=offset, timestamp_ms=AT, key=None, value=b""
    )
    return Decoded(record=record, value=value)


def test_a_switch_is_explained_with_every_term(place: Place) -> None:
    """Decision, all terms, prices, devices, cause and what became of it."""
    told = place.told
    said = place.explained(told.switch.command_id)
    assert said["decision"]["command_id"] == told.switch.command_id
    assert said["cause"] == "market.price[3]@42"
    assert said["outcomes"] == {"committed": 1, "rolled_back": 1}
    assert {phase["phase"]: phase["p99_ms"] for phase in said["phases"]}["total"] == 35.25
    (scored,) = said["recommendation"]["classes"]
    assert [row["mode"] for row in scored["scores"]] == ["mining", "sleep"]
    assert scored["confidence"] == told.advice.classes[0].confidence
    assert said["recommendation"]["market"]["energy_price_usd_per_mwh"] == -12.5
    (devices,) = said["recommendation"]["devices"]
    assert (devices["stale_count"], devices["epoch_sum"]) == (3, 5)
    assert {at["mode"]: at["movable_count"] for at in devices["modes"]} == {"mining": 10, "sleep": 2}


def test_a_person_reads_the_same(place: Place) -> None:
    """The printed form has the sentence, the table, the threshold, the cause and the outcome."""
    done = place.explain(place.told.switch.command_id)
    assert done.returncode == 0, done.stderr
    for words in (
        "ordered up to 12 s21 from sleep to mining",
        "advantage 0.5000 USD a device by the policy's measure, threshold 0.3750 USD",
        "market.price[3]@42",
        "committed 1, rolled_back 1",
        "movable 10 in mining, 2 in sleep",
        "energy -12.50 USD/MWh (0 min old)",
    ):
        assert words in done.stdout
    assert re.search(r"mining \(best\)\s+1\.0000\s+0\.2500\s+0\.1250\s+0\.1250\s+0\.5000", done.stdout), done.stdout


def test_a_hold_is_explained_too(place: Place) -> None:
    """`--last` finds the newest of a site, here a decision not to switch."""
    said = place.explained("--last", "--facility", place.told.site)
    assert said["decision"]["command_id"] == place.told.hold.command_id
    assert said["counterfactual"] == "No energy price alone would have changed it."
    assert said["outcomes"] == {}


def test_an_id_may_be_cut_short_while_it_names_one(place: Place) -> None:
    """Eight characters that two decisions share are answered with both; more of them name one."""
    told = place.told
    assert place.explained(told.hold.command_id[:13])["decision"]["command_id"] == told.hold.command_id
    both = place.explain(told.hold.command_id[:8])
    assert both.returncode == 1
    assert told.hold.command_id in both.stderr
    assert told.switch.command_id in both.stderr


def test_what_is_not_there_is_said_in_one_line(place: Place) -> None:
    """An unknown id names the newest there are; a short or odd one, or none, says what an id must be."""
    unknown = place.explain("00000000-0000")
    assert unknown.returncode == 1
    said = [line for line in unknown.stderr.splitlines() if "rdkafka" not in line]  # its own log of a broker away
    assert len(said) == 1
    assert re.search(r"the newest: [0-9a-f-]{36}", said[0])
    for wrong in (("abc",), ("not-an-id-at-all",), (), ("--last", "00000000")):
        refused = place.explain(*wrong)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
