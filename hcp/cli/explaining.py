"""A decision in words, pure: what was decided, what would have changed it, what caused it and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, floor
from typing import Final

from hcp.kafka.records import address_words
from hcp.model.commands import DecisionAction, DecisionReason, DeviceOutcome, OrchestratorCommand
from hcp.model.recommendations import ClassDevices, ClassRecommendation, Recommendation
from hcp.model.units import MS_PER_MINUTE, MS_PER_SECOND
from streams.policies import POLICIES
from streams.policies.base import Memoryless

PHASES: Final = ("begin", "validate", "pause", "save", "activate", "verify", "commit", "total")
REASONS: Final[dict[DecisionReason, str]] = {
    DecisionReason.GAIN_PAYS: "the gain pays the switch",
    DecisionReason.ALREADY_BEST: "the devices are where the policy wants them",
    DecisionReason.GAIN_TOO_SMALL: "the gain does not pay the switch",
    DecisionReason.CONFIDENCE_TOO_LOW: "the order of the modes is not likely enough to last until payback",
    DecisionReason.DWELL: "the class has switched too recently",
    DecisionReason.MINIMUM_ON_TIME: "the devices have not been on for long enough",
    DecisionReason.MINIMUM_OFF_TIME: "the devices have not been off for long enough",
    DecisionReason.SWITCH_PENDING: "the last switch of the class is still under way",
    DecisionReason.PRICE_STALE: "the energy price is missing or too old",
    DecisionReason.TELEMETRY_STALE: "the devices' telemetry is too old",
    DecisionReason.NO_DEVICES: "no device may be moved",
    DecisionReason.POLICY_NEVER: "the policy never switches",
    DecisionReason.POWER_CAP: "the site would draw more than its power cap",
    DecisionReason.RAMP_LIMIT: "the site's draw would change faster than its ramp limit",
    DecisionReason.SWITCHES_PER_HOUR: "the class has used up its switches of this hour",
    DecisionReason.WEAR_BUDGET: "the class has used up its wear budget",
    DecisionReason.LOSS_FLOOR: "the loss has reached the floor set for it",
    DecisionReason.PRICE_IMPLAUSIBLE: "the price is not plausible",
    DecisionReason.SAFE_STATE: "prices have been missing so long that the class goes to its safe state",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceResult:
    """How one device's switch ended; phases by name in ms, None where it was not reached."""

    outcome: DeviceOutcome
    phases_ms: dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseTime:
    """Percentiles of one phase over committed devices, ms."""

    phase: str
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """All that is known of one decision; the recommendation is None when it is no longer kept."""

    decision: OrchestratorCommand
    recommendation: Recommendation | None
    results: tuple[DeviceResult, ...]

    @property
    def scored(self) -> ClassRecommendation | None:
        """Return the class's scores."""
        classes = () if self.recommendation is None else self.recommendation.classes
        return next((each for each in classes if each.device_class == self.decision.device_class), None)

    @property
    def devices(self) -> ClassDevices | None:
        """Return the class's devices as counted then."""
        devices = () if self.recommendation is None else self.recommendation.devices
        return next((each for each in devices if each.device_class == self.decision.device_class), None)


def sentence(decision: OrchestratorCommand) -> str:
    """Say in one sentence what was decided, when, by which policy and why."""
    when = time_text(decision.observed_at_ms)
    why = REASONS[decision.reason]
    if decision.action is DecisionAction.SWITCH:
        devices = f"{decision.device_count:,} {decision.device_class}"
        what = f"ordered up to {devices} from {decision.from_mode} to {decision.to_mode}"
    else:
        what = f"kept {decision.device_class} in {decision.from_mode}"
    return f"At {when} policy {decision.policy} {what} at {decision.facility_id}: {why} ({decision.reason})."


def counterfactual(explained: Explained) -> str:
    """Say which energy price would have changed the decision, or that none would.

    Whether it must be lower or higher follows from what the two modes draw: dear energy speaks for the one that draws
    less.
    """
    decision = explained.decision
    if remembers(decision.policy):
        return _counterfactual_of_memory(explained)
    if decision.reason is DecisionReason.ALREADY_BEST and decision.from_mode is not decision.best_mode:
        return f"Policy {decision.policy} does not look at the energy price."
    if decision.flip_usd_per_mwh is None:
        return "No energy price alone would have changed it."
    return _counterfactual_of_scores(explained, flip=decision.flip_usd_per_mwh)


def _counterfactual_of_scores(explained: Explained, *, flip: float) -> str:
    decision = explained.decision
    is_switch = decision.action is DecisionAction.SWITCH
    is_best = not is_switch and decision.from_mode is decision.best_mode
    other = decision.runner_up_mode if is_best else decision.best_mode
    watts = {} if explained.scored is None else {row.mode: row.power_watts for row in explained.scored.scores}
    if decision.from_mode not in watts or other not in watts:
        return f"The decision would flip at {flip:,.2f} USD/MWh."
    needs_lower = watts[other] > watts[decision.from_mode]
    if is_switch:  # what holds is the opposite of what switches
        return f"Would have held at {'>' if needs_lower else '<'} {flip:,.2f} USD/MWh."
    sign = "<" if needs_lower else ">"
    if is_best:
        return f"{other} would have been the best mode at {sign} {flip:,.2f} USD/MWh."
    return f"Would have switched to {other} at {sign} {flip:,.2f} USD/MWh."


