"""Every error of the API as a problem detail of RFC 9457: one shape, one media type, no inner workings."""

import traceback
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from gateway.tracing import REQUEST_ID_HEADER, request_id_of
from hcp.errors import StoreUnavailableError

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
SERVER_ERROR: Final = 500
UNAVAILABLE: Final = 503
RETRY_AFTER_S: Final = 1
TITLES: Final[dict[int, str]] = {
    400: "Bad request",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    409: "Conflict",
    412: "Precondition failed",
    413: "Body too large",
    415: "Unsupported media type",
    422: "Unprocessable",
    428: "Precondition required",
    429: "Too many requests",
    500: "Internal error",
    502: "Bad gateway",
    503: "Unavailable",
    504: "Gateway timeout",
}

_log = structlog.get_logger(__name__)


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem detail: `type` names the kind for programs, `detail` says to a person what must be and what was."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[str] = []


class ProblemError(Exception):
    """What a handler raises to answer with a problem.

    Attributes:
        status: HTTP status, 400 or more.
        kind: Last part of the problem's type, `quota_exceeded`; a stable word.
        detail: For a person: what must be, what was.
        headers: To send with it.
    """

    def __init__(self, status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        super().__init__(detail)


def not_found(what: str, identity: object) -> ProblemError:
    """Return the answer for a row that is not there, or is another customer's: nobody may tell these apart."""
    return ProblemError(404, "not_found", f"{what} must be one of yours, was {identity}")


def problem_bytes(problem: Problem) -> bytes:
    """Encode a problem for an answer made outside of a handler."""
    return msgspec.json.encode(problem)


def problem_of(error: ProblemError, *, request_id: str) -> Problem:
    """Word an error as a problem detail."""
    return Problem(
        type=f"urn:hcp:problem:{error.kind}",
        title=TITLES.get(error.status, "Error"),
        status=error.status,
        detail=error.detail,
        request_id=request_id,
    )


def _answer(request: Request[Any, Any, Any], error: ProblemError, errors: list[str] | None = None) -> Response[bytes]:
    request_id = request_id_of(request.scope)
    problem = msgspec.structs.replace(problem_of(error, request_id=request_id), errors=errors or [])
    headers = {**error.headers, REQUEST_ID_HEADER: request_id}
    return Response(problem_bytes(problem), status_code=error.status, media_type=PROBLEM_MEDIA_TYPE, headers=headers)


def _on_problem(request: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    return _answer(request, error)


def _on_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    kind = TITLES.get(error.status_code, "Error").lower().replace(" ", "_")
    if error.status_code >= SERVER_ERROR:
        return _on_any(request, error)
    extra = error.extra if isinstance(error.extra, list) else []
    errors = [f"{each.get('key', 'body')}: {each.get('message', '')}" for each in extra if isinstance(each, dict)]
    raised = ProblemError(error.status_code, kind, error.detail, headers=error.headers)
    return _answer(request, raised, errors)


def _on_recursion(request: Request[Any, Any, Any], _error: RecursionError) -> Response[bytes]:
    return _answer(request, ProblemError(400, "too_deep", "body must be nested less deeply"))


def _on_unicode(request: Request[Any, Any, Any], _error: UnicodeError) -> Response[bytes]:
    return _answer(request, ProblemError(400, "not_utf8", "body and parameters must be UTF-8, were not"))


def _on_store(request: Request[Any, Any, Any], error: StoreUnavailableError) -> Response[bytes]:
    _log.warning("store_unavailable", path=request.url.path, error=str(error))
    away = ProblemError(
        UNAVAILABLE,
        "store_unavailable",
        "the database must answer, was away: the same request may succeed soon",
        headers={"retry-after": str(RETRY_AFTER_S)},
    )
    return _answer(request, away)


def _on_any(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    # The traceback as text: a log's own rendering may show local variables, and passwords are among them.
    told = "".join(traceback.format_exception(error))
    _log.error("request_failed", path=request.url.path, request_id=request_id_of(request.scope), traceback=told)
    return _answer(request, ProblemError(SERVER_ERROR, "internal_error", "this is our fault; tell us the request id"))


HANDLERS: Final[ExceptionHandlersMap] = {
    ProblemError: _on_problem,
    HTTPException: _on_http,
    RecursionError: _on_recursion,
    UnicodeError: _on_unicode,
    StoreUnavailableError: _on_store,
    Exception: _on_any,
}
JSON: Final = MediaType.JSON
