"""`hcp gateway`, `hcp relay` and `hcp users ...`: the customers' API, its way to Kafka, and who may use it."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.accounts import DEVICES_MAX, SPEND_USD_MICROS_PER_DAY_MAX, NewUser, audit_key, create_user, disable_user
from gateway.keys import make_key
from gateway.migrations import prepare
from gateway.passwords import new_secret
from gateway.principals import Kind, Role
from gateway.relay import run_relay
from gateway.serve import keys_dir_of, run_gateway
from hcp.cli.processes import FleetFile
from hcp.errors import SettingsError
from hcp.fleet import load_fleet
from hcp.logs import configure_logs
from hcp.model.facilities import Fleet
from hcp.settings import Settings, load_settings
from hcp.telemetry import serve_metrics

USD_MICROS = 1_000_000

users = typer.Typer(no_args_is_help=True, help="People and services that may use the gateway, and its signing keys.")

Email = Annotated[str, typer.Argument(help="Address to sign in with; for a service its name, in the same form.")]


def gateway(
    port: Annotated[int | None, typer.Option(help="Port; default: HCP_GATEWAY_PORT or 8080.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the port.", min=1)] = None,
    fleet_file: FleetFile = None,
) -> None:
    """Serve the customers' API until SIGTERM."""
    settings, fleet = _begin("gateway", fleet_file, gateway_port=port, gateway_workers=workers)
    raise typer.Exit(run_gateway(settings=settings, fleet=fleet))


def relay(fleet_file: FleetFile = None) -> None:
    """Publish what the gateway has committed to its outbox until SIGTERM; a second one stands by."""
    settings, fleet = _begin("relay", fleet_file)
    serve_metrics(settings.metrics_port)
    raise typer.Exit(run_relay(settings=settings, fleet=fleet))


def _begin(process: str, fleet_file: Path | None, **overrides: object) -> tuple[Settings, Fleet]:
    settings = load_settings(fleet_file=fleet_file, **overrides)
    configure_logs(level=settings.log_level, log_format=settings.log_format, process=process)
    return settings, load_fleet(settings.fleet_file)


@users.command()
def create(
    email: Email,
    customer: Annotated[str, typer.Option(help="Whose workloads are its own; made when new.")],
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.CUSTOMER,
    service: Annotated[bool, typer.Option("--service", help="A service: its secret is made and shown once.")] = False,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password, or - for standard input; default: ask.")
    ] = None,
    devices_max: Annotated[int, typer.Option(min=0, help="A new customer's devices at once.")] = DEVICES_MAX,
    usd_per_day_max: Annotated[
        int, typer.Option(min=0, help="A new customer's spend a day, USD.")
    ] = SPEND_USD_MICROS_PER_DAY_MAX // USD_MICROS,
    fleet_file: FleetFile = None,
) -> None:
    """Make a person or a service that may sign in; the first admin is made here too."""
    settings, fleet = _begin("users", fleet_file)
    dsn = settings.postgres_dsn.get_secret_value()
    prepare(dsn, fleet)
    secret = new_secret() if service else _password(password_file)
    user = NewUser(
        email=email,
        secret=secret,
        kind=Kind.SERVICE if service else Kind.PERSON,
        role=role,
        customer_name=customer,
        devices_max=devices_max,
        spend_usd_micros_per_day_max=usd_per_day_max * USD_MICROS,
    )
    create_user(dsn, user)
    typer.echo(f"{email.lower()} is {role.value} of {customer}")
    if service:
        typer.echo(f"secret, shown this once: {secret}")


@users.command()
def disable(email: Email) -> None:
    """End a user's sessions within a second and refuse new ones."""
    disable_user(load_settings().postgres_dsn.get_secret_value(), email)
    typer.echo(f"{email.lower()} is disabled")


@users.command(name="rotate-key")
def rotate_key(fleet_file: FleetFile = None) -> None:
    """Make a new signing key; tokens signed by older ones count until their files are removed."""
    settings, fleet = _begin("users", fleet_file)
    dsn = settings.postgres_dsn.get_secret_value()
    prepare(dsn, fleet)  # where there is no database there can be no audit, and so no key
    folder = keys_dir_of(settings)
    kid = make_key(folder)
    audit_key(dsn, kid)
    typer.echo(f"{kid} signs from now on; remove older files of {folder} once their tokens have expired")


def _password(file: Path | None) -> str:
    if file is None:
        return str(typer.prompt("password", hide_input=True, confirmation_prompt=True))
    try:
        text = typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"password file must be readable, was {file}: {error.strerror}") from error
    return text.rstrip("\r\n")
