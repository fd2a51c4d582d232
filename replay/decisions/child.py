"""A replay in a process of its own: records from files, decisions to a file, with the streams that it finds.

Run as `python -m replay.decisions.child TASK.json`. It needs of the code around it only what every version of it has:
streams, model, codecs and the fleet file's reader.
"""

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

import streams
from hcp.codecs import encode
from hcp.errors import HcpError
from hcp.fleet import load_fleet
from replay.decisions.engine import Replay
from replay.decisions.plan import Plan, rules_of
from replay.decisions.records import History, read_records

ARGUMENTS: Final = 2
_LENGTH: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the process is told.

    Attributes:
        plan: The rules.
        fleet_file: Fleet description.
        sites: Which sites.
        to_ms: Event time before which it ends.
        recommendations: File of records.
        prices: File of records.
        decided: File to write.
        root: Folder from which the streams must come.
    """

    plan: Plan
    fleet_file: str
    sites: tuple[str, ...]
    to_ms: int
    recommendations: str
    prices: str
    decided: str
    root: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What one recommendation led to, as records would lie on their topics."""

    recommendation: bytes
    decisions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What the process says of itself on standard output."""

    fingerprint: str
    passed_over: dict[str, int]


def read_decided(path: Path) -> Iterator[Encoded]:
    """Yield what a process has written.

    Raises:
        OSError: The file cannot be read.
    """
    decoder = msgspec.msgpack.Decoder(Encoded)
    with path.open("rb") as source:
        while head := source.read(_LENGTH.size):
            yield decoder.decode(source.read(_LENGTH.unpack(head)[0]))


def run(task: Task) -> Ended:
    """Decide and write.

    Raises:
        HcpError: The streams are another version's, or this version knows no such fleet, policy or option.
    """
    found = Path(streams.__file__ or "")
    if not found.is_relative_to(task.root):
        raise HcpError(f"streams must come from {task.root}, was {found}")
    rules = rules_of(task.plan, fleet=load_fleet(Path(task.fleet_file)))
    replay = Replay(rules, sites=frozenset(task.sites))
    history = History(
        recommendations=lambda: read_records(Path(task.recommendations)),
        prices=lambda: read_records(Path(task.prices)),
    )
    encoder = msgspec.msgpack.Encoder()
    with Path(task.decided).open("wb") as out:
        for decided in replay.run(history, until_ms=task.to_ms):
            raw = encoder.encode(
                Encoded(
                    recommendation=encode(decided.recommendation),
                    decisions=tuple(encode(each) for each in decided.decisions),
                )
            )
            out.write(_LENGTH.pack(len(raw)) + raw)
    return Ended(fingerprint=rules.fingerprint(), passed_over=dict(replay.passed_over))


def main(arguments: list[str]) -> int:
    """Run the task of a file; return the exit code."""
    if len(arguments) != ARGUMENTS:
        sys.stderr.write(f"usage: {arguments[0]} TASK.json\n")
        return 2
    try:
        ended = run(msgspec.json.decode(Path(arguments[1]).read_bytes(), type=Task))
    except HcpError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(msgspec.json.encode(ended).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
