"""The one tree of HCP's errors; each carries its facts as attributes and words what must be and what was.

HcpError
├── SettingsError          a setting is missing or out of range
├── FleetError             fleet.toml does not describe a fleet
├── OutOfRangeError        we tried to send a record that breaks a documented range
├── BrokerError            Kafka refused or did not answer in time
├── StoreError             TimescaleDB or Redis refused or did not answer in time
│   ├── FencedError        another writer took over
│   └── StoreUnavailableError  it is away: waiting may mend it
├── StackError             an embedded service cannot be installed, started or stopped
└── MarketDataError        a recorded series cannot be read

Bad *data* is a value (`Rejected`) or a dead letter; these are for failed *operations*.
"""

from hcp.model.rejections import Rejected


class HcpError(Exception):
    """Anything HCP raises on purpose; the CLI prints it as one line and exits 1."""


class SettingsError(HcpError):
    """A setting is missing or out of range."""


class FleetError(HcpError):
    """A fleet file does not describe a fleet."""


class OutOfRangeError(HcpError):
    """We tried to send a record that breaks a documented range.

    Attributes:
        record: Its class.
        rejected: Reason and detail: the field, what must be and what was.
    """

    def __init__(self, *, record: str, rejected: Rejected) -> None:
        self.record = record
        self.rejected = rejected
        super().__init__(f"{record}: {rejected.detail}")


class BrokerError(HcpError):
    """Kafka refused or did not answer in time."""


class StoreError(HcpError):
    """TimescaleDB or Redis refused or did not answer in time."""


class FencedError(StoreError):
    """Another writer owns this work now; stop without writing."""


class StoreUnavailableError(StoreError):
    """The store does not answer or broke off; the same again may succeed later."""


class StackError(HcpError):
    """An embedded service cannot be installed, started or stopped; the message says what to do."""


class MarketDataError(HcpError):
    """A recorded series cannot be read; the message names file, line and column."""
