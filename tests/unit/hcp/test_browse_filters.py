"""`--where` conditions."""

import pytest

from hcp.browse.filters import conditions
from hcp.errors import SettingsError

FIELDS = {
    "facility_id": "tx-north",
    "value": -12.5,
    "count": 3,
    "is_held": True,
    "owner": None,
    "code": "007",
    "classes": [{"device_class": "h100", "modes": ["mining", "sleep"]}, {"device_class": "s21", "modes": []}],
}


@pytest.mark.parametrize(
    "text",
    [
        "facility_id=tx-north",
        "facility_id!=nd-fargo",
        "facility_id~NORTH",
        "value=-12.5",
        "value=-1.25e1",
        "value<0",
        "value>=-12.5",
        "count=3",
        "count=3.0",
        "is_held=true",
        "owner=null",
        "code=007",
        "code>6",
        "classes.device_class=s21",
        "classes.modes=mining",
        "classes.device_class!=a100",
    ],
)
def test_a_condition_holds(text: str) -> None:
    """Strings, numbers by value, booleans, null, contained text, and any item of a list."""
    (condition,) = conditions([text])
    assert condition.holds(FIELDS)


@pytest.mark.parametrize(
    "text",
    [
        "facility_id=tx",
        "facility_id!=tx-north",
        "value>0",
        "count=30",
        "code=7",
        "is_held=1",
        "is_held>0",
        "owner=",
        "owner>0",
        "nothing=null",
        "nothing!=3",
        "classes.device_class!=h100",
        "classes.modes~mint",
        "facility_id.x=tx-north",
        "facility_id<5",
    ],
)
def test_a_condition_does_not_hold(text: str) -> None:
    """A missing field fails every condition, a string is no number, and `!=` asks it of every item."""
    (condition,) = conditions([text])
    assert not condition.holds(FIELDS)


@pytest.mark.parametrize("text", ["", "value", "=3", "a b=3", "value>", "value<many"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    """The message repeats what was typed."""
    with pytest.raises(SettingsError, match="--where"):
        conditions([text])


def test_a_value_may_hold_signs() -> None:
    """Only the first comparison counts."""
    (condition,) = conditions(["detail=a=b<c"])
    assert condition.holds({"detail": "a=b<c"})
