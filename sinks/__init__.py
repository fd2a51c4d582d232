"""Kafka -> stores: every event exactly once, offsets kept with the effect."""

from typing import Final

SINKS: Final = ("timescale", "operational", "live", "mongo")
