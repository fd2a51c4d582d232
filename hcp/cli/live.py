"""`hcp live`: what becomes of one workload, as the gateway's WebSocket tells it."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import aiohttp
import msgspec
import typer

from hcp.clock import seconds
from hcp.errors import HcpError
from hcp.model.units import MS_PER_SECOND, USD_MICROS_PER_USD
from hcp.model.workloads import WorkloadEventType
from hcp.topics import BILLING_USAGE

FROM_THE_START: Final = "0-0"
USAGE: Final = "usage"
_PREFIX: Final = "workload."
ENDS: Final = frozenset(
    str(each).removeprefix(_PREFIX)
    for each in (WorkloadEventType.COMPLETED, WorkloadEventType.FAILED, WorkloadEventType.CANCELLED)
)
NAMES: Final = (*(str(each).removeprefix(_PREFIX) for each in WorkloadEventType), USAGE)
"""What may be waited for."""
SILENCE_MS_MAX: Final = 45_000
"""Three heartbeats: without any of them the gateway is gone."""


class _Data(msgspec.Struct, frozen=True):
    """What is shown of a record: of a workload's event, or of what it cost for a while."""

    workload_id: str = ""
    event_type: str = ""
    reason: str = ""
    facility_id: str | None = None
    queue_position: int | None = None
    device_ids: str = ""
    observed_at_ms: int = 0
    device_seconds: int = 0
    amount_usd_micros: int = 0


class _Frame(msgspec.Struct, frozen=True):
    type: str
    topic: str = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One thing told of a workload.

    Attributes:
        name: Of `NAMES`.
        at_ms: When it happened.
        text: The rest, for people.
    """

    name: str
    at_ms: int
    text: str

    def __str__(self) -> str:
        """Write one line, time in UTC."""
        at = datetime.fromtimestamp(self.at_ms / MS_PER_SECOND, tz=UTC)
        return f"{at:%H:%M:%S}.{at.microsecond // MS_PER_SECOND:03d}  {self.name:<10} {self.text}".rstrip()


def told_of(frame: str, *, workload_id: str) -> Told | None:
    """Return what a frame tells of a workload; None when it tells of something else.

    Raises:
        HcpError: It is no frame of the gateway's.
    """
    try:
        found = msgspec.json.decode(frame, type=_Frame)
        if found.type != "event":
            return None
        data = msgspec.json.decode(found.data, type=_Data)
    except msgspec.MsgspecError as error:
        raise HcpError(f"a frame must be the gateway's, was: {error}") from error
    if data.workload_id != workload_id:
        return None
    if found.topic == BILLING_USAGE.name:
        amount_usd = data.amount_usd_micros / USD_MICROS_PER_USD
        return Told(
            name=USAGE, at_ms=data.observed_at_ms, text=f"{data.device_seconds} device-seconds, {amount_usd:.6f} USD"
        )
    place = "" if data.queue_position is None else f"place {data.queue_position}"
    parts = (place, data.device_ids, data.reason)
    name = data.event_type.removeprefix(_PREFIX)
    return Told(name=name, at_ms=data.observed_at_ms, text="; ".join(part for part in parts if part))


def live(
    workload_id: Annotated[str, typer.Argument(help="The workload, one of yours.")],
    url: Annotated[str, typer.Option(help="The gateway.")] = "http://127.0.0.1:8080",
    token: Annotated[str, typer.Option(help="From /api/v1/auth/token.")] = "",
    until: Annotated[
        str | None, typer.Option(help=f"End with the first of: {', '.join(NAMES)}; default: when the workload ends.")
    ] = None,
    wait_seconds: Annotated[int, typer.Option(min=1, help="Give up after so long.")] = 3_600,
) -> None:
    """Show what has become of a workload and what becomes of it, line by line as it happens."""
    if until is not None and until not in NAMES:
        raise HcpError(f"--until must be one of {', '.join(NAMES)}, was {until}")
    watching = _watch(url=url.rstrip("/"), token=token, workload_id=workload_id, until=until)
    try:
        asyncio.run(asyncio.wait_for(watching, wait_seconds))
    except TimeoutError as error:
        awaited = until or "over"
        raise HcpError(f"workload must be {awaited} in {wait_seconds} s, was not: {workload_id}") from error


async def _watch(*, url: str, token: str, workload_id: str, until: str | None) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/api/v1/live", headers=headers) as ws:
            wanted = {"action": "subscribe", "topics": ["workloads"], "after": {"workloads": FROM_THE_START}}
            await ws.send_str(msgspec.json.encode(wanted).decode())
            while True:
                told = told_of(_text(await ws.receive(timeout=seconds(SILENCE_MS_MAX))), workload_id=workload_id)
                if told is None:
                    continue
                typer.echo(str(told))
                if told.name == until or (until is None and told.name in ENDS):
                    return
                if told.name in ENDS and until != USAGE:  # what is credited comes after the end
                    raise HcpError(f"workload must be {until}, was {told.name}: {told.text}")
    except aiohttp.ClientError as error:
        raise HcpError(f"the gateway must answer at {url}, was: {error}") from error


def _text(message: aiohttp.WSMessage) -> str:
    if message.type is not aiohttp.WSMsgType.TEXT:
        raise HcpError(f"the gateway must go on telling, was ended: {message.data} {_why(message)}".rstrip())
    return str(message.data)


def _why(message: Any) -> str:  # noqa: ANN401  # by the kind of message
    return str(message.extra or "")
