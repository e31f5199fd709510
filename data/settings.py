"""Settings: read once, typed, validated. This is the only module that reads RAYSCORE_* variables.

Precedence: environment variable `RAYSCORE_<NAME>`, then the TOML file named by `RAYSCORE_CONFIG`
(default `rayscore.toml` in the working directory, when there is one), then the default.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from data.errors import ConfigError, faults

PREFIX = "RAYSCORE_"
# Settings travel to workers and replicas, which run in other working directories.
_Path = Annotated[Path, AfterValidator(Path.absolute)]
_Port = Annotated[int, Field(ge=1, le=65535)]
_Replicas = Annotated[int, Field(ge=1, le=1000)]
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[1-9]\d{0,4}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def _as_browsers_send(origins: str) -> str:
    """Check origins, separated by commas: one in another spelling than a browser's would never match."""
    for origin in () if origins.strip() == "*" else _split(origins):
        found = _ORIGIN.fullmatch(origin)
        if not found or int(found["port"] or 1) > 65535:
            raise ValueError(
                f"'{origin}' is not an origin: write scheme://host or scheme://host:port in lower case, with no path, "
                "or '*' alone for every origin"
            )
        if found["port"] and found["port"] == _DEFAULT_PORTS.get(found["scheme"]):
            raise ValueError(f"'{origin}': leave out the port, as browsers do with that of {found['scheme']}")
    return origins


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


_Origins = Annotated[str, AfterValidator(_as_browsers_send)]


