"""How each of the three services is laid out on disk, prepared once, and run by the supervisor."""

import pwd
import shutil
import signal
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from hcp.errors import StackError
from hcp.stack.supervisor import ServicePlan
from hcp.stack.values import Installed, Ports, Service

PREPARE_SECONDS_MAX = 120.0
KAFKA_HEAP = "-Xmx512m"
ZONEINFO = Path("/usr/share/zoneinfo/UTC")
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where one stack keeps its things."""

    directory: Path
    timescaledb: Path
    """Apart, because it must be open to PostgreSQL's account; usually inside `directory`."""

    def home(self, service: Service) -> Path:
        """Return the folder of one service's configuration and data."""
        return self.timescaledb if service is Service.TIMESCALEDB else self.directory / service.value

    def log(self, service: Service) -> Path:
        """Return the log file of one service."""
        return self.directory / "logs" / f"{service.value}.log"


# Internal topics at replication 1, with four partitions: every partition costs files and start-up time. The
# broker never deletes by itself: recorded years are replayed with their own timestamps, old to any retention.
# A broker that was killed may register again only when its former session has run out: 9 s by default.
KAFKA_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{ports.kafka_controller}
listeners=PLAINTEXT://127.0.0.1:{ports.kafka},CONTROLLER://127.0.0.1:{ports.kafka_controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{ports.kafka}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
num.partitions=4
auto.create.topics.enable=false
log.retention.ms=-1
log.cleaner.dedupe.buffer.size=2097152
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""

LOG4J_PROPERTIES = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1} %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""

REDIS_CONF = """\
bind 127.0.0.1
port {ports.redis}
dir {data}
daemonize no
save ""
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
"""


def _postgres_settings(ports: Ports, memory_mb: int) -> dict[str, str]:
    """Return the server's settings; the page cache it counts on and the log it keeps grow with its shared memory."""
    return {
        "port": str(ports.timescaledb),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "shared_preload_libraries": "timescaledb",
        "timescaledb.telemetry_level": "off",
        "timezone": "UTC" if ZONEINFO.exists() else "GMT",  # GMT is the one zone PostgreSQL knows without tzdata
        "log_timezone": "GMT",
        "shared_buffers": f"{memory_mb}MB",
        "effective_cache_size": f"{4 * memory_mb}MB",
        "maintenance_work_mem": "128MB",
        "work_mem": "16MB",
        "wal_compression": "on",
        "max_wal_size": f"{8 * memory_mb}MB",  # each checkpoint writes all pages touched; seldom is better
        "checkpoint_timeout": "15min",
        "max_worker_processes": "16",
        "synchronous_commit": "on",  # an acknowledged row survives; the offsets' transaction relies on it
        "jit": "off",
    }


def _java(installed: Installed, home: Path, *options: str) -> list[str]:
    return [
        str(installed.java),
        KAFKA_HEAP,
        "-XX:+UseSerialGC",
        *options,
        f"-Dlog4j2.configurationFile=file:{home / 'log4j2.properties'}",
        "-cp",
        f"{installed.kafka_libs}/*",
    ]


def _run_once(argv: list[str], *, doing: str, account: pwd.struct_passwd | None = None) -> None:
    try:
        done = subprocess.run(
            argv,
            env=ENVIRONMENT,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=PREPARE_SECONDS_MAX,
            check=False,
            user=None if account is None else account.pw_uid,
            group=None if account is None else account.pw_gid,
            extra_groups=None if account is None else [],
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(
            f"{doing} did not finish in {PREPARE_SECONDS_MAX:.0f} s; is the machine overloaded?"
        ) from error
    except OSError as error:
        raise StackError(f"{doing} failed: {error}; remove the cache shown by `hcp doctor` and run it again") from error
    if done.returncode != 0:
        last = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()][-3:]
        raise StackError(f"{doing} failed: {' | '.join(last) or done.returncode}")


def _finish(partial: Path, data: Path) -> None:
    """Give prepared data its real name: data that is there is whole, whenever the preparation was cut off."""
    partial.rename(data)


