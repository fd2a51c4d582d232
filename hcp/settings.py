"""THE reader of the environment: one frozen value with prefix HCP_, built once per process at its root."""

from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from hcp.errors import SettingsError


class Settings(BaseSettings):
    """What a process may be told from outside; every field is an environment variable `HCP_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="HCP_", frozen=True, extra="ignore", populate_by_name=True)

    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers, host:port[,host:port].")
    timescale_dsn: SecretStr = Field(
        SecretStr("postgresql://postgres@127.0.0.1:5432/hcp_analytics"),
        description="DSN of the analytics database; a production DSN carries its password from a file.",
    )
    postgres_dsn: SecretStr = Field(
        SecretStr("postgresql://postgres@127.0.0.1:5432/hcp"),
        description="DSN of the gateway's database; a production DSN carries its password from a file.",
    )
    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), description="Redis of the switch journal.")
    mongo_url: SecretStr = Field(
        SecretStr("mongodb://127.0.0.1:27017/hcp"), description="MongoDB and its database, for `hcp sink mongo` alone."
    )
    gateway_host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    gateway_port: int = Field(8080, ge=1, le=65_535, description="Port the gateway listens on.")
    gateway_workers: int = Field(1, ge=1, le=64, description="Processes that serve the gateway's port together.")
    gateway_issuer: str = Field(
        "https://hcp.invalid",
        pattern=r"^https?://\S{1,200}$",
        description="`iss` of the tokens: the gateway's address.",
    )
    gateway_keys_dir: Path | None = Field(
        None,
        description="Signing keys, one <kid>.pem each; default: gateway/keys in the state folder, made if missing.",
    )
    gateway_tls_cert: Path | None = Field(
        None, description="Certificate chain (PEM); with a key the gateway is TLS 1.3."
    )
    gateway_tls_key: Path | None = Field(None, description="Key of the certificate (PEM, PKCS#8).")
    gateway_reads_per_s: float = Field(50.0, gt=0, le=1e6, description="Reads a customer may make, a second and route.")
    gateway_writes_per_s: float = Field(10.0, gt=0, le=1e6, description="Writes a customer may make, likewise.")
    gateway_logins_per_s: float = Field(1.0, gt=0, le=1e6, description="Token requests one address may make a second.")
    inference_urls: str = Field(
        "",
        description="Where the gateway finds inference servers: name=http://... pairs, separated by spaces; a name is "
        "a device, shard, cluster or site, or * for all others; {index} and {shard} stand for the device's.",
    )
    inference_key_file: Path | None = Field(None, description="Bearer token that the inference servers ask for.")
    fleet_file: Path = Field(Path("fleet.toml"), description="The fleet description.")
    hardware_file: Path | None = Field(
        None, description="The real devices that a controller drives; default: all are simulated."
    )
    state_dir: Path = Field(Path(".hcp"), description="Local state: stacks, agents' tables, logs.")
    cache_dir: Path | None = Field(None, description="Downloaded services; default: see `hcp stack status`.")
    java_home: Path | None = Field(
        None,
        validation_alias=AliasChoices("HCP_JAVA_HOME", "JAVA_HOME"),
        description="Java for the embedded Kafka; default: `java` on PATH, then the bundled one.",
    )
    data_dir: Path | None = Field(None, description="Recorded market data for tests and benchmarks.")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error.")
    log_format: str = Field("console", pattern="^(console|json)$", description="console or json.")
    metrics_port: int = Field(0, ge=0, le=65_535, description="Prometheus port on 127.0.0.1; 0 serves none.")
    instance: str = Field(
        "0", pattern="^[a-z0-9-]{1,32}$", description="Which copy of this process, stable over restarts."
    )


def load_settings(**overrides: object) -> Settings:
    """Read the environment; `overrides` win (command-line options, tests).

    Raises:
        SettingsError: A variable is out of range; names it and says what was there.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "HCP_" + "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{name}: {first['msg']}, was {first.get('input')!r}") from error
