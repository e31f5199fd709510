"""Addresses of Kafka topics: kafka://HOST[:PORT]/TOPIC, with several brokers separated by commas."""

from __future__ import annotations

import re
from typing import NamedTuple

from data.errors import ConfigError

_SCHEME = "kafka:"
_PORT = 9092
_ADDRESS = re.compile(r"kafka://(?P<hosts>[^/\s@?#]+)/(?P<topic>[A-Za-z0-9._-]{1,249})")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")


class KafkaAddress(NamedTuple):
    """One topic and the brokers that are asked for it."""

    brokers: str
    """host:port, separated by commas."""
    topic: str

    def __str__(self) -> str:
        return f"kafka://{self.brokers}/{self.topic}"


def kafka_address(text: str) -> KafkaAddress | None:
    """Return the topic that `text` names, None where it is no address of Kafka but a path.

    Raises:
        ConfigError: it begins as such an address and is none.
    """
    if not text.startswith(_SCHEME):
        return None
    found = _ADDRESS.fullmatch(text)
    brokers = [_broker(host) for host in found["hosts"].split(",")] if found else []
    if found is None or None in brokers or found["topic"] in (".", ".."):
        raise ConfigError(f"'{text}' is no topic: write kafka://HOST[:PORT]/TOPIC, several brokers with commas between")
    return KafkaAddress(",".join(each for each in brokers if each), found["topic"])


def _broker(host: str) -> str | None:
    found = _HOST.fullmatch(host)
    if found is None or not 0 < int(found["port"] or _PORT) <= 65535:
        return None
    return host if found["port"] else f"{host}:{_PORT}"
