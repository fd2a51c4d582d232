"""Installation: whole or not at all, one at a time, and every failure a line that says what to do."""

import errno
import hashlib
import http.server
import pwd
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcp.errors import StackError
from hcp.stack import debian, jars
from hcp.stack.accounts import closed_to
from hcp.stack.install import Part, check_place, fill_parts, versions_of
from hcp.stack.locks import exclusive
from hcp.stack.values import Progress


def _quiet(_line: str) -> None:
    pass


class Recipe:
    """A part's fill function that writes one jar, counts its calls and fails when told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self._error = error

    def __call__(self, target: Path, _final: Path, _progress: Progress) -> dict[str, str]:
        """Fill a part."""
        self.calls += 1
        (target / "a.jar").write_bytes(b"jar")
        if self._error is not None:
            raise self._error
        return {"a": "1"}


@pytest.fixture
def cache() -> Iterator[Path]:
    """Give a cache that is open to PostgreSQL's account; pytest's own folders are closed to all but their owner."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _part(cache: Path, recipe: Recipe) -> Part:
    return Part(directory=cache / "a-1", title="A", fill=recipe)


def test_an_installation_is_done_once(cache: Path) -> None:
    """A second installation finds everything there and does nothing."""
    recipe = Recipe()
    part = _part(cache, recipe)
    assert fill_parts([part], cache, _quiet) == {"a": "1"}
    assert fill_parts([part], cache, _quiet) == {"a": "1"}
    assert recipe.calls == 1


def test_a_damaged_or_half_finished_installation_is_made_again(cache: Path) -> None:
    """A lost file, a short file, a leftover of a killed installation: each ends in a whole one."""
    recipe = Recipe()
    part = _part(cache, recipe)
    leftover = cache / "a-1.partial-killed"
    leftover.mkdir()
    fill_parts([part], cache, _quiet)
    assert not leftover.exists()
    (part.directory / "a.jar").write_bytes(b"")
    assert versions_of(part) is None
    fill_parts([part], cache, _quiet)
    assert (part.directory / "a.jar").read_bytes() == b"jar"
    (part.directory / "manifest.json").unlink()
    fill_parts([part], cache, _quiet)
    assert recipe.calls == 3


def test_a_cache_that_was_moved_is_filled_again(cache: Path) -> None:
    """Programs know their loader by its full path, so a moved prefix is not a whole one."""
    fill_parts([_part(cache / "old", Recipe())], cache / "old", _quiet)
    (cache / "old").rename(cache / "new")
    assert versions_of(_part(cache / "new", Recipe())) is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "full"),
        (PermissionError(errno.EACCES, "Permission denied"), "HCP_CACHE_DIR"),
        (OSError(errno.EIO, "Input/output error"), "run it again"),
    ],
)
def test_a_failed_installation_says_what_to_do_and_leaves_nothing(cache: Path, error: OSError, words: str) -> None:
    """A full disk or a closed folder is one line, and no partial folder stays."""
    with pytest.raises(StackError, match=words) as caught:
        fill_parts([_part(cache, Recipe(error))], cache, _quiet)
    assert "\n" not in str(caught.value)
    assert [path.name for path in cache.iterdir()] == ["install.lock"]


def test_a_disk_without_room_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    """The room is checked first; the message has the figures and the setting."""
    with pytest.raises(StackError, match=r"MB free, had .* HCP_CACHE_DIR"):
        check_place(tmp_path, mb_free_min=10**9)


def test_two_installations_at_once_wait_for_one_another(cache: Path) -> None:
    """The second finds what the first has made, and says for whom it waits."""
    recipe = Recipe()
    part = _part(cache, recipe)
    said: list[str] = []
    waits = threading.Event()

    def hear(line: str) -> None:
        said.append(line)
        waits.set()

    second = threading.Thread(target=fill_parts, args=([part], cache, hear))
    with exclusive(cache / "install.lock", wait_seconds_max=1, what="installation", progress=_quiet):
        second.start()
        assert waits.wait(10)
        assert recipe.calls == 0
    second.join(10)
    assert recipe.calls == 1
    assert "waiting for another installation" in said[0]


