"""The stack's parts: pinned jars, Java, ports, and the compose file that offers the same."""

import re
import socket
from pathlib import Path

import pytest
import yaml

from hcp.errors import StackError
from hcp.stack.jars import locked_jars
from hcp.stack.java import find_java, is_new_enough
from hcp.stack.ports import choose
from hcp.stack.values import WantedPorts

ROOT = Path(__file__).parents[4]


def test_every_jar_is_pinned_by_a_checksum() -> None:
    """The broker is 45 jars, each with its SHA-256, Kafka itself at 4.4.0."""
    jars = locked_jars()
    assert len(jars) == 45
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in jars)
    assert {jar.version for jar in jars if jar.group == "org.apache.kafka"} == {"4.4.0"}


@pytest.mark.parametrize(
    ("version", "enough"), [("17.0.15", True), ("25", True), ("11.0.2", False), ("1.8.0_392", False)]
)
def test_java_must_be_17(version: str, *, enough: bool) -> None:
    """Kafka 4 needs Java 17; the old numbering is told apart."""
    assert is_new_enough(version) is enough


def test_a_java_home_without_java_is_passed_over(tmp_path: Path) -> None:
    """A wrong JAVA_HOME does not keep HCP from a Java that works."""
    java, version = find_java(tmp_path)
    assert java.exists()
    assert is_new_enough(version)


def test_a_port_in_use_that_was_asked_for_is_refused(tmp_path: Path) -> None:
    """An explicit port is never silently replaced; a free choice avoids the taken one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=str(port)) as caught:
            choose(directory=tmp_path, wanted=WantedPorts(redis=port), kept=None)
        assert "\n" not in str(caught.value)
        assert port != getattr(choose(directory=tmp_path, wanted=WantedPorts(), kept=None), "redis")  # noqa: B009


def test_the_compose_file_offers_the_same_and_no_password() -> None:
    """Three brokers, TimescaleDB and Redis, pinned, bound to loopback, without a default password."""
    text = (ROOT / "docker-compose.kafka.yml").read_text(encoding="utf-8")
    services = yaml.safe_load(text)["services"]
    images = [service["image"] for service in services.values()]
    assert sum("apache/kafka" in image for image in images) == 3
    assert any("timescale" in image for image in images)
    assert any("redis" in image for image in images)
    assert all(not image.endswith(":latest") and ":" in image for image in images)
    published = [str(port) for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not re.search(r"PASSWORD:-", text)
