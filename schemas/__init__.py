"""The schema registry: one Avro record a file in schemas/avro, retired versions in schemas/avro/retired."""

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

Schema = dict[str, Any]


def current() -> Iterator[tuple[str, Schema]]:
    """Yield (file stem, parsed JSON) of every schema that is written today, sorted by name."""
    yield from _read("avro")


def retired() -> Iterator[tuple[str, Schema]]:
    """Yield every schema that was written once and must still be read."""
    yield from _read("avro/retired")


def _read(folder: str) -> Iterator[tuple[str, Schema]]:
    root = files("schemas").joinpath(folder)
    if not root.is_dir():
        return
    for entry in sorted(root.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".avsc"):
            yield entry.name.removesuffix(".avsc"), json.loads(entry.read_text(encoding="utf-8"))
