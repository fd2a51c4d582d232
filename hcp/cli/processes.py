"""`hcp agent|controller|sink|simulate`: one long-running process each, ended by SIGTERM or Ctrl-C."""

import math
from pathlib import Path
from typing import Annotated

import typer

import agents
import sinks
from agents.worker import run_agent
from controllers.service import run_controller
from hcp.clock import wall_ms
from hcp.errors import HcpError, SettingsError
from hcp.fleet import load_fleet
from hcp.logs import configure_logs
from hcp.model.facilities import Fleet
from hcp.model.units import EpochMs
from hcp.settings import Settings, load_settings
from hcp.telemetry import serve_metrics
from simulators.fleet import run_fleet
from simulators.market import run_market
from sinks.live.service import run_live
from sinks.operational.service import run_operational
from sinks.service import CONNECTIONS_MAX, run_sink
from streams.policies import POLICY_NAMES

FleetFile = Annotated[
    Path | None, typer.Option("--fleet", help="Fleet description; default: HCP_FLEET_FILE or fleet.toml.")
]
Speed = Annotated[float, typer.Option(help="Event seconds per wall second; 0: as fast as possible.", min=0.0)]
OriginMs = Annotated[
    int | None, typer.Option(help="Event time at the start, ms since the epoch; default: of the data.")
]
StartedMs = Annotated[int | None, typer.Option(help="Wall time at the start, ms since the epoch; default: now.")]

simulate = typer.Typer(no_args_is_help=True, help="Simulated market and fleet, on the real topics.")


def _begin(process: str, fleet_file: Path | None) -> tuple[Settings, Fleet]:
    settings = load_settings(fleet_file=fleet_file)
    configure_logs(level=settings.log_level, log_format=settings.log_format, process=process)
    fleet = load_fleet(settings.fleet_file)
    serve_metrics(settings.metrics_port)
    return settings, fleet


def _one_of(name: str, known: tuple[str, ...], what: str) -> str:
    if name not in known:
        raise SettingsError(f"{what} must be one of {', '.join(known)}, was {name}")
    return name


def agent(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(agents.AGENTS)}.")],
    fleet_file: FleetFile = None,
    policy: Annotated[str, typer.Option(help=f"Policy of the orchestrator: {POLICY_NAMES}.")] = "threshold",
) -> None:
    """Run one Faust agent until SIGTERM."""
    _one_of(name, tuple(agents.AGENTS), "agent")
    settings, fleet = _begin(f"agent.{name}", fleet_file)
    raise typer.Exit(run_agent(name, settings=settings, fleet=fleet, policy=policy))


def controller(
    facility: Annotated[list[str] | None, typer.Option(help="Drive only this site; may be given again.")] = None,
    fleet_file: FleetFile = None,
) -> None:
    """Run a controller: execute switch commands on devices until SIGTERM."""
    settings, fleet = _begin("controller", fleet_file)
    for wanted in facility or []:
        _one_of(wanted, tuple(site.facility_id for site in fleet.facilities), "facility")
    raise typer.Exit(run_controller(settings=settings, fleet=fleet, facilities=tuple(facility or ())))


def sink(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(sinks.SINKS)}.")],
    topic: Annotated[list[str] | None, typer.Option(help="Only this topic; may be given again.")] = None,
    connections: Annotated[
        int,
        typer.Option(help="Members of the group in this process, each with a connection.", min=1, max=CONNECTIONS_MAX),
    ] = 1,
    by_record: Annotated[
        bool, typer.Option("--by-record", help="Decode with fastavro alone, record by record.")
    ] = False,
    replay: Annotated[
        str | None, typer.Option(help="Take this replay instead, into a database of its own (timescale).")
    ] = None,
) -> None:
    """Run one sink: topics into a store, each event exactly once, until SIGTERM."""
    _one_of(name, tuple(sinks.SINKS), "sink")
    settings = load_settings()
    configure_logs(level=settings.log_level, log_format=settings.log_format, process=f"sink.{name}")
    serve_metrics(settings.metrics_port)
    if replay is not None and name != "timescale":
        raise SettingsError(f"--replay must come with sink timescale, was {name}")
    if name == "operational":
        raise typer.Exit(run_operational(settings=settings))
    if name == "live":
        raise typer.Exit(run_live(settings=settings))
    if name == "mongo":
        raise typer.Exit(_run_mongo(settings))
    topics = tuple(topic or ())
    code = run_sink(
        name, settings=settings, topics=topics, connections=connections, is_by_record=by_record, replay=replay
    )
    raise typer.Exit(code)


def _run_mongo(settings: Settings) -> int:
    try:
        from sinks.mongo.service import run_mongo  # noqa: PLC0415  # its driver is an extra
    except ModuleNotFoundError as error:
        raise SettingsError(f"the MongoDB sink needs the extra mongo (hcp[mongo]), was without {error.name}") from error
    return run_mongo(settings=settings)


@simulate.command()
def market(
    source: Annotated[
        Path | None, typer.Option(help="Folder of recorded series; default: the week that HCP ships.")
    ] = None,
    synthetic_seed: Annotated[int | None, typer.Option(help="A synthetic market with this seed instead.")] = None,
    speed: Speed = 1.0,
    origin_ms: OriginMs = None,
    started_ms: StartedMs = None,
    fleet_file: FleetFile = None,
) -> None:
    """Replay a recorded market (or a seeded synthetic one) onto market.price."""
    settings, fleet = _begin("simulate.market", fleet_file)
    code = run_market(
        settings=settings,
        fleet=fleet,
        speed_ratio=speed or math.inf,
        source=source,
        synthetic_seed=synthetic_seed,
        origin_ms=EpochMs(origin_ms) if origin_ms is not None else None,
        started_ms=EpochMs(started_ms) if started_ms is not None else None,
    )
    raise typer.Exit(code)


@simulate.command(name="fleet")
def simulate_fleet(
    *,
    tick_ms: Annotated[int, typer.Option(min=100, help="Wall time between two readings of each device.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Seed of noise and faults.")] = 7,
    fault: Annotated[
        list[str] | None, typer.Option(help="Such as overheat:tx-north.asic-1/00/3; may be given again.")
    ] = None,
    nvml: Annotated[
        list[str] | None,
        typer.Option(metavar="SHARD=FILE", help="Show this shard's GPUs in a simulated NVML, whose controller sends."),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="CLUSTER", help="Leave real devices out; may be given again.")
    ] = None,
    speed: Speed = 1.0,
    origin_ms: OriginMs = None,
    started_ms: StartedMs = None,
    fleet_file: FleetFile = None,
) -> None:
    """Emit telemetry of every device of the fleet, following what controllers switch."""
    settings, fleet = _begin("simulate.fleet", fleet_file)
    if not speed:
        raise HcpError("speed must be above 0 for the fleet simulator, was 0")
    now = wall_ms()
    code = run_fleet(
        settings=settings,
        fleet=fleet,
        tick_ms=tick_ms,
        seed=seed,
        speed_ratio=speed,
        origin_ms=EpochMs(origin_ms if origin_ms is not None else now),
        started_ms=EpochMs(started_ms if started_ms is not None else now),
        faults=tuple(fault or ()),
        nvml=tuple(nvml or ()),
        without=tuple(without or ()),
    )
    raise typer.Exit(code)
