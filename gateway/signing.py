"""The key ring in use; a key that is added to or taken from the folder counts within a second."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from gateway.keys import KeyRing, load_keys
from hcp.clock import seconds
from hcp.errors import SettingsError

LOOK_MS: Final = 500


@dataclass(slots=True, kw_only=True)
class Signing:
    """Holds the key ring and looks for changes."""

    folder: Path
    _ring: KeyRing = field(init=False)
    _seen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Load the keys that there must be."""
        self._ring = load_keys(self.folder)
        self._seen = self._names()

    def ring(self) -> KeyRing:
        """Return the keys of now."""
        return self._ring

    def look(self) -> bool:
        """Load the keys anew when the folder changed; return whether it did. Unreadable keys change nothing."""
        names = self._names()
        if names == self._seen:
            return False
        self._seen = names
        try:
            self._ring = load_keys(self.folder)
        except SettingsError as error:
            structlog.get_logger(__name__).error("keys_unreadable", error=str(error))
            return False
        structlog.get_logger(__name__).info("keys_loaded", signing_kid=self._ring.signing_kid, count=len(names))
        return True

    def _names(self) -> tuple[str, ...]:
        return tuple(sorted(path.name for path in self.folder.glob("*.pem")))

    async def watch(self, forget: Callable[[], None]) -> None:
        """Look for ever; after a change tokens are checked anew."""
        while True:
            await asyncio.sleep(seconds(LOOK_MS))
            if self.look():
                forget()
