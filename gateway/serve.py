"""`hcp gateway`: the application on Granian, in one process or several that share the port."""

from functools import partial
from pathlib import Path
from typing import Final

import structlog
from granian import Granian
from granian.constants import Interfaces, Loops
from litestar import Litestar

from gateway.app import make_app, make_gateway
from gateway.deps import GatewayConfig
from gateway.inference import InferenceConfig, urls_of
from gateway.keys import ensure_keys
from gateway.limits import Limit
from gateway.migrations import prepare
from hcp.errors import SettingsError
from hcp.logs import configure_logs
from hcp.model.facilities import Fleet
from hcp.settings import Settings

BACKLOG: Final = 1_024
EXIT_OK: Final = 0


def keys_dir_of(settings: Settings) -> Path:
    """Return the folder of signing keys."""
    return settings.gateway_keys_dir or settings.state_dir / "gateway" / "keys"


def config_of(settings: Settings) -> GatewayConfig:
    """Return the part of the settings that the gateway needs.

    Raises:
        SettingsError: The inference servers' key cannot be read, or where they are is not said in pairs.
    """
    return GatewayConfig(
        postgres_dsn=settings.postgres_dsn.get_secret_value(),
        timescale_dsn=settings.timescale_dsn.get_secret_value(),
        redis_url=settings.redis_url.get_secret_value(),
        issuer=settings.gateway_issuer,
        keys_dir=keys_dir_of(settings),
        processes=settings.gateway_workers,
        rates_per_s={
            Limit.READ: settings.gateway_reads_per_s,
            Limit.WRITE: settings.gateway_writes_per_s,
            Limit.LOGIN: settings.gateway_logins_per_s,
        },
        inference=InferenceConfig(urls=urls_of(settings.inference_urls), key=_key_in(settings.inference_key_file)),
    )


def _key_in(file: Path | None) -> str | None:
    try:
        return None if file is None else file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"HCP_INFERENCE_KEY_FILE must be readable, was {file}: {error}") from error


def load_app(settings: Settings, fleet: Fleet) -> Litestar:
    """Make one process's application; Granian calls it in each."""
    configure_logs(level=settings.log_level, log_format=settings.log_format, process="gateway")
    return make_app(make_gateway(config_of(settings), fleet))


def run_gateway(*, settings: Settings, fleet: Fleet) -> int:
    """Prepare the database and serve until SIGTERM; return the exit code.

    Raises:
        SettingsError: One of certificate and key is missing.
        StoreError: The database cannot be prepared.
    """
    if (settings.gateway_tls_cert is None) != (settings.gateway_tls_key is None):
        raise SettingsError("HCP_GATEWAY_TLS_CERT and HCP_GATEWAY_TLS_KEY must be given together, was one of them")
    ensure_keys(keys_dir_of(settings))
    prepare(settings.postgres_dsn.get_secret_value(), fleet)
    make_app(make_gateway(config_of(settings), fleet))  # a mistake ends this process, not each worker for ever
    server = Granian(
        "gateway.serve:load_app",
        address=settings.gateway_host,
        port=settings.gateway_port,
        interface=Interfaces.ASGI,
        workers=settings.gateway_workers,
        loop=Loops.uvloop,
        backlog=BACKLOG,
        log_enabled=False,
        ssl_cert=settings.gateway_tls_cert,
        ssl_key=settings.gateway_tls_key,
        respawn_failed_workers=True,
    )
    structlog.get_logger(__name__).info("gateway_ready", host=settings.gateway_host, port=settings.gateway_port)
    server.serve(target_loader=partial(load_app, settings, fleet), wrap_loader=False)
    return EXIT_OK
