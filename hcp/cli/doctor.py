"""`hcp doctor`: what is installed, reachable, at which version, and what to do about each failure."""

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hcp.errors import StackError
from hcp.settings import Settings, load_settings
from hcp.stack import Health, Healthy, Stack, default_cache_dir, stacks_in
from hcp.stack.accounts import closed_to, service_account
from hcp.stack.debian import os_release
from hcp.stack.health import check_kafka, check_redis, check_timescale
from hcp.stack.install import INSTALL_MB_FREE_MIN, Part, parts, versions_of
from hcp.stack.java import find_java
from hcp.stack.stack import DATA_MB_FREE_MIN

PYTHON_MIN, PYTHON_BELOW = (3, 11), (3, 14)
RUN_SECONDS_MAX = 20.0
INSTALL = "`hcp stack up` installs it"


class Verdict(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    NOTE = "note"
    """Not there, and nothing is wrong with that."""
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row of the table."""

    subject: str
    verdict: Verdict
    found: str
    advice: str = ""


def doctor() -> None:
    """Show what is installed and reachable, at which version, and what to do about each failure.

    Exit code 1 when something that HCP needs is broken; what is merely not there yet is a note.
    """
    findings = tuple(examine(load_settings()))
    Console(highlight=False).print(table(findings))
    if any(finding.verdict is Verdict.BROKEN for finding in findings):
        raise typer.Exit(1)


def table(findings: tuple[Finding, ...]) -> Table:
    """Return the findings for a terminal."""
    colours = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.BROKEN: "red"}
    shown = Table(box=None, pad_edge=False)
    for heading in ("what", "", "found", "what to do"):
        shown.add_column(heading, overflow="fold")
    for finding in findings:
        verdict = f"[{colours[finding.verdict]}]{finding.verdict}[/]"
        shown.add_row(finding.subject, verdict, escape(finding.found), escape(finding.advice))
    return shown


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield every finding, cheapest first."""
    cache_dir = default_cache_dir(settings.cache_dir)
    yield python_finding(sys.version_info[:2])
    yield system_finding(os_release())
    yield java_finding(settings.java_home)
    kafka, prefix = parts(cache_dir)
    yield kafka_finding(kafka)
    yield program_finding("TimescaleDB", prefix, program="usr/lib/postgresql/17/bin/postgres")
    yield program_finding("Redis", prefix, program="usr/bin/redis-server")
    yield folder_finding("cache", cache_dir, mb_free_min=INSTALL_MB_FREE_MIN, setting="HCP_CACHE_DIR", is_shared=True)
    state_dir = settings.state_dir.absolute()
    yield folder_finding("state", state_dir, mb_free_min=DATA_MB_FREE_MIN, setting="HCP_STATE_DIR", is_shared=False)
    for directory in stacks_in(settings.state_dir):
        yield stack_finding(Stack(directory, cache_dir))
    yield from address_findings(settings)


def python_finding(version: tuple[int, ...]) -> Finding:
    """Judge the running interpreter's version."""
    found = f"{'.'.join(map(str, version))} ({sys.executable})"
    if PYTHON_MIN <= version[:2] < PYTHON_BELOW:
        return Finding(subject="Python", verdict=Verdict.OK, found=found)
    return Finding(
        subject="Python",
        verdict=Verdict.BROKEN,
        found=found,
        advice="use Python 3.11, 3.12 or 3.13, then scripts/bootstrap",
    )


def system_finding(release: dict[str, str]) -> Finding:
    """Judge whether the embedded services have a recipe for this system."""
    found = f"{release.get('PRETTY_NAME', platform.system())}, {platform.machine()}"
    if release.get("ID") == "debian":
        return Finding(subject="system", verdict=Verdict.OK, found=found)
    advice = "the embedded services need Debian 12 or 13: use docker-compose.kafka.yml or services of your own"
    return Finding(subject="system", verdict=Verdict.NOTE, found=found, advice=advice)


def java_finding(java_home: Path | None) -> Finding:
    """Find the Java that would run Kafka."""
    try:
        java, version = find_java(java_home)
    except StackError as error:
        return Finding(subject="Java", verdict=Verdict.BROKEN, found="none that fits", advice=str(error))
    return Finding(subject="Java", verdict=Verdict.OK, found=f"{version} ({java})")


def kafka_finding(part: Part) -> Finding:
    """Judge the broker's jars."""
    versions = versions_of(part)
    if versions is not None:
        return Finding(subject="Kafka", verdict=Verdict.OK, found=f"{versions['kafka']} ({part.directory})")
    return _not_whole("Kafka", part)


def _not_whole(subject: str, part: Part) -> Finding:
    if part.directory.exists():
        advice = "`hcp stack up` installs it again"
        return Finding(subject=subject, verdict=Verdict.NOTE, found=f"{part.directory} is not whole", advice=advice)
    return Finding(subject=subject, verdict=Verdict.NOTE, found="not installed yet", advice=INSTALL)


def program_finding(subject: str, part: Part, *, program: str) -> Finding:
    """Judge a program of the prefix by running it: its libraries must be found."""
    if versions_of(part) is None:
        return _not_whole(subject, part)
    path = part.directory / program
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        advice = f"remove {part.directory}; {INSTALL} again"
        return Finding(subject=subject, verdict=Verdict.BROKEN, found=f"does not run: {error}", advice=advice)
    versions = versions_of(part) or {}
    package = {"TimescaleDB": "postgresql-17-timescaledb", "Redis": "redis-server"}[subject]
    version = versions.get(package, "of unknown version")
    return Finding(subject=subject, verdict=Verdict.OK, found=f"{version}; {done.stdout.strip()[:60]}")


def folder_finding(subject: str, folder: Path, *, mb_free_min: int, setting: str, is_shared: bool) -> Finding:
    """Judge a folder's disk and, for what root's PostgreSQL must read, the way to it."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free_mb = shutil.disk_usage(existing).free // 1_000_000
    found = f"{folder}, {free_mb:,} MB free"
    account = service_account()
    closed = closed_to(folder, account) if account is not None and is_shared else None
    if account is not None and closed is not None:
        advice = f"{closed} is closed to the user {account.pw_name}; set {setting} to an open folder"
        return Finding(subject=subject, verdict=Verdict.BROKEN, found=found, advice=advice)
    if free_mb < mb_free_min:
        advice = f"free {mb_free_min} MB or set {setting} to a folder on another disk"
        return Finding(subject=subject, verdict=Verdict.BROKEN, found=found, advice=advice)
    return Finding(subject=subject, verdict=Verdict.OK, found=found)


def stack_finding(stack: Stack) -> Finding:
    """Judge one stack: down is fine, half up is not."""
    status = stack.status()
    subject = f"stack {status.name}"
    if not status.is_running:
        words = "down" if status.failure is None else f"down since a failure: {status.failure}"
        advice = f"`hcp stack up --name {status.name}` starts it"
        return Finding(subject=subject, verdict=Verdict.NOTE, found=words, advice=advice)
    ports = ", ".join(f"{each.service} {each.port}" for each in status.services)
    if status.is_healthy:
        return Finding(subject=subject, verdict=Verdict.OK, found=f"running, {ports}")
    sick = next(each for each in status.services if not isinstance(each.health, Healthy))
    advice = f"see {sick.log}; `hcp stack down --name {status.name}` and up again"
    return Finding(
        subject=subject, verdict=Verdict.BROKEN, found=f"{sick.service}: {_words(sick.health)}", advice=advice
    )


def _words(health: Health) -> str:
    return health.detail if isinstance(health, Healthy) else health.reason


def address_findings(settings: Settings) -> Iterator[Finding]:
    """Judge the three configured addresses; without their secrets, which no output may show."""
    dsn = settings.timescale_dsn.get_secret_value()
    url = settings.redis_url.get_secret_value()
    yield address_finding("kafka_bootstrap", settings, settings.kafka_bootstrap, check_kafka(settings.kafka_bootstrap))
    yield address_finding("timescale_dsn", settings, database_place(dsn), check_timescale(dsn))
    yield address_finding("redis_url", settings, redis_place(url), check_redis(url))


def database_place(dsn: str) -> str:
    """Return host, port and database of a DSN, never its user or password."""
    try:
        parts_ = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return "not a DSN"
    return f"{parts_.get('host', 'local socket')}:{parts_.get('port', 5432)}/{parts_.get('dbname', '')}"


def redis_place(url: str) -> str:
    """Return host, port and database number of a Redis URL, never its user or password."""
    split = urlsplit(url)
    return f"{split.hostname}:{split.port or 6379}{split.path}"


def address_finding(field: str, settings: Settings, place: str, health: Health) -> Finding:
    """Judge one address: a default that does not answer is a note, a configured one is broken."""
    variable = f"HCP_{field.upper()}"
    if isinstance(health, Healthy):
        return Finding(subject=variable, verdict=Verdict.OK, found=f"{place}: {health.detail}")
    if field in settings.model_fields_set:
        advice = f"start that service or correct {variable}"
        return Finding(subject=variable, verdict=Verdict.BROKEN, found=f"{place}: {health.reason}", advice=advice)
    advice = 'not set: `eval "$(hcp stack up)"` starts services and sets it'
    return Finding(subject=variable, verdict=Verdict.NOTE, found=f"{place} (default): {health.reason}", advice=advice)
