"""`hcp demo`: the whole of HCP on embedded services, replaying a recorded week, with a live picture and a summary.

Customers can use it meanwhile: a gateway answers, and what one may type is printed.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape

from agents import AGENTS
from gateway.inference import ANY
from hcp.cli.children import Child, Children
from hcp.cli.picture import Picture
from hcp.cli.session import Session, make_session
from hcp.cli.stack import settings_of
from hcp.cli.summary import print_summary
from hcp.clock import seconds, wall_ms
from hcp.errors import HcpError, StackError
from hcp.fleet import load_fleet
from hcp.kafka.admin import ensure_topics
from hcp.model.facilities import Fleet
from hcp.model.units import MS_PER_SECOND
from hcp.settings import Settings, load_settings
from hcp.stack import StackAddresses, default_cache_dir, running_stack
from hcp.stack.ports import is_free
from simulators.market import sample_start_ms
from sinks import SINKS
from streams.policies import POLICY_NAMES

REFRESH_MS: Final = 1_000
DRAIN_MS: Final = 3_000
"""How long the pipeline may finish what is under way before its processes are stopped, consumers last."""

PRICED_MS_MAX: Final = 20_000
LOOK_MS: Final = 100
GATEWAY_PORTS: Final = range(8_080, 8_180)
"""The first free one; its standard one when nothing else runs here."""

INFERENCE_PORTS: Final = range(8_200, 8_300)
WEIGHTS_MB: Final = "4"
"""The one simulated server answers for every device; a small model spares the cores."""

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One demo: what it runs on and what it was asked for."""

    settings: Settings
    fleet: Fleet
    policy: str
    speed_ratio: float
    duration_ms: int | None


def demo(
    speed: Annotated[
        float, typer.Option(min=1.0, help="Event seconds per wall second; 1200 plays a week in 8½ minutes.")
    ] = 1200.0,
    duration: Annotated[
        int | None, typer.Option(min=1, help="Seconds until it stops by itself; default: at the end of the week.")
    ] = None,
    policy: Annotated[str, typer.Option(help=f"Policy: {POLICY_NAMES}.")] = "threshold",
    fleet_file: Annotated[Path, typer.Option("--fleet", help="Fleet description.")] = Path("fleet.demo.toml"),
    name: Annotated[str, typer.Option(help="Name of its stack; two demos need two names.")] = "demo",
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep its data for SQL afterwards: hcp stack up --name demo.")
    ] = False,
) -> None:
    """Start everything, replay a recorded week of prices, show it live, stop everything, print a summary."""
    began_ms = wall_ms()
    settings = load_settings(fleet_file=fleet_file)
    fleet = load_fleet(settings.fleet_file)
    directory = settings.state_dir / "stacks" / name
    with running_stack(
        directory, default_cache_dir(settings.cache_dir), keep=keep, java_home=settings.java_home, progress=_progress
    ) as addresses:
        run = Run(
            settings=_settings(settings, addresses),
            fleet=fleet,
            policy=policy,
            speed_ratio=speed,
            duration_ms=duration * MS_PER_SECOND if duration is not None else None,
        )
        made = ensure_topics(run.settings.kafka_bootstrap)
        _progress(f"{len(made)} topics created")
        _play(run, directory=directory, addresses=addresses, began_ms=began_ms)


def _progress(line: str) -> None:
    console.print(f"[dim]{escape(line)}[/dim]")


def _settings(settings: Settings, addresses: StackAddresses) -> Settings:
    return load_settings(
        **{
            **settings.model_dump(),
            "kafka_bootstrap": addresses.kafka_bootstrap,
            "timescale_dsn": addresses.timescale_dsn,
            "postgres_dsn": addresses.postgres_dsn,
            "gateway_port": _free_port(GATEWAY_PORTS),
            "inference_urls": f"{ANY}=http://127.0.0.1:{_free_port(INFERENCE_PORTS)}",
            "redis_url": addresses.redis_url,
        }
    )


