"""Encryption and login for Kafka: the options of its client that the settings mean."""

from __future__ import annotations

from pathlib import Path

from data.errors import ConfigError
from data.settings import Settings


def kafka_security(settings: Settings) -> dict[str, str]:
    """Return the client's options for encryption and login, none of them for what is neither.

    Raises:
        ConfigError: a file that the settings name cannot be read, or holds no password.
    """
    protocol = settings.kafka_security_protocol
    options = {"security.protocol": protocol}
    if protocol.endswith("SSL") and settings.kafka_ca_file is not None:
        _read(settings.kafka_ca_file, "RAYSCORE_KAFKA_CA_FILE")
        options["ssl.ca.location"] = str(settings.kafka_ca_file)
    if protocol.startswith("SASL"):
        options["sasl.mechanism"] = settings.kafka_sasl_mechanism
        options["sasl.username"] = settings.kafka_username or ""
        options["sasl.password"] = _password(settings)
    return {} if protocol == "PLAINTEXT" else options


def _password(settings: Settings) -> str:
    if settings.kafka_password is not None:
        return settings.kafka_password.get_secret_value()
    file = settings.kafka_password_file or Path()
    password = _read(file, "RAYSCORE_KAFKA_PASSWORD_FILE").removesuffix("\n").removesuffix("\r")
    if not password:
        raise ConfigError(f"RAYSCORE_KAFKA_PASSWORD_FILE: {file} is empty; write the password into it")
    return password


def _read(file: Path, setting: str) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{setting}: {file} cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