def remembers(policy: str) -> bool:
    """Say whether a policy decides on more than the scores of one moment."""
    return any(known.name == policy and not isinstance(known, Memoryless) for known in POLICIES)


def _counterfactual_of_memory(explained: Explained) -> str:
    """Say it of a policy that was asked for its choice at other prices, from what it knew before."""
    decision, flip = explained.decision, explained.decision.flip_usd_per_mwh
    energy = None if explained.recommendation is None else explained.recommendation.market.energy_price_usd_per_mwh
    if flip is None:
        return "No other energy price alone would have changed it, or it did not follow a new one."
    verb = "held" if decision.action is DecisionAction.SWITCH else "switched"
    if energy is None:
        return f"Would have {verb} at {flip:,.2f} USD/MWh."
    return f"Would have {verb} at {'>' if flip > energy else '<'} {flip:,.2f} USD/MWh."


def against_threshold(decision: OrchestratorCommand) -> str:
    """Say the gain or advantage, the threshold, the runner-up and the confidence."""
    if decision.advantage_usd is not None and decision.advantage_threshold_usd is not None:
        return (
            f"advantage {decision.advantage_usd:.4f} USD a device by the policy's measure, threshold "
            f"{decision.advantage_threshold_usd:.4f} USD; gain now {decision.gain_usd_per_hour:.4f} USD/h by "
            f"{decision.best_mode}, runner-up {decision.runner_up_mode}, confidence {decision.confidence:.3f}"
        )
    return (
        f"gain {decision.gain_usd_per_hour:.4f} USD/h a device by {decision.best_mode}, threshold "
        f"{decision.threshold_usd_per_hour:.4f} USD/h, switch cost {decision.switch_cost_usd:.4f} USD, runner-up "
        f"{decision.runner_up_mode}, confidence {decision.confidence:.3f}"
    )


def prices(recommendation: Recommendation) -> str:
    """Say the prices and how old they were, in event time."""
    market, now_ms = recommendation.market, recommendation.observed_at_ms
    said = [
        f"energy {_price(market.energy_price_usd_per_mwh, 'USD/MWh')}{_age(market.energy_observed_at_ms, now_ms)}",
        f"bitcoin {_price(market.btc_price_usd, 'USD')}{_age(market.btc_observed_at_ms, now_ms)}",
    ]
    if market.difficulty is not None:
        said.append(f"difficulty {market.difficulty:.4g}")
    if market.hash_price_usd_per_th_hour is not None:
        said.append(f"hash price {market.hash_price_usd_per_th_hour:.6f} USD/(TH/s*h)")
    if market.implausible:
        said.append(f"not believed: {market.implausible}")
    return ", ".join(said)


def devices_text(devices: ClassDevices | None) -> str:
    """Say what there was to move."""
    if devices is None:
        return "none counted"
    movable = ", ".join(f"{at.movable_count:,} in {at.mode}" for at in devices.modes) or "none"
    switching = sum(at.switching_count for at in devices.modes)
    return f"movable {movable}; switching {switching:,}; stale {devices.stale_count:,}"


def cause_text(decision: OrchestratorCommand) -> str:
    """Name the input record that caused the decision."""
    return address_words(decision.cause_topic, decision.cause_partition, decision.cause_offset)


def cause_command(decision: OrchestratorCommand) -> str:
    """Return the command that shows that record, while the topic keeps it."""
    return (
        f"hcp topics tail {decision.cause_topic} -n 1000000 --key {decision.facility_id} "
        f"| grep '\"offset\": {decision.cause_offset},'"
    )


def outcome_counts(results: Sequence[DeviceResult]) -> dict[str, int]:
    """Count devices by how their switch ended, most first."""
    counts: dict[str, int] = {}
    for result in results:
        counts[result.outcome.value] = counts.get(result.outcome.value, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def phase_times(results: Sequence[DeviceResult]) -> list[PhaseTime]:
    """Return the percentiles of each phase that committed devices went through."""
    committed = [result for result in results if result.outcome is DeviceOutcome.COMMITTED]
    found = []
    for phase in PHASES:
        times = sorted(ms for result in committed if (ms := result.phases_ms.get(phase)) is not None)
        if times:
            found.append(PhaseTime(phase=phase, p50_ms=percentile(times, 0.5), p99_ms=percentile(times, 0.99)))
    return found


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile of ordered values as PostgreSQL's percentile_cont does; `share` is 0..1."""
    place = share * (len(ordered) - 1)
    low, high = ordered[floor(place)], ordered[ceil(place)]
    return low + (high - low) * (place - floor(place))


def time_text(at_ms: int) -> str:
    """Return an event time as UTC text."""
    return datetime.fromtimestamp(at_ms / MS_PER_SECOND, tz=UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _price(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:,.2f} {unit}"


def _age(seen_at_ms: int | None, now_ms: int) -> str:
    return "" if seen_at_ms is None else f" ({max(now_ms - seen_at_ms, 0) // MS_PER_MINUTE} min old)"
