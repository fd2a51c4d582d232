"""What route modules share: how a route is marked, documented errors, and a request's caller and time."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from litestar import Request
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, PathParameter, QueryParameter

from gateway.cursors import CURSOR_CHARS_MAX, PAGE_DEFAULT, PAGE_MAX
from gateway.deps import Gateway
from gateway.edge import ACCESS, LIMIT, caller_of, origin_of
from gateway.limits import Limit
from gateway.principals import Access
from gateway.problems import PROBLEM_MEDIA_TYPE, TITLES, Problem
from gateway.workloads import Call

LATEST_MS: Final = 4_102_444_800_000

AnyRequest = Request[Any, Any, Any]
Parts = NamedDependency[Gateway]
"""The process's parts, as handlers take them."""
Cursor = Annotated[
    str | None,
    QueryParameter(name="cursor", max_length=CURSOR_CHARS_MAX, description="`next_cursor` of the page before."),
]
PageLimit = Annotated[int, QueryParameter(name="limit", ge=1, le=PAGE_MAX, description="Rows a page.")]
FromMs = Annotated[
    int | None, QueryParameter(name="from_ms", ge=0, le=LATEST_MS, description="Not before, ms since 1970.")
]
ToMs = Annotated[int | None, QueryParameter(name="to_ms", ge=0, le=LATEST_MS, description="Before, ms since 1970.")]
IfMatch = Annotated[
    str | None, HeaderParameter(name="If-Match", max_length=200, description="ETag that the thing must still have.")
]
IfNoneMatch = Annotated[
    str | None, HeaderParameter(name="If-None-Match", max_length=200, description="ETag known: 304 when it is current.")
]
WorkloadId = Annotated[str, PathParameter(description="UUID of a workload.", max_length=64)]
DEFAULT_LIMIT: Final = PAGE_DEFAULT


def marked(access: Access, limit: Limit) -> dict[str, object]:
    """Return the `opt` of a route."""
    return {ACCESS: access, LIMIT: limit}


def errors(*statuses: int) -> Mapping[int, ResponseSpec]:
    """Return the documented errors of a route; each is a problem detail."""
    return {
        status: ResponseSpec(
            data_container=Problem, description=TITLES[status], media_type=PROBLEM_MEDIA_TYPE, generate_examples=False
        )
        for status in sorted({*statuses, 400, 429, 503})
    }


SIGNED_IN: Final[list[dict[str, list[str]]]] = [{"bearer": []}]
"""Security requirement of a route that is not public."""


def call_of(request: AnyRequest, gateway: Gateway) -> Call:
    """Return who calls, from where and when."""
    return Call(caller=caller_of(request.scope), origin=origin_of(request.scope), at_ms=gateway.clock())
