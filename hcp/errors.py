"""The one tree of HCP's errors; each carries its facts as attributes and words what must be and what was.

    HcpError
    ├── SettingsError          a setting is missing or out of range
    ├── FleetError             fleet.toml does not describe a fleet
    ├── CodecError             bytes are not a record we know
    │   ├── UnknownSchemaError
    │   └── UndecodableError
    ├── OutOfRangeError        a field breaks its documented range
    ├── BrokerError            Kafka refused or did not answer in time
    ├── StoreError             TimescaleDB or Redis refused or did not answer in time
    │   └── FencedError        another writer took over
    ├── StackError             an embedded service cannot be installed, started or stopped
    └── MarketDataError        a recorded series cannot be read

Bad *data* is a value or a dead letter; these are for failed *operations* and for the edges that turn one into the other.
"""


class HcpError(Exception):
    """Anything HCP raises on purpose; the CLI prints it as one line and exits 1."""


class SettingsError(HcpError):
    """A setting is missing or out of range."""


class FleetError(HcpError):
    """A fleet file does not describe a fleet."""


class CodecError(HcpError):
    """Bytes are not a record this version knows."""


class UnknownSchemaError(CodecError):
    """The schema fingerprint of a record is not in schemas/avro."""

    def __init__(self, *, fingerprint: str) -> None:
        super().__init__(f"schema fingerprint must be one of schemas/avro, was {fingerprint}")
        self.fingerprint = fingerprint


class UndecodableError(CodecError):
    """A record has the right frame but its body does not decode."""


class OutOfRangeError(HcpError):
    """A field breaks its documented range.

    Attributes:
        field: Dotted path of the field, `classes[2].delta_usd_per_hour` for nested ones.
        value: What was there, as `repr`.
        rule: What must be, in words.
    """

    def __init__(self, *, field: str, value: object, rule: str) -> None:
        self.field = field
        self.value = repr(value)
        self.rule = rule
        super().__init__(f"{field} must be {rule}, was {self.value}")


class BrokerError(HcpError):
    """Kafka refused or did not answer in time."""


class StoreError(HcpError):
    """TimescaleDB or Redis refused or did not answer in time."""


class FencedError(StoreError):
    """Another writer owns this work now; stop without writing."""


class StackError(HcpError):
    """An embedded service cannot be installed, started or stopped; the message says what to do."""


class MarketDataError(HcpError):
    """A recorded series cannot be read; the message names file, line and column."""