def test_a_lock_that_is_never_released_ends_in_an_error(tmp_path: Path) -> None:
    """The wait has a bound and names the holder."""
    lock = tmp_path / "lock"
    with (
        exclusive(lock, wait_seconds_max=1, what="installation", progress=_quiet),
        pytest.raises(StackError, match=r"another installation \(process \d+\)"),
        exclusive(lock, wait_seconds_max=0, what="installation", progress=_quiet),
    ):
        pytest.fail("two holders of one lock")


def test_a_jar_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    """A download with another checksum never gets into the cache; a repository that answers 404 is one line."""
    good = b"the jar"
    jar = jars.Jar(group="g", artifact="a", version="1", sha256=hashlib.sha256(good).hexdigest())

    class Repository(http.server.BaseHTTPRequestHandler):
        """Serves the jar, another file, or nothing."""

        def do_GET(self) -> None:
            """Answer by path."""
            body = {"/good": good, "/bad": b"another"}.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Repository) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        trust = ssl.create_default_context()
        jars.fetch(f"{base}/good", jar, tmp_path, trust)
        with pytest.raises(StackError, match="SHA-256"):
            jars.fetch(f"{base}/bad", jar, tmp_path, trust)
        with pytest.raises(StackError, match="check the network"):
            jars.fetch(f"{base}/none", jar, tmp_path, trust)
        server.shutdown()


def test_only_debian_proper_is_taken_for_the_mirror() -> None:
    """Other vendors have releases of the same name; security updates come from their own site."""
    listing = (
        "http://vendor.example/linux|bookworm|stable|\n"
        "http://mirror.example/debian/|bookworm|main|Debian\n"
        "http://mirror.example/security|bookworm-security|main|Debian\n"
        "cdrom:[disk]|bookworm|main|Debian\n"
        "http://pg.example/apt|bookworm-pgdg|main|apt\n"
    )
    mirrors = debian.pick_mirrors(debian.read_targets(listing), codename="bookworm")
    assert mirrors == debian.Mirrors(main="http://mirror.example/debian", security="http://mirror.example/security")
    with pytest.raises(StackError, match="docker-compose"):
        debian.pick_mirrors([], codename="bookworm")


def test_only_what_a_server_needs_is_unpacked() -> None:
    """The packages' scripts and LLVM stay out; the servers and their libraries come in, with their versions."""
    simulation = (
        "Inst libc6 (2.41-12 Debian:13)\nInst perl-base (5.40 x)\nInst libllvm19 (1 x)\nConf libc6 (2.41-12 x)\n"
        "Inst redis-server (5:8.0.2-3 Debian:13)\nInst postgresql-17 (17.12 x)\nInst postgresql-common (1 x)\n"
    )
    expected = {"libc6": "2.41-12", "redis-server": "5:8.0.2-3", "postgresql-17": "17.12"}
    assert debian.chosen_packages(simulation) == expected


def test_a_system_other_than_debian_is_told_the_alternatives() -> None:
    """Elsewhere the three settings or Docker are the way."""
    with pytest.raises(StackError, match=r"HCP_KAFKA_BOOTSTRAP.*docker-compose") as caught:
        debian.check_system({"ID": "fedora", "PRETTY_NAME": "Fedora Linux 44"})
    assert "Fedora" in str(caught.value)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("E: Failed to fetch http://x Could not resolve 'x'", "apt-get update"),
        ("E: You don't have enough free space in /x", "HCP_CACHE_DIR"),
        ("W: GPG error: NO_PUBKEY 762F", "debian-archive-keyring"),
        ("", "run it again"),
    ],
)
def test_a_failure_of_apt_says_what_to_do(output: str, words: str) -> None:
    """No network, no room, no keys: each has its own advice."""
    assert words in debian.advice_on(output)


def test_a_cache_that_the_database_could_not_read_is_refused(tmp_path: Path) -> None:
    """Root's PostgreSQL runs under another account: a closed folder is named before anything is fetched."""
    account = pwd.getpwnam("nobody")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert closed_to(closed / "cache", account) in {closed, *closed.parents}
    assert closed_to(Path("/usr/share"), account) is None
