"""The ASICs of one cluster in hardware.toml: where they are, in the order of their devices, and what they run.

```toml
[[asic]]
cluster_id = "tx-north.asic-1"
firmware = "stock"                                   # stock, luxos, whatsminer or braiins
addresses = ["10.1.0.10-10.1.3.250", "10.1.4.7"]     # as many as the cluster has devices; device 0 is the first
username = "root"
password_file = "/run/secrets/asic-1"
```
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Final

import msgspec

from controllers.drivers.asic.client import Credentials
from controllers.drivers.asic.told import BRAIINS, LUXOS, STOCK, WHATSMINER
from hcp.errors import SettingsError
from hcp.model.devices import DeviceClass, DeviceKind, DeviceMode
from hcp.model.facilities import Cluster

FIRMWARES: Final[Mapping[str, str]] = {"stock": STOCK, "luxos": LUXOS, "whatsminer": WHATSMINER, "braiins": BRAIINS}
_TAKES_TARGETS: Final = frozenset({LUXOS, WHATSMINER, BRAIINS})
"""Bitmain's own firmware has work modes only."""


class AsicEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cluster as the file words it."""

    cluster_id: str
    firmware: str
    addresses: tuple[str, ...]
    username: str = ""
    password_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AsicPlaces:
    """The miners of a cluster.

    Attributes:
        firmware: As pyasic_rs names it; a miner that runs another is not driven.
        hosts: Addresses in the order of the cluster's devices.
        credentials: None where the firmware's default serves.
    """

    firmware: str
    hosts: tuple[str, ...]
    credentials: Credentials | None


def asic_places(given: AsicEntry, *, cluster: Cluster, device_class: DeviceClass) -> AsicPlaces:
    """Return the miners of an entry.

    Raises:
        SettingsError: An address is none or given twice, there are more or fewer than devices, the firmware is unknown
            or cannot do a mode of the class, or the password cannot be read.
    """
    name = given.cluster_id
    if given.firmware not in FIRMWARES:
        raise SettingsError(f"firmware of {name} must be one of {', '.join(FIRMWARES)}, was {given.firmware}")
    if device_class.kind is not DeviceKind.ASIC:
        raise SettingsError(f"{name} must be of a class of ASICs, was {device_class.device_class}")
    firmware = FIRMWARES[given.firmware]
    has_target = any(profile.mode is DeviceMode.MINING_ECO for profile in device_class.modes)
    if has_target and firmware not in _TAKES_TARGETS:
        raise SettingsError(
            f"{name} must be of a class without {DeviceMode.MINING_ECO}: {given.firmware} takes no power target"
        )
    hosts = tuple(host for text in given.addresses for host in _range(text))
    if len(hosts) != cluster.device_count:
        raise SettingsError(f"addresses of {name} must be {cluster.device_count}, were {len(hosts)}")
    if len(set(hosts)) != len(hosts):
        twice = next(host for host in hosts if hosts.count(host) > 1)
        raise SettingsError(f"addresses of {name} must be given once, was twice: {twice}")
    return AsicPlaces(firmware=firmware, hosts=hosts, credentials=_credentials(given))


def _range(text: str) -> Iterator[str]:
    """Yield the addresses of `a` or of `a-b`, both ends included; network and broadcast addresses are left out."""
    first, _, last = text.partition("-")
    try:
        begin, end = IPv4Address(first.strip()), IPv4Address((last or first).strip())
    except AddressValueError as error:
        raise SettingsError(f"addresses must be like 10.1.0.10 or 10.1.0.10-10.1.3.250, was {text}") from error
    if end < begin or int(end) - int(begin) > _RANGE_MAX:
        raise SettingsError(f"addresses must ascend and be at most {_RANGE_MAX}, was {text}")
    for number in range(int(begin), int(end) + 1):
        address = IPv4Address(number)
        if first == text or address.packed[3] not in {0, 255}:
            yield str(address)


_RANGE_MAX: Final = 65_536


def _credentials(given: AsicEntry) -> Credentials | None:
    if not given.username and not given.password_file:
        return None
    try:
        password = Path(given.password_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"password_file of {given.cluster_id} must hold a secret, was unreadable: {error}"
        ) from error
    return Credentials(username=given.username, password=password)
