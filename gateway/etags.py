"""Entity tags: a hash of what was answered; changes may be made to depend on it."""

from hashlib import sha256

import msgspec

from gateway.problems import ProblemError


def etag_of(value: object) -> str:
    """Return the strong entity tag of an answer."""
    return f'"{sha256(msgspec.json.encode(value)).hexdigest()[:20]}"'


def is_named(header: str | None, etag: str) -> bool:
    """Whether a header If-Match or If-None-Match names the tag, or any."""
    return header is not None and (header.strip() == "*" or etag in [each.strip() for each in header.split(",")])


def require_match(if_match: str | None, etag: str) -> None:
    """Check If-Match where it was given.

    Raises:
        ProblemError: 412; the thing has changed since the caller saw it.
    """
    if if_match is not None and not is_named(if_match, etag):
        raise ProblemError(412, "changed", f"If-Match must be {etag}, was not: it has changed; look again")
