"""What each class of a site did last: all that a decision remembers of those before it."""

from dataclasses import dataclass, replace
from typing import Final

from hcp.model.commands import DecisionReason
from hcp.model.devices import DeviceMode


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSwitch:
    """A switch that was ordered and not yet seen to have happened.

    Attributes:
        command_id: The order.
        from_mode: Mode left.
        to_mode: Mode wanted.
        ordered_at_ms: Event time.
        ordered_wall_ms: Broker timestamp of the recommendation behind it.
        epoch_sum: Fencing epochs of the class added up when it was ordered; more shows that it was acted on.
        added_kw: Site draw that it adds once done; negative when it lowers it.
    """

    command_id: str
    from_mode: DeviceMode
    to_mode: DeviceMode
    ordered_at_ms: int
    ordered_wall_ms: int
    epoch_sum: int
    added_kw: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A leaky bucket in event time: what was spent and has not yet been won back.

    In any stretch of time no more is spent than the rate gives in it, and one capacity.
    """

    spent: float = 0.0
    at_ms: int = 0

    def left(self, *, rate_per_ms: float, capacity: float, now_ms: int) -> float:
        """Return what may be spent now; 0 or more."""
        return max(capacity - self._kept(rate_per_ms, now_ms), 0.0)

    def after(self, amount: float, *, rate_per_ms: float, now_ms: int) -> "Bucket":
        """Return the bucket once an amount has been spent."""
        return Bucket(spent=self._kept(rate_per_ms, now_ms) + amount, at_ms=now_ms)

    def _kept(self, rate_per_ms: float, now_ms: int) -> float:
        return max(self.spent - rate_per_ms * max(now_ms - self.at_ms, 0), 0.0)


EMPTY: Final = Bucket()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassState:
    """What one class did last.

    Attributes:
        device_class: The class.
        switched_at_ms: Event time of its last switch; None before the first.
        is_powered_up: Whether that switch raised its power.
        pending: The switch under way.
        last_reason: Reason of the last decision published.
        swept_at_ms: Event time when stragglers in a minority mode were last sent after the others; that resets no
            dwell.
        memory: What the policy has made of all intervals so far, in a layout of its own.
        observed_until_ms: End of the last interval in `memory`; 0 before the first.
        unfinished_mode: Where its last switch led when cap or ramp let only some devices go; the others may follow
            without dwell. None when all could.
        raised_at_ms: Event times at which it went to more power within the last hour.
        wear: USD that starts have cost, on average over its devices.
        likely_mode: Where it was last said to be likely to go soon; None when nowhere.
    """

    device_class: str
    switched_at_ms: int | None = None
    is_powered_up: bool = False
    swept_at_ms: int | None = None
    pending: PendingSwitch | None = None
    last_reason: DecisionReason | None = None
    memory: bytes = b""
    observed_until_ms: int = 0
    unfinished_mode: DeviceMode | None = None
    raised_at_ms: tuple[int, ...] = ()
    wear: Bucket = EMPTY
    likely_mode: DeviceMode | None = None

    def likely_in(self, mode: DeviceMode | None) -> "ClassState":
        """Return the same with another likely mode."""
        return replace(self, likely_mode=mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteState:
    """One site; classes sorted by name.

    Attributes:
        facility_id: The site.
        classes: What each did last.
        is_price_stale: Whether the last recommendation's energy price was too old; the alert is sent once.
        decided_at_ms: Event time of the last recommendation decided; 0 before the first.
        decided_offset: Its offset; -1 before the first.
        recommendation_id: That recommendation; empty before the first.
        ramp: kW that raises have added.
    """

    facility_id: str
    classes: tuple[ClassState, ...] = ()
    is_price_stale: bool = False
    decided_at_ms: int = 0
    decided_offset: int = -1
    recommendation_id: str = ""
    ramp: Bucket = EMPTY

    def class_state(self, device_class: str) -> ClassState:
        """Return what a class did last; a fresh state when it never did anything."""
        for state in self.classes:
            if state.device_class == device_class:
                return state
        return ClassState(device_class=device_class)
