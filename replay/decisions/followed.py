"""Devices that go where a replay sends them: recorded counts show where another's switches sent them."""

from dataclasses import dataclass, replace

from hcp.model.commands import OrchestratorCommand
from hcp.model.devices import DeviceMode
from hcp.model.recommendations import ClassDevices, ModeDevices

Counts = tuple[tuple[DeviceMode, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """The devices of one class of a site.

    Attributes:
        device_class: The class.
        counts: Devices by mode, sorted by mode: as first recorded, then where the replay sent them.
        moved: How many it has moved in all; stands for the sum of their fencing epochs.
    """

    device_class: str
    counts: Counts
    moved: int = 0


def seen(known: Followed | None, recorded: ClassDevices) -> Followed:
    """Return the class once a recommendation has shown how many devices it has.

    Devices never counted before join those in the mode of most. Fewer than known changes nothing: they are a customer's
    or stale for a time, and will be back.
    """
    if known is None:
        counts = [(each.mode, each.movable_count + each.switching_count) for each in recorded.modes]
        return Followed(device_class=recorded.device_class, counts=_sorted(counts))
    more = _free(recorded) - _total(known.counts)
    if more <= 0:
        return known
    return replace(known, counts=_changed(known.counts, _majority(known.counts, recorded), more))


def as_counted(known: Followed, recorded: ClassDevices) -> ClassDevices:
    """Return what the orchestrator is to be told: as many free devices as recorded, in the modes known here.

    Those that are not free now are missed in the modes of most devices.
    """
    counts, missing = dict(known.counts), max(_total(known.counts) - _free(recorded), 0)
    while missing:
        mode = max(sorted(counts), key=lambda each: counts[each])
        taken = min(missing, counts[mode])
        counts[mode] -= taken
        missing -= taken
    return ClassDevices(
        device_class=known.device_class,
        modes=tuple(
            ModeDevices(mode=mode, movable_count=count, switching_count=0)
            for mode, count in sorted(counts.items())
            if count
        ),
        stale_count=recorded.stale_count,
        epoch_sum=known.moved,
    )


def switched(known: Followed, command: OrchestratorCommand) -> Followed:
    """Return the class once a switch has been done: at once, and as far as there are devices to move."""
    count = min(command.device_count, dict(known.counts).get(command.from_mode, 0))
    if not count:
        return known
    left = _changed(known.counts, command.from_mode, -count)
    return replace(known, counts=_changed(left, command.to_mode, count), moved=known.moved + count)


def _free(recorded: ClassDevices) -> int:
    return sum(each.movable_count + each.switching_count for each in recorded.modes)


def _total(counts: Counts) -> int:
    return sum(count for _, count in counts)


def _majority(counts: Counts, recorded: ClassDevices) -> DeviceMode:
    """Return the mode of most devices; without any, the one most are recorded in."""
    known = counts or tuple((each.mode, each.movable_count + each.switching_count) for each in recorded.modes)
    return max(known, key=lambda pair: pair[1])[0]


def _changed(counts: Counts, mode: DeviceMode, by: int) -> Counts:
    return _sorted([*(pair for pair in counts if pair[0] is not mode), (mode, dict(counts).get(mode, 0) + by)])


def _sorted(counts: list[tuple[DeviceMode, int]]) -> Counts:
    return tuple(sorted(pair for pair in counts if pair[1]))
