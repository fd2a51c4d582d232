"""A replay with another version's streams: taken from git into a temporary folder, run in a process of their own.

The engine is this program's, whatever the version; only what decides is the other's. The checkout is only read.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

import replay
from hcp.codecs import decode
from hcp.errors import HcpError, SettingsError
from hcp.model.commands import OrchestratorCommand
from hcp.model.recommendations import Recommendation
from replay.decisions.child import Ended, Task, read_decided
from replay.decisions.engine import Decided
from replay.decisions.job import Source, Stretch, write
from replay.decisions.output import WhatRan
from replay.decisions.plan import Plan
from replay.decisions.records import History, write_records

FOLDERS: Final = ("hcp", "schemas", "streams")
"""What another version decides with."""
CHECKOUT: Final = Path(replay.__file__).resolve().parents[1]
GIT_SECONDS_MAX: Final = 60.0
DECIDING_SECONDS_MAX: Final = 3_600.0
_WORDS_MAX: Final = 500


def run_elsewhere(
    plan: Plan,
    history: History,
    *,
    stretch: Stretch,
    out: Path,
    ref: str,
    fleet_file: Path,
    checkout: Path = CHECKOUT,
) -> WhatRan:
    """Decide a stretch again with the streams of another commit and write what comes of it.

    Args:
        plan: The rules; their names are those of the other version.
        history: The records.
        stretch: What is written.
        out: A folder, or a file that ends in `.parquet`.
        ref: Commit, branch or tag.
        fleet_file: Fleet description, read by the other version.
        checkout: Where its repository is.

    Raises:
        SettingsError: There is no git checkout, or no such commit in it.
        HcpError: The other version cannot be run, or `out` cannot be written.
    """
    commit = commit_of(ref, checkout=checkout)
    with TemporaryDirectory(prefix="hcp-replay-") as name:
        folder = Path(name).resolve()
        _extract(commit, checkout=checkout, into=folder)
        shutil.copytree(Path(replay.__file__).parent, folder / "replay", ignore=shutil.ignore_patterns("__pycache__"))
        task = Task(
            plan=plan,
            fleet_file=str(fleet_file.resolve()),
            sites=tuple(sorted(stretch.sites)),
            to_ms=stretch.to_ms,
            recommendations=str(folder / "recommendations"),
            prices=str(folder / "prices"),
            decided=str(folder / "decided"),
            root=str(folder),
        )
        try:
            write_records(Path(task.recommendations), history.recommendations())
            write_records(Path(task.prices), history.prices())
            (folder / "task.json").write_bytes(msgspec.json.encode(task))
        except OSError as error:
            raise HcpError(f"a temporary folder must have room for the records, was: {error}") from error
        ended = _run(folder, ref=ref)
        return write(
            _read(Path(task.decided), ref=ref),
            source=Source(plan=plan, fingerprint=ended.fingerprint, code=commit),
            passed_over=ended.passed_over,
            stretch=stretch,
            out=out,
        )


def commit_of(ref: str, *, checkout: Path = CHECKOUT) -> str:
    """Return the commit that a name stands for, 40 hex digits.

    Raises:
        SettingsError: There is no git checkout, or no such commit in it.
    """
    inside = _git("rev-parse", "--show-toplevel", checkout=checkout)
    if inside is None or Path(inside.decode().strip()).resolve() != checkout.resolve():
        raise SettingsError(f"--code must be used in a git checkout of HCP, was {checkout}")
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", checkout=checkout)
    if found is None:
        raise SettingsError(f"--code must be a commit, branch or tag of {checkout}, was {ref!r}")
    return found.decode().strip()


def _extract(commit: str, *, checkout: Path, into: Path) -> None:
    """Unpack what a commit decides with: an archive leaves nothing behind in the checkout, whatever happens."""
    packed = _git("archive", "--format=tar", commit, "--", *FOLDERS, checkout=checkout)
    if packed is None:
        raise SettingsError(f"--code must be a version with {', '.join(FOLDERS)}, was {commit}")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(into, filter="data")


def _git(*arguments: str, checkout: Path) -> bytes | None:
    """Return what git says; None when it refuses or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *arguments], capture_output=True, check=False, timeout=GIT_SECONDS_MAX
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _run(folder: Path, *, ref: str) -> Ended:
    """Run the other version.

    Raises:
        HcpError: It fails; with the last line it said.
    """
    environment = {**os.environ, "PYTHONPATH": str(folder)}  # noqa: TID251  # for a child process
    command = [sys.executable, "-m", "replay.decisions.child", str(folder / "task.json")]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, check=False, timeout=DECIDING_SECONDS_MAX
        )
    except subprocess.TimeoutExpired as error:
        raise HcpError(f"streams of {ref} must decide within {DECIDING_SECONDS_MAX:g} s, was longer") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise HcpError(f"streams of {ref} must be ones that this replay can run, was: {said[-1][:_WORDS_MAX]}")
    return msgspec.json.decode(done.stdout, type=Ended)


def _read(path: Path, *, ref: str) -> Iterator[Decided]:
    """Yield what was decided, as values of this version.

    Raises:
        HcpError: The other version's records are of a schema that this one does not have.
    """
    for each in read_decided(path):
        recommendation, *decisions = (decode(raw) for raw in (each.recommendation, *each.decisions))
        if not isinstance(recommendation, Recommendation):
            raise HcpError(f"recommendations of {ref} must be of a schema known here, was: {recommendation}")
        known = tuple(each for each in decisions if isinstance(each, OrchestratorCommand))
        if len(known) != len(decisions):
            raise HcpError(f"decisions of {ref} must be of a schema known here, was not")
        yield Decided(recommendation=recommendation, decisions=known)
