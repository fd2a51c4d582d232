"""Turn device reports into the columnar result of a command; pure."""

from collections.abc import Sequence
from typing import Final

from controllers.executor import DeviceReport
from hcp.model.commands import ControllerCommand, ControllerResult
from hcp.model.units import EpochMs

PHASE_MS_MAX: Final = 600_000.0


def result_of(
    command: ControllerCommand,
    reports: Sequence[DeviceReport],
    *,
    controller_id: str,
    started_at_ms: EpochMs,
    finished_at_ms: EpochMs,
) -> ControllerResult:
    """Return the result; every column is as long as the command's."""
    return ControllerResult(
        command_id=command.command_id,
        decision_id=command.decision_id,
        facility_id=command.facility_id,
        cluster_id=command.cluster_id,
        shard_id=command.shard_id,
        device_class=command.device_class,
        from_mode=command.from_mode,
        to_mode=command.to_mode,
        attempt=command.attempt,
        controller_id=controller_id,
        device_indexes=tuple(report.device_index for report in reports),
        epochs=tuple(report.epoch for report in reports),
        outcomes=tuple(report.outcome for report in reports),
        modes=tuple(report.mode for report in reports),
        details=tuple(report.detail for report in reports),
        begin_ms=_phase(reports, "begin"),
        validate_ms=_phase(reports, "validate"),
        pause_ms=_phase(reports, "pause"),
        save_ms=_phase(reports, "save"),
        activate_ms=_phase(reports, "activate"),
        verify_ms=_phase(reports, "verify"),
        commit_ms=_phase(reports, "commit"),
        total_ms=tuple(_total(report) for report in reports),
        settled_ms=tuple(_bounded(report.settled_ms) for report in reports),
        started_at_ms=started_at_ms,
        finished_at_ms=finished_at_ms,
        observed_at_ms=command.observed_at_ms,
    )


def _phase(reports: Sequence[DeviceReport], step: str) -> tuple[float | None, ...]:
    return tuple(_bounded(report.phases_ms.get(step)) for report in reports)


def _total(report: DeviceReport) -> float | None:
    return _bounded(sum(report.phases_ms.values())) if report.phases_ms else None


def _bounded(duration_ms: float | None) -> float | None:
    return None if duration_ms is None else min(round(duration_ms, 3), PHASE_MS_MAX)
