"""Field types that many records share, each with the range and pattern that the edge enforces."""

from typing import Annotated, Final

from hcp.model.fields import Field
from hcp.model.units import EpochMs

EARLIEST_EVENT_MS: Final = EpochMs(1_230_940_800_000)
"""2009-01-03, the first Bitcoin block: no price, device or workload of ours is older."""
LATEST_EVENT_MS: Final = EpochMs(4_102_444_800_000)
"""2100-01-01: a clock that says more is broken."""
DEVICES_PER_SHARD_MAX: Final = 512
NAME_PATTERN: Final = r"[a-z0-9][a-z0-9_-]{0,62}"
CLUSTER_PATTERN: Final = rf"{NAME_PATTERN}\.{NAME_PATTERN}"
SHARD_PATTERN: Final = rf"{CLUSTER_PATTERN}/[0-9]{{2,4}}"
UUID_PATTERN: Final = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

ObservedAtMs = Annotated[
    EpochMs,
    Field(
        "Event time: when this became known.",
        unit="ms since epoch",
        minimum=EARLIEST_EVENT_MS,
        maximum=LATEST_EVENT_MS,
    ),
]
WallMs = Annotated[
    EpochMs,
    Field(
        "Wall clock of the process that did it.",
        unit="ms since epoch",
        minimum=EARLIEST_EVENT_MS,
        maximum=LATEST_EVENT_MS,
    ),
]
FacilityId = Annotated[str, Field("Site, as in fleet.toml.", pattern=NAME_PATTERN)]
ClusterId = Annotated[str, Field("Cluster of one device class: <facility>.<cluster>.", pattern=CLUSTER_PATTERN)]
ShardId = Annotated[str, Field("Up to 512 devices of a cluster: <cluster>/<shard>.", pattern=SHARD_PATTERN)]
DeviceClassId = Annotated[str, Field("Device class, as in fleet.toml.", pattern=NAME_PATTERN)]
DeviceIndexes = Annotated[
    tuple[int, ...],
    Field(
        "Position of each device within its shard; names the row of every column.",
        unit="1",
        minimum=0,
        maximum=DEVICES_PER_SHARD_MAX - 1,
        column=True,
    ),
]
Epochs = Annotated[
    tuple[int, ...],
    Field("Fencing token of each device: a higher one wins.", unit="1", minimum=0, maximum=2**53, column=True),
]
