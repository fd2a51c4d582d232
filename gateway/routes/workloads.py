"""Workloads: submit, list, look, cancel, follow; and where one would run."""

from typing import Annotated, Final

from litestar import Response, delete, get, post
from litestar.params import HeaderParameter, JSONBody, QueryParameter

from gateway import workloads
from gateway.cursors import uuid_of
from gateway.edge import caller_of
from gateway.etags import etag_of, is_named
from gateway.limits import Limit
from gateway.principals import Access
from gateway.problems import ProblemError
from gateway.records import RouteAnswer, Submission, Workload, WorkloadPage, WorkloadStep, WorkloadSteps
from gateway.routes.shared import (
    DEFAULT_LIMIT,
    SIGNED_IN,
    AnyRequest,
    Cursor,
    IfMatch,
    IfNoneMatch,
    PageLimit,
    Parts,
    WorkloadId,
    call_of,
    errors,
    marked,
)
from gateway.routing import route_of
from hcp.model.facilities import Fleet
from hcp.model.workloads import WorkloadStatus, WorkloadType

EVENTS_MAX: Final = 1_000
_EVENTS: Final = (
    "select event_id::text, event_type, facility_id, reason, (extract(epoch from observed_at) * 1000)::bigint "
    "as observed_at_ms from workload_events where workload_id = %s order by observed_at, kafka_offset limit %s"
)

IdempotencyKey = Annotated[
    str,
    HeaderParameter(
        name="Idempotency-Key",
        pattern=r"^[A-Za-z0-9._:-]{1,128}$",
        description="Yours, one a workload: the same request sent again makes no second one.",
    ),
]


@post(
    "/workloads",
    name="submit_workload",
    status_code=201,
    opt=marked(Access.SIGNED_IN, Limit.WRITE),
    security=SIGNED_IN,
    responses=errors(401, 403, 409, 413, 415, 422),
)
async def submit(
    data: JSONBody[Submission], idempotency_key: IdempotencyKey, request: AnyRequest, gateway: Parts
) -> Response[Workload]:
    """Submit a workload; it is accepted, and will not be lost, when this answers 201."""
    _require_known(data, gateway.view.fleet)
    submitted = await workloads.submit(gateway.database, data, key=idempotency_key, call=call_of(request, gateway))
    gateway.notifier.poke()
    workload = submitted.workload
    headers = {
        "location": f"/api/v1/workloads/{workload.workload_id}",
        "etag": etag_of(workload),
        "idempotency-replayed": str(submitted.is_replay).lower(),
    }
    return Response(workload, headers=headers)


def _require_known(submission: Submission, fleet: Fleet) -> None:
    wants = submission.requirements
    if wants.facility_id is not None and fleet.facility(wants.facility_id) is None:
        raise ProblemError(422, "unknown_facility", f"facility_id must be a site of the fleet, was {wants.facility_id}")
    has_class = any(
        wants.device_class in site.device_classes()
        for site in fleet.facilities
        if wants.facility_id in {None, site.facility_id}
    )
    if not has_class:
        raise ProblemError(
            422,
            "unknown_device_class",
            f"device_class must be one of the fleet's at the site, was {wants.device_class}",
        )


@get(
    "/workloads",
    name="list_workloads",
    opt=marked(Access.SIGNED_IN, Limit.READ),
    security=SIGNED_IN,
    responses=errors(401),
)
async def list_all(
    request: AnyRequest,
    gateway: Parts,
    status: Annotated[WorkloadStatus | None, QueryParameter(name="status", description="Only in this status.")] = None,
    workload_type: Annotated[
        WorkloadType | None, QueryParameter(name="workload_type", description="Only this type.")
    ] = None,
    sort: Annotated[
        str,
        QueryParameter(name="sort", max_length=32, description="created_at, priority; `-` before it: the most first."),
    ] = "-created_at",
    cursor: Cursor = None,
    limit: PageLimit = DEFAULT_LIMIT,
) -> WorkloadPage:
    """List your workloads; an admin's list holds everybody's."""
    wanted = workloads.Wanted(status=status, workload_type=workload_type, sort=sort, cursor=cursor, limit=limit)
    return await workloads.page(gateway.database, wanted, caller=caller_of(request.scope))


@get(
    "/workloads/{workload_id:str}",
    name="get_workload",
    opt=marked(Access.SIGNED_IN, Limit.READ),
    security=SIGNED_IN,
    responses=errors(401, 404),
)
async def get_one(
    workload_id: WorkloadId, request: AnyRequest, gateway: Parts, if_none_match: IfNoneMatch = None
) -> Response[Workload | None]:
    """Look at one workload; its ETag makes a later cancel conditional."""
    identity = uuid_of(workload_id, "workload_id")
    workload = await workloads.one(gateway.database, identity, caller=caller_of(request.scope))
    etag = etag_of(workload)
    if is_named(if_none_match, etag):
        return Response(None, status_code=304, headers={"etag": etag})
    return Response(workload, headers={"etag": etag})


@delete(
    "/workloads/{workload_id:str}",
    name="cancel_workload",
    status_code=202,
    opt=marked(Access.SIGNED_IN, Limit.WRITE),
    security=SIGNED_IN,
    responses=errors(401, 404, 409, 412),
)
async def cancel(
    workload_id: WorkloadId, request: AnyRequest, gateway: Parts, if_match: IfMatch = None
) -> Response[Workload]:
    """Ask for a workload's end; it ends when its status says so."""
    identity = uuid_of(workload_id, "workload_id")
    call = call_of(request, gateway)
    workload = await workloads.cancel(gateway.database, identity, if_match=if_match, call=call)
    gateway.notifier.poke()
    return Response(workload, headers={"etag": etag_of(workload)})


@get(
    "/workloads/{workload_id:str}/events",
    name="list_workload_events",
    opt=marked(Access.SIGNED_IN, Limit.READ),
    security=SIGNED_IN,
    responses=errors(401, 404),
)
async def events(workload_id: WorkloadId, request: AnyRequest, gateway: Parts) -> WorkloadSteps:
    """Follow a workload's life, oldest event first, as analysts see it."""
    identity = uuid_of(workload_id, "workload_id")
    await workloads.one(gateway.database, identity, caller=caller_of(request.scope))
    rows = await gateway.analytics.rows(_EVENTS, identity, EVENTS_MAX)
    return WorkloadSteps(items=[WorkloadStep(**row) for row in rows])


@post(
    "/route",
    name="route_workload",
    status_code=200,
    opt=marked(Access.SIGNED_IN, Limit.READ),
    security=SIGNED_IN,
    responses=errors(401, 413, 415),
)
async def route(data: JSONBody[Submission], gateway: Parts) -> RouteAnswer:
    """Ask where a workload would run now, when, and at what price; nothing is reserved."""
    view = gateway.view
    return route_of(data, fleet=view.fleet, capacity=view.capacity, prices=view.prices, as_of_ms=view.as_of_ms)


HANDLERS: Final = [submit, list_all, get_one, cancel, events, route]
