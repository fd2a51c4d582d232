"""Passwords and service secrets by argon2id, at most a few at a time: each hash takes memory and a core."""

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from hcp.errors import SettingsError

PASSWORD_CHARS_MIN: Final = 12
PASSWORD_CHARS_MAX: Final = 200
HASHES_AT_ONCE_MAX: Final = 2

_hasher: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
"""OWASP's password storage cheat sheet (2025): argon2id with 19 MiB, two passes, one lane."""


def hash_password(password: str) -> str:
    """Hash a password.

    Raises:
        SettingsError: It is too short or too long.
    """
    if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
        raise SettingsError(
            f"password must be of {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters, was of {len(password)}"
        )
    return _hasher.hash(password)


def new_secret() -> str:
    """Return a service's secret: 256 random bits."""
    return secrets.token_urlsafe(32)


@dataclass(slots=True, kw_only=True)
class PasswordCheck:
    """Verifies passwords in threads; unknown users cost as much time as known ones."""

    _dummy: str = field(default_factory=lambda: _hasher.hash(secrets.token_urlsafe(16)))
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(HASHES_AT_ONCE_MAX))

    async def is_right(self, password: str, password_hash: str | None) -> bool:
        """Whether the password belongs to the hash; never for None, an unknown user."""
        async with self._slots:
            is_right = await asyncio.to_thread(_verify, password, password_hash or self._dummy)
        return is_right and password_hash is not None


def _verify(password: str, password_hash: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
