"""Cursors of lists: where a page ended, opaque to callers, refused when they were not made here."""

import base64
import binascii
from typing import Final
from uuid import UUID

import msgspec

from gateway.problems import ProblemError

CURSOR_CHARS_MAX: Final = 512
PAGE_MAX: Final = 200
PAGE_DEFAULT: Final = 50
_BIGINT_MAX: Final = 2**63 - 1


class Position(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """The last row of a page: in which order, its value there, and its id."""

    sort: str
    value: int
    identity: str


def cursor_of(position: Position) -> str:
    """Return the cursor that goes on after a position."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def position_of(cursor: str, *, sort: str, is_uuid: bool = True) -> Position:
    """Read a cursor.

    Raises:
        ProblemError: 400; it was not made here, or for another order.
    """
    try:
        data = base64.urlsafe_b64decode(cursor[:CURSOR_CHARS_MAX].encode("ascii") + b"=" * (-len(cursor) % 4))
        position = msgspec.json.decode(data, type=Position)
        if is_uuid:
            UUID(position.identity)
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise ProblemError(400, "bad_cursor", "cursor must be one that an answer gave, was not") from error
    if position.sort != sort or not -_BIGINT_MAX <= position.value <= _BIGINT_MAX or "\x00" in position.identity:
        raise ProblemError(400, "bad_cursor", f"cursor must be one of the same list in order {sort}, was not")
    return position


def uuid_of(text: str, what: str) -> str:
    """Return a UUID in its usual form.

    Raises:
        ProblemError: 400; it is none.
    """
    try:
        return str(UUID(text))
    except ValueError as error:
        raise ProblemError(400, "bad_id", f"{what} must be a UUID, was {text[:64]!r}") from error
