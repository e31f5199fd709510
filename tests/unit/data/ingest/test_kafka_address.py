"""Addresses of topics."""

from __future__ import annotations

import pytest

from data.errors import ConfigError
from data.ingest.kafka_address import KafkaAddress, kafka_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("kafka://broker/events", KafkaAddress("broker:9092", "events")),
        ("kafka://10.0.0.1:19092/a.b-c_d", KafkaAddress("10.0.0.1:19092", "a.b-c_d")),
        ("kafka://one,two:1/t", KafkaAddress("one:9092,two:1", "t")),
        ("kafka://[::1]:9092/t", KafkaAddress("[::1]:9092", "t")),
        ("transactions.parquet", None),
        ("s3://bucket/kafka", None),
    ],
)
def test_what_names_a_topic(text: str, address: KafkaAddress | None):
    """Without a port it is Kafka's own; what is no such address is a path."""
    assert kafka_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "kafka://",
        "kafka://host",
        "kafka://host/",
        "kafka:/host/t",
        "kafka:///t",
        "kafka://host:0/t",
        "kafka://host:99999/t",
        "kafka://host/a/b",
        "kafka://host/a b",
        "kafka://user:word@host/t",
        "kafka://host,/t",
        "kafka://host/..",
    ],
)
def test_what_begins_so_and_is_none_is_refused(text: str):
    """With how it is written."""
    with pytest.raises(ConfigError, match="write kafka://HOST"):
        kafka_address(text)
