"""State of a table <-> bytes: a version byte and MessagePack of the frozen dataclass."""

from typing import Any, Final

import msgspec
from faust.serializers.codecs import Codec

STATE_VERSION: Final = b"\x01"


class StateCodec(Codec):  # type: ignore[misc]  # faust carries no types
    """Serialises one state class; a changelog of another version is refused rather than misread."""

    def __init__(self, state: type, **options: Any) -> None:  # noqa: ANN401  # faust passes its own options through
        """Serve tables whose values are `state`."""
        self._decoder = msgspec.msgpack.Decoder(state)
        self._encoder = msgspec.msgpack.Encoder()
        super().__init__(state=state, **options)

    def _dumps(self, obj: Any) -> bytes:  # noqa: ANN401  # faust's signature
        return STATE_VERSION + self._encoder.encode(obj)

    def _loads(self, s: bytes) -> Any:  # noqa: ANN401  # faust's signature
        assert s[:1] == STATE_VERSION, f"table state must be of version {STATE_VERSION!r}, was {s[:1]!r}"
        return self._decoder.decode(s[1:])
