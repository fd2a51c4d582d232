"""What tells a replay from what is live: the names of its topics, and a header on every record of it."""

import re
from typing import Final

from hcp.errors import SettingsError
from hcp.kafka.records import ConsumedRecord
from hcp.model.rejections import Rejected, RejectReason
from hcp.topics import topic_named

HEADER: Final = "hcp_replay"
"""Names the replay."""
SOURCE_HEADER: Final = "hcp_replay_of"
"""Where the record lay: its address."""
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]")


def replay_name(words: str) -> str:
    """Return a replay's name.

    Raises:
        SettingsError: It is none: 2 to 40 of a-z, 0-9 and -, so that no topic of the registry can begin with it.
    """
    if _NAME.fullmatch(words) is None:
        raise SettingsError(f"a replay's name must be 2 to 40 of a-z, 0-9 and -, was {words!r}")
    return words


def topic_in(replay: str, topic: str) -> str:
    """Return the name that a topic has in a replay; no topic of the registry has such a name."""
    name = f"{replay_name(replay)}.{topic}"
    if topic_named(name) is not None:
        raise SettingsError(f"a replay must write to no live topic, was {name}")
    return name


def refused_if_replayed(record: ConsumedRecord) -> Rejected | None:
    """Return why a record must not be acted upon: it happened once already."""
    for name, value in record.headers:
        if name == HEADER:
            detail = f"a record must be live, was of replay {value.decode(errors='replace')[:64]}"
            return Rejected(reason=RejectReason.REPLAYED, detail=detail)
    return None
