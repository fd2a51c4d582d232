"""What the orchestrator expects to order soon, so that controllers can prepare for it."""

from dataclasses import dataclass
from typing import Annotated

from hcp.model.devices import DeviceMode
from hcp.model.fields import Field
from hcp.model.types import UUID_PATTERN, DeviceClassId, FacilityId, ObservedAtMs
from hcp.model.units import MS_PER_HOUR, DurationMs


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A switch of a class has become likely, or is so no more. Nobody may switch a device because of it."""

    outlook_id: Annotated[str, Field("Derived from recommendation and class.", pattern=UUID_PATTERN)]
    facility_id: FacilityId
    device_class: DeviceClassId
    from_mode: Annotated[DeviceMode, Field("Mode the class is in.")]
    to_mode: Annotated[
        DeviceMode | None, Field("Mode it may soon be ordered to; null when no switch is likely any more.")
    ]
    probability: Annotated[
        float, Field("That the policy will want that switch within the horizon.", unit="1", minimum=0.0, maximum=1.0)
    ]
    horizon_ms: Annotated[
        DurationMs, Field("How far ahead, event time.", unit="ms", minimum=1, maximum=24 * MS_PER_HOUR)
    ]
    recommendation_id: Annotated[str, Field("The recommendation it was seen in.", pattern=UUID_PATTERN)]
    observed_at_ms: ObservedAtMs