def prepare_kafka(layout: Layout, installed: Installed, ports: Ports) -> None:
    """Write the broker's configuration; format its storage the first time."""
    home = layout.home(Service.KAFKA)
    home.mkdir(exist_ok=True)
    data, partial = home / "data", home / "data.partial"
    properties = home / "server.properties"
    (home / "log4j2.properties").write_text(LOG4J_PROPERTIES, encoding="utf-8")
    properties.write_text(KAFKA_PROPERTIES.format(ports=ports, data=data), encoding="utf-8")
    if data.exists():
        return
    shutil.rmtree(partial, ignore_errors=True)
    formatting = home / "format.properties"
    formatting.write_text(KAFKA_PROPERTIES.format(ports=ports, data=partial), encoding="utf-8")
    cluster_id = uuid.uuid4().hex[:22]
    java = _java(installed, home, "-XX:TieredStopAtLevel=1", "-Xshare:auto")
    _run_once(
        [*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(formatting)],
        doing="formatting Kafka's storage",
    )
    _finish(partial, data)


def prepare_timescaledb(layout: Layout, installed: Installed, account: pwd.struct_passwd | None) -> None:
    """Make PostgreSQL's data folder the first time."""
    home = layout.home(Service.TIMESCALEDB)
    home.mkdir(parents=True, exist_ok=True)
    data, partial = home / "data", home / "data.partial"
    if data.exists():
        return
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    if account is not None:
        shutil.chown(partial, account.pw_uid, account.pw_gid)
    initdb = str(installed.prefix / "usr/lib/postgresql/17/bin/initdb")
    options = ["-U", "postgres", "-A", "trust", "--locale=C.UTF-8", "-E", "UTF8", "--no-sync"]
    _run_once([initdb, "-D", str(partial), *options], doing="making PostgreSQL's data folder", account=account)
    _finish(partial, data)


def prepare_redis(layout: Layout, ports: Ports) -> None:
    """Write Redis's configuration."""
    home = layout.home(Service.REDIS)
    (home / "data").mkdir(parents=True, exist_ok=True)
    (home / "redis.conf").write_text(REDIS_CONF.format(ports=ports, data=home / "data"), encoding="utf-8")


def plans(
    layout: Layout, installed: Installed, ports: Ports, account: pwd.struct_passwd | None, *, memory_mb: int
) -> tuple[ServicePlan, ServicePlan, ServicePlan]:
    """Return how the supervisor runs the three; `memory_mb` is the database's shared memory."""
    return (
        _kafka_plan(layout, installed),
        _timescaledb_plan(layout, installed, ports, account, memory_mb),
        _redis_plan(layout, installed),
    )


def _kafka_plan(layout: Layout, installed: Installed) -> ServicePlan:
    home = layout.home(Service.KAFKA)
    return ServicePlan(
        name=Service.KAFKA,
        argv=(*_java(installed, home), "kafka.Kafka", str(home / "server.properties")),
        directory=str(home),
        environment=ENVIRONMENT,
        log=str(layout.log(Service.KAFKA)),
        user=None,
        group=None,
        stop_signal=signal.SIGTERM,  # ends with 143, which is the JVM's way of saying so
        death_signal=signal.SIGKILL,  # an orderly end can take long; what it acknowledged is with the kernel
        stop_seconds_max=15.0,
    )


def _timescaledb_plan(
    layout: Layout, installed: Installed, ports: Ports, account: pwd.struct_passwd | None, memory_mb: int
) -> ServicePlan:
    home = layout.home(Service.TIMESCALEDB)
    settings = [
        part for name, value in _postgres_settings(ports, memory_mb).items() for part in ("-c", f"{name}={value}")
    ]
    postgres = str(installed.prefix / "usr/lib/postgresql/17/bin/postgres")
    return ServicePlan(
        name=Service.TIMESCALEDB,
        argv=(postgres, "-D", str(home / "data"), *settings),
        directory=str(home),
        environment=ENVIRONMENT,
        log=str(layout.log(Service.TIMESCALEDB)),
        user=None if account is None else account.pw_uid,
        group=None if account is None else account.pw_gid,
        stop_signal=signal.SIGINT,  # fast shutdown: SIGTERM would wait for every client to go
        death_signal=signal.SIGQUIT,  # immediate shutdown: it ends its own children, within 5 s by force
        stop_seconds_max=15.0,
    )


def _redis_plan(layout: Layout, installed: Installed) -> ServicePlan:
    home = layout.home(Service.REDIS)
    return ServicePlan(
        name=Service.REDIS,
        argv=(str(installed.prefix / "usr/bin/redis-server"), str(home / "redis.conf")),
        directory=str(home),
        environment=ENVIRONMENT,
        log=str(layout.log(Service.REDIS)),
        user=None,
        group=None,
        stop_signal=signal.SIGTERM,
        death_signal=signal.SIGTERM,
        stop_seconds_max=10.0,
    )
