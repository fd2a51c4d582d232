"""Which server works on a device, by the names that the setting gives."""

import pytest

from gateway.inference import InferenceConfig, urls_of
from hcp.errors import SettingsError

DEVICE = "tx-north.gpu-1/02/017"


@pytest.mark.parametrize(
    ("urls", "wanted"),
    [
        ({"*": "http://all"}, "http://all"),
        ({"*": "http://all", "tx-north": "http://site/"}, "http://site"),
        ({"tx-north": "http://site", "tx-north.gpu-1": "http://cluster"}, "http://cluster"),
        ({"tx-north.gpu-1": "http://cluster", "tx-north.gpu-1/02": "http://shard"}, "http://shard"),
        ({"tx-north.gpu-1/02": "http://shard", DEVICE: "http://device"}, "http://device"),
        ({"tx-north.gpu-1": "http://gpu-{shard}-{index}:8000"}, "http://gpu-02-17:8000"),
        ({"tx-nor": "http://other", "tx-north.gpu-10": "http://other"}, None),
        ({}, None),
    ],
)
def test_the_longest_name_wins(urls: dict[str, str], wanted: str | None) -> None:
    """A device's own address before its shard's, cluster's and site's; no name is a part of another."""
    assert InferenceConfig(urls=urls).url_of(DEVICE) == wanted


def test_addresses_are_read_from_pairs() -> None:
    """As the setting words them; none is none."""
    assert urls_of("") == {}
    assert urls_of("*=http://a:1  tx-north=https://b/?x=y") == {"*": "http://a:1", "tx-north": "https://b/?x=y"}


@pytest.mark.parametrize("text", ["http://a", "=http://a", "*=a:1", "*=ftp://a"])
def test_what_is_no_pair_is_refused(text: str) -> None:
    """The error names the setting."""
    with pytest.raises(SettingsError, match="HCP_INFERENCE_URLS must be pairs"):
        urls_of(text)
