"""Records as people type them, and what is said of mistakes."""

import json
from typing import Any

import msgspec
import pytest

from hcp.browse.typed import Mistake, typed_records
from hcp.model.units import EpochMs
from hcp.topics import ALERTS
from tests.examples import ALERT

NOW = EpochMs(ALERT.observed_at_ms + 1_000)
FIELDS: dict[str, Any] = msgspec.to_builtins(ALERT)


def _typed(*lines: str) -> list[Any]:
    return list(typed_records(lines, ALERTS, at_ms=NOW))


def test_fields_and_what_tail_prints_become_records() -> None:
    """Blank lines are passed over; the value is taken out of what tail prints."""
    shown = {"topic": "alerts", "partition": 3, "offset": 17, "time": "-", "key": "x", "value": FIELDS}
    assert _typed(json.dumps(FIELDS), "", "  \n", json.dumps(shown)) == [ALERT, ALERT]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"severity": "loud"}, "severity: Invalid enum value 'loud'"),
        ({"facility_id": 3}, "facility_id: Expected `str`, got `int`"),
        ({"facility_id": "Über"}, "facility_id must be"),
        ({"observed_at_ms": -1}, "observed_at_ms must be"),
        ({"observed_at_ms": NOW + 10**9}, "observed_at_ms must be at most"),
        ({"mesage": "x"}, "mesage: must be a field of Alert, was none"),
    ],
)
def test_a_mistake_names_line_and_field(change: dict[str, Any], words: str) -> None:
    """Kinds, ranges, the future and names that the record does not have."""
    (good, mistake) = _typed(json.dumps(FIELDS), json.dumps({**FIELDS, **change}))
    assert good == ALERT
    assert isinstance(mistake, Mistake)
    assert mistake.line == 2
    assert mistake.words.startswith(words)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rubbish", "must be JSON, was 'rubbish'"),
        ("[1]", "must be a JSON object with the fields of Alert, was '[1]'"),
        ("{}", "Object missing required field"),
        ("[" * 100_000, "must be JSON"),
    ],
)
def test_a_line_that_is_no_object_is_a_mistake(line: str, words: str) -> None:
    """It is said and never raised."""
    (mistake,) = _typed(line)
    assert isinstance(mistake, Mistake)
    assert str(mistake).startswith("line 1: ")
    assert mistake.words.startswith(words)
