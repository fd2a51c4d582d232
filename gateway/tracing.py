"""A request's id: the caller's where it is a plain word, ours otherwise; it comes back with every answer."""

import re
from typing import Any, Final
from uuid import uuid4

REQUEST_ID_HEADER: Final = "x-request-id"
_PLAIN: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")
_KEY: Final = "hcp_request_id"


def header_of(scope: Any, name: bytes) -> str | None:  # noqa: ANN401  # an ASGI scope of any kind
    """Return the first value of a header of the request, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None


def request_id_of(scope: Any) -> str:  # noqa: ANN401  # as header_of
    """Return the request's id; the same one however often it is asked for.

    A caller's own id is taken only when it is a plain word: it goes into headers and logs.
    """
    kept = scope.get(_KEY)
    if kept is None:
        given = header_of(scope, REQUEST_ID_HEADER.encode())
        kept = given if given is not None and _PLAIN.fullmatch(given) else uuid4().hex
        scope[_KEY] = kept
    return str(kept)
