"""A customer's quotas: devices at once and spend a day, weighed in the transaction that inserts."""

from dataclasses import dataclass
from typing import Final

from gateway.database import Connection, Cursor
from gateway.problems import ProblemError
from hcp.model.units import MS_PER_HOUR, MS_PER_SECOND

SECONDS_PER_HOUR: Final = MS_PER_HOUR // MS_PER_SECOND
FINISHED: Final = ("completed", "failed", "cancelled")

# A workload that is not finished counts with what it may yet cost; a finished one with what it did cost, on the day it
# ended (UTC).
USED: Final = """
select coalesce(sum(device_count) filter (where finished_at is null), 0)::bigint as devices,
       coalesce(sum(case when finished_at is null then greatest(reserved_usd_micros, cost_usd_micros)
                         else cost_usd_micros end), 0)::bigint as spend_usd_micros
from workloads
where customer_id = %s and (status not in ('completed', 'failed', 'cancelled')
                           or finished_at >= date_trunc('day', now()))
"""
_LOCK: Final = (
    "select concurrent_devices_max, spend_usd_micros_per_day_max from quotas where customer_id = %s for update"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaExceeded:
    """Which quota a submission would break; in words."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What a customer may have, and has.

    Attributes:
        devices_max: Devices at once.
        devices: Devices of workloads that are not finished.
        spend_usd_micros_max: Spend a day.
        spend_usd_micros: Of today, with what unfinished workloads have reserved.
    """

    devices_max: int
    devices: int
    spend_usd_micros_max: int
    spend_usd_micros: int

    def refuses(self, *, device_count: int, reserved_usd_micros: int) -> QuotaExceeded | None:
        """Return why a submission does not fit, or None."""
        if self.devices + device_count > self.devices_max:
            return QuotaExceeded(
                reason=f"devices at once must be at most {self.devices_max}, would be {self.devices + device_count}"
            )
        spend = self.spend_usd_micros + reserved_usd_micros
        if spend > self.spend_usd_micros_max:
            return QuotaExceeded(
                reason=f"spend a day must be at most {self.spend_usd_micros_max} micro-dollars, could become {spend}"
            )
        return None


def reserved_usd_micros(*, device_count: int, run_seconds_max: int, price_usd_micros_per_device_hour: int) -> int:
    """Return what a workload may cost at most, rounded up; each argument above 0."""
    return -(-device_count * run_seconds_max * price_usd_micros_per_device_hour // SECONDS_PER_HOUR)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedQuota:
    """A customer's quota, asked for and not yet read."""

    locked: Cursor
    counted: Cursor

    async def read(self) -> Quota:
        """Wait for it.

        Raises:
            ProblemError: 403; the customer has none.
        """
        allowed, used = await self.locked.fetchone(), await self.counted.fetchone()
        if allowed is None or used is None:
            raise ProblemError(403, "no_quota", "customer must have a quota, had none: ask the platform")
        return Quota(
            devices_max=allowed["concurrent_devices_max"],
            devices=used["devices"],
            spend_usd_micros_max=allowed["spend_usd_micros_per_day_max"],
            spend_usd_micros=used["spend_usd_micros"],
        )


async def locked_quota(connection: Connection, customer_id: str) -> LockedQuota:
    """Ask for the quota and hold it until the transaction ends: other submissions of the customer wait.

    The lock and the count are two statements: under READ COMMITTED each sees what has committed when it begins, so the
    count, like all that is asked from here on, sees whatever the lock waited for.
    """
    locked = await connection.execute(_LOCK, (customer_id,))
    counted = await connection.execute(USED, (customer_id,))
    return LockedQuota(locked=locked, counted=counted)