def _free_port(ports: range) -> int:
    found = next((port for port in ports if is_free(port)), None)
    if found is None:
        raise StackError(f"one of the ports {ports.start}-{ports.stop - 1} must be free, all were in use")
    return found


def _play(run: Run, *, directory: Path, addresses: StackAddresses, began_ms: int) -> None:
    environment = {
        **settings_of(addresses),
        "HCP_FLEET_FILE": str(run.settings.fleet_file.absolute()),
        "HCP_STATE_DIR": str((directory / "state").absolute()),
        "HCP_LOG_LEVEL": run.settings.log_level,
        "HCP_GATEWAY_PORT": str(run.settings.gateway_port),
        "HCP_INFERENCE_URLS": run.settings.inference_urls,
    }
    session = make_session(
        addresses.postgres_dsn,
        run.fleet,
        url=f"http://127.0.0.1:{run.settings.gateway_port}",
        folder=directory,
        began_ms=began_ms,
    )
    children = Children(logs=directory / "logs", environment=environment)
    with ExitStack() as cleanup:
        cleanup.callback(children.stop_all)
        market = _start(run, children)
        picture = Picture(settings=run.settings, fleet=run.fleet, began_ms=began_ms)
        cleanup.callback(picture.close)
        _show(session, children=children, picture=picture)
        ended = _watch(run, children, market=market, picture=picture)
        _progress(f"{ended}; stopping")
        _settle(children, market)
        codes = children.stop_all()
        print_summary(picture, fleet=run.fleet, exit_codes=codes)


def _start(run: Run, children: Children) -> Child:
    for name in SINKS:
        children.start(f"sink-{name}", ["sink", name], ready="sink_ready")
    for name in AGENTS:
        extra = ["--policy", run.policy] if name == "orchestrator" else []
        children.start(f"agent-{name}", ["agent", name, *extra], ready="agent_ready")
    children.start("controller", ["controller"], ready="controller_ready")
    port = run.settings.inference_urls.rpartition(":")[2]
    server = ["server", "--port", port, "--weights-mb", WEIGHTS_MB]
    children.start("inference", server, ready='"port"', module="simulators.gpu_workloads.cli")
    children.start("relay", ["relay"], ready="relay_ready")
    children.start("gateway", ["gateway"], ready="gateway_serves")
    _progress("waiting for agents, controller, sinks and gateway")
    children.wait_ready()
    clock = [
        "--speed", str(run.speed_ratio), "--origin-ms", str(sample_start_ms()), "--started-ms", str(wall_ms()),
    ]  # fmt: skip
    children.start("simulate-fleet", ["simulate", "fleet", *clock])
    return children.start("simulate-market", ["simulate", "market", *clock])


def _show(session: Session, *, children: Children, picture: Picture) -> None:
    """Print what a customer may type, once there are prices for it."""
    until = time.monotonic() + seconds(PRICED_MS_MAX)
    while not picture.is_scored and time.monotonic() < until:
        children.check()
        time.sleep(seconds(LOOK_MS))
    _progress("in another shell, here, a customer may type:")
    console.print(escape(str(session)))


def _watch(run: Run, children: Children, *, market: Child, picture: Picture) -> str:
    """Show the live picture until the duration, the end of the data or Ctrl-C; return which of them it was."""
    until = None if run.duration_ms is None else time.monotonic() + seconds(run.duration_ms)
    try:
        with Live(picture.render(), console=console, refresh_per_second=2, transient=False) as live:
            while market.process.poll() is None:
                if until is not None and time.monotonic() >= until:
                    return "the duration is over"
                children.check()
                live.update(picture.render())
                time.sleep(seconds(REFRESH_MS))
        children.check()
    except KeyboardInterrupt:
        return "interrupted"
    else:
        return "the recorded week is over"


def _settle(children: Children, market: Child) -> None:
    """Stop new prices first, then give the pipeline a moment, so that the summary counts whole switches."""
    children.stop(market)
    time.sleep(seconds(DRAIN_MS))
    try:
        children.check()
    except HcpError as error:
        console.print(f"[red]{escape(str(error))}[/]")
