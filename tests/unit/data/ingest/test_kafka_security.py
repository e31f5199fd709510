"""Encryption and login for Kafka: what the settings mean to its client, and what of them is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.errors import ConfigError
from data.ingest.kafka_address import KafkaAddress
from data.ingest.kafka_security import kafka_security
from data.ingest.kafka_topic import KafkaTopic
from data.settings import Settings, load_settings

PASSWORD = "sixteen letters or more"
LOGIN = {"kafka_security_protocol": "SASL_SSL", "kafka_username": "ingest"}


def test_nothing_said_is_plaintext():
    """Without settings the client gets no options."""
    assert kafka_security(Settings()) == {}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_login_by_password_or_file(tmp_path: Path, mechanism: str):
    """The password of a setting and that of a file, whose line break is left out, are the same to the client."""
    given = {**LOGIN, "kafka_sasl_mechanism": mechanism}
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    options = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": mechanism,
        "sasl.username": "ingest",
        "sasl.password": PASSWORD,
    }
    assert kafka_security(Settings(**given, kafka_password=PASSWORD)) == options
    assert kafka_security(Settings(**given, kafka_password_file=file)) == options
    KafkaTopic(KafkaAddress("127.0.0.1:1", "topic"), "group", print, options).close()


def test_certificates_are_passed_on(tmp_path: Path):
    """Encryption alone needs no user, and names the certificates."""
    (tmp_path / "ca.pem").write_text("certificates")
    given = Settings(kafka_security_protocol="SSL", kafka_ca_file=tmp_path / "ca.pem")
    assert kafka_security(given) == {"security.protocol": "SSL", "ssl.ca.location": str(tmp_path / "ca.pem")}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"kafka_security_protocol": "sasl"}, "KAFKA_SECURITY_PROTOCOL"),
        ({**LOGIN, "kafka_sasl_mechanism": "GSSAPI", "kafka_password": PASSWORD}, "KAFKA_SASL_MECHANISM"),
        (LOGIN, "needs kafka_username and either kafka_password or kafka_password_file"),
        ({**LOGIN, "kafka_password": PASSWORD, "kafka_password_file": "p"}, "needs kafka_username and either"),
        ({"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_password": PASSWORD}, "needs kafka_username"),
        ({"kafka_username": "ingest"}, "kafka_username is of no use with kafka_security_protocol PLAINTEXT"),
        ({"kafka_security_protocol": "SSL", "kafka_password": PASSWORD}, "kafka_password is of no use"),
        ({"kafka_password_file": "p"}, "kafka_password_file is of no use"),
        ({"kafka_ca_file": "ca.pem"}, "kafka_ca_file is of no use with kafka_security_protocol PLAINTEXT"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], reason: str):
    """A word that Kafka does not know, a login without one of its parts, and what would have no effect: by name."""
    with pytest.raises(ConfigError, match=reason) as refused:
        load_settings(**given)
    assert PASSWORD not in str(refused.value)


def test_files_that_cannot_be_used_are_named(tmp_path: Path):
    """A file that is missing, empty, no text or no certificates is named with its setting."""
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n")
    binary.write_bytes(b"\xff\xfe")
    for file, reason in (
        (tmp_path / "none", "cannot be read: No such file"),
        (empty, "is empty; write the password into it"),
        (binary, "cannot be read: 'utf-8' codec"),
    ):
        with pytest.raises(ConfigError, match=f"RAYSCORE_KAFKA_PASSWORD_FILE: {file} {reason}"):
            kafka_security(Settings(**LOGIN, kafka_password_file=file))
    with pytest.raises(ConfigError, match=r"RAYSCORE_KAFKA_CA_FILE: .*none cannot be read"):
        kafka_security(Settings(kafka_security_protocol="SSL", kafka_ca_file=tmp_path / "none"))
    options = kafka_security(Settings(kafka_security_protocol="SSL", kafka_ca_file=empty))
    with pytest.raises(ConfigError, match=r"kafka://127.0.0.1:1/topic: .*ssl.ca.location failed"):
        KafkaTopic(KafkaAddress("127.0.0.1:1", "topic"), "group", print, options)