class Settings(BaseSettings):
    """All settings, each with its meaning beneath it; immutable."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    use_case: str = "card_fraud"
    """Name of a shipped use case, or path of a use-case file."""
    var_dir: _Path = Path("var")
    """Folder of run-time files: the SQLite store, the local MLflow database, generated data."""

    store: Literal["sqlite", "cassandra"] = "sqlite"
    """Online store."""
    sqlite_file: _Path | None = None
    """SQLite store's file; default `online.db` in the var folder."""
    events_file: _Path | None = None
    """File of the events of window features, with the SQLite store; default `events.db` in the var folder."""
    events_max_age_days: Annotated[float, Field(ge=0, le=36_500)] = 0.0
    """Events older than so many days are removed unless a window may read them; 0: none (Cassandra: a week later)."""
    cassandra_hosts: str = "127.0.0.1"
    """Contact points, separated by commas; `host` or `host:port`."""
    cassandra_port: _Port = 9042
    """Native protocol port of contact points that name none."""
    cassandra_datacenter: str = "datacenter1"
    """Local data center; replicas elsewhere are not asked."""
    cassandra_keyspace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")] = "rayscore"
    """Keyspace of the feature table."""
    cassandra_replication_factor: Annotated[int, Field(ge=1, le=10)] = 1
    """Replication factor with which a missing keyspace is made."""
    cassandra_username: str | None = None
    """User name, when the cluster asks for one."""
    cassandra_password: SecretStr | None = None
    """Password, when the cluster asks for one."""
    cassandra_read_timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 50
    """Time a read may take before the answer goes on without online values."""
    cassandra_read_consistency: Literal["LOCAL_ONE", "LOCAL_QUORUM"] = "LOCAL_ONE"
    """Replicas that must answer a read: one, or most of those in the data center."""
    cassandra_speculative_delay_ms: Annotated[int, Field(ge=0, le=60_000)] = 10
    """Time after which a read is sent to another replica too; 0 for never."""

    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How `rayscore ingest` speaks to Kafka: encrypted (SSL), with a user and password (SASL), or both."""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """How user and password are sent to Kafka."""
    kafka_username: str | None = None
    """User name for Kafka, with SASL."""
    kafka_password: SecretStr | None = None
    """Password for Kafka, with SASL."""
    kafka_password_file: _Path | None = None
    """File that holds the password for Kafka instead, such as a mounted secret; a line break at its end is left out."""
    kafka_ca_file: _Path | None = None
    """Certificates (PEM) that Kafka's brokers must be signed by, with SSL; default those that this machine trusts."""

    train_memory_mb: Annotated[int, Field(ge=1)] = 2048
    """Memory for the table of a search, and for its windows in `score`, in MiB; what is larger goes over disk."""

    shards_dir: Path | None = None
    """Folder for encoded rows of streamed tables, or a URL where nodes share no disk; default in the var folder."""

    mlflow_tracking_uri: str | None = None
    """MLflow server, e.g. `http://mlflow:5000`; default a local SQLite file `mlflow.db` in the var folder."""
    model_alias: str = "champion"
    """Alias of the registered model to serve."""
    registry_wait_s: Annotated[float, Field(ge=0)] = 60.0
    """How long serving waits at start for the registry to answer and to hold a model, in seconds."""
    versions_held: Annotated[int, Field(ge=2, le=100)] = 6
    """Most versions of the model that a replica holds at once; traffic rules that name more are refused."""
    version_grace_s: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """How long a version that the traffic rules name no more stays loaded, in seconds."""
    admin_token: Annotated[SecretStr, Field(min_length=16)] | None = None
    """Bearer token of the admin API, at least 16 characters; without one the admin API is disabled."""
    events_token: Annotated[SecretStr, Field(min_length=16)] | None = None
    """Bearer token of `POST /events` and of proofs in time, at least 16 characters; without one both are disabled."""

    prediction_log_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the answers that the prediction log keeps; 0 and no share of positives: no log."""
    prediction_log_positive_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The same of answers with the positive label, where it is more; of classes, with any but the most common."""
    prediction_log_dir: _Path | None = None
    """Folder of the prediction log, on every machine with a gateway; default `predictions` in the var folder."""
    prediction_log_flush_s: Annotated[float, Field(ge=0.05, le=60)] = 1.0
    """How often the prediction log is written, in seconds: a crash loses no more than that."""
    prediction_log_max_age_days: Annotated[float, Field(ge=0, le=36_500)] = 30.0
    """Finished files of the prediction log that were begun before so many days are removed; 0: none is, by age."""
    prediction_log_max_mb: Annotated[int, Field(ge=0)] = 10_240
    """Most MiB of finished files that a prediction log's folder keeps, the oldest are removed first; 0: no limit."""
    prediction_log_entity_key: Annotated[SecretStr, Field(min_length=16, max_length=64)] | None = None
    """Key with which the prediction log hashes entities, 16 to 64 characters; without one they are kept as they are."""

    gateway_min_replicas: _Replicas = 1
    """Fewest gateway (HTTP) replicas."""
    gateway_max_replicas: _Replicas = 4
    """Most gateway replicas."""
    feature_min_replicas: _Replicas = 1
    """Fewest feature-fetch replicas."""
    feature_max_replicas: _Replicas = 4
    """Most feature-fetch replicas."""
    model_min_replicas: _Replicas = 1
    """Fewest model replicas."""
    model_max_replicas: _Replicas = 8
    """Most model replicas."""
    explanation_min_replicas: _Replicas = 1
    """Fewest explanation replicas, where the use case declares `[explanation]`; without it there are none."""
    explanation_max_replicas: _Replicas = 4
    """Most explanation replicas."""
    target_busy: Annotated[float, Field(ge=0.05, le=0.95)] = 0.6
    """Share of one CPU that a replica is to use: above it replicas are added, below it taken away."""
    upscale_delay_s: Annotated[float, Field(ge=0)] = 2.0
    """How long there must be too few replicas before one is added, in seconds."""
    downscale_delay_s: Annotated[float, Field(ge=0)] = 60.0
    """How long there must be too many replicas before one is taken away, in seconds."""
    replica_cpus: Annotated[float, Field(ge=0, le=64)] = 0.25
    """CPUs that Ray reserves for each replica; for an explanation replica half of them."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Most rows in one micro-batch."""
    batch_slots: Annotated[int, Field(ge=1, le=64)] = 2
    """Micro-batches that one gateway keeps under way at once, for each model replica."""
    queue_limit: Annotated[int, Field(ge=1)] = 4096
    """Rows that may wait in one gateway, for all versions of the model; beyond it requests are answered 503."""
    request_timeout_ms: Annotated[int, Field(ge=1, le=600_000)] = 1000
    """Time a request may take before it is answered 504."""
    direct_links: bool = True
    """Send calls between gateway and stages over links of their own; off: by Serve's handles."""
    direct_ingress: bool = True
    """Answer /predict past Ray Serve's own work for each request; off: Serve counts and traces these requests too."""
    link_host: str = "auto"
    """Address replicas listen on for links; auto: loopback when all runs on this machine, else the node's address."""
    feature_timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 200
    """Time a feature fetch may take, queueing included, before the answer goes on without online values."""
    explanation_timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 500
    """Time an explanation may take, queueing included, before the answer goes on without reasons."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    """Largest request body accepted."""
    max_items: Annotated[int, Field(ge=1)] = 1000
    """Most items in one request."""
    http_host: str = "127.0.0.1"
    """Address the HTTP port binds to; 0.0.0.0 for every interface (set it on a cluster)."""
    http_port: _Port = 8000
    """HTTP port."""
    cors_origins: _Origins | None = None
    """Origins whose pages may ask for predictions in a browser (CORS), separated by commas; `*` for every origin."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    """Log level of the serving replicas."""

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.queue_limit < self.max_items:
            raise ValueError(
                f"queue_limit {self.queue_limit} is below max_items {self.max_items}: no large request fits"
            )
        return self

    @model_validator(mode="after")
    def _kafka_consistent(self) -> Settings:
        protocol = self.kafka_security_protocol
        passwords = [name for name in ("kafka_password", "kafka_password_file") if getattr(self, name) is not None]
        if protocol.startswith("SASL") and (self.kafka_username is None or len(passwords) != 1):
            raise ValueError(
                f"kafka_security_protocol {protocol} needs kafka_username and either kafka_password or "
                "kafka_password_file"
            )
        for name in ("kafka_username", *passwords):
            if getattr(self, name) is not None and not protocol.startswith("SASL"):
                raise ValueError(f"{name} is of no use with kafka_security_protocol {protocol}: name one with SASL")
        if self.kafka_ca_file is not None and not protocol.endswith("SSL"):
            raise ValueError(f"kafka_ca_file is of no use with kafka_security_protocol {protocol}: name one with SSL")
        return self

    @property
    def sqlite_path(self) -> Path:
        """Path of the SQLite store: `sqlite_file`, or `online.db` in the var folder."""
        return self.sqlite_file or self.var_dir / "online.db"

    @property
    def events_path(self) -> Path:
        """Path of the SQLite event store: `events_file`, or `events.db` in the var folder."""
        return self.events_file or self.var_dir / "events.db"

    @property
    def cors_allowed(self) -> tuple[str, ...]:
        """The origins of `cors_origins`, none when it is not set."""
        return _split(self.cors_origins) if self.cors_origins else ()

    @property
    def prediction_log_path(self) -> Path:
        """Folder of the prediction log: `prediction_log_dir`, or `predictions` in the var folder."""
        return self.prediction_log_dir or self.var_dir / "predictions"

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking URI: `mlflow_tracking_uri`, or a SQLite file in the var folder."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.var_dir / 'mlflow.db'}"

    @property
    def artifact_dir(self) -> Path:
        """Folder in which a local MLflow keeps artifacts."""
        return self.var_dir / "mlartifacts"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Set the precedence: command-line overrides, environment, settings file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config_path())


def config_path() -> Path:
    """Return the path of the settings file, which need not exist unless RAYSCORE_CONFIG names it."""
    return Path(os.environ.get(PREFIX + "CONFIG", "rayscore.toml"))


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; `overrides` (from command-line options) win over all else.

    Raises:
        ConfigError: a value of the wrong type or range, an unknown variable or key, or a broken file.
    """
    named = os.environ.get(PREFIX + "CONFIG")
    if named and not Path(named).is_file():
        raise ConfigError(f"{PREFIX}CONFIG names {named}, which is not a file")
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {PREFIX + "CONFIG"}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise ConfigError(f"unknown setting {unknown[0]}; docs/settings.md lists those there are")
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as exc:
        fault = faults(exc)[0]
        name = fault.place
        if not name:
            raise ConfigError(f"settings: {fault}") from exc
        raise ConfigError(f"setting {PREFIX}{name.upper()} (or '{name}' in {config_path()}): {fault.reason}") from exc
    except ValueError as exc:
        raise ConfigError(f"{config_path()}: not valid TOML: {exc}") from exc
