"""Use cases with events: how windows are declared and resolved, and the one line that each mistake gets."""

from __future__ import annotations

import pytest

from data.errors import ConfigError
from data.schema.features.feature import FeatureType, Source
from data.schema.features.window_feature import Aggregate
from data.schema.use_case import parse_use_case

TEXT = """
name = "cards"
label = "is_fraud"
key = "transaction_id"
event_time = "timestamp"
[events.transactions]
entities = ["user_id", "terminal_id", { columns = ["user_id", "terminal_id"] }]
values = { amount = { decimals = 2 }, channel = { type = "string" } }
record = true
[events.reports]
entities = ["terminal_id"]
values = ["is_fraud"]
delay = "7d"
[features]
amount = { type = "number" }
seen = { aggregate = "count", window = "1d", by = "user_id", events = "transactions", where = "amount > 10" }
mean = { aggregate = "mean", of = "amount", window = "30d", by = "user_id" }
risk = { aggregate = "mean", of = "is_fraud", window = "7d", default = 0 }
ratio = { expression = "amount / mean" }
"""
_DAY = 86_400_000_000


def test_windows_are_resolved():
    """Source and entity are found where one alone fits; types and sources follow from the aggregate."""
    use_case = parse_use_case(TEXT, "x")
    seen, mean, risk = use_case.windows
    assert (seen.source, seen.by, seen.window_us) == ("transactions", "user_id", _DAY)
    assert (mean.source, mean.aggregate, mean.of) == ("transactions", Aggregate.MEAN, "amount")
    assert (risk.source, risk.by, risk.reach_us) == ("reports", "terminal_id", 7 * _DAY)
    kinds = {name: (feature.type, feature.source) for name, feature in use_case.features.items()}
    assert kinds["seen"] == (FeatureType.INTEGER, Source.EVENTS)
    assert kinds["ratio"] == (FeatureType.NUMBER, Source.COMPUTED)
    assert not use_case.schema_.online


def test_columns_read_are_those_of_events_and_not_of_what_is_computed():
    """A table needs entities and values of its own events, and no column named like a window or an expression."""
    columns = parse_use_case(TEXT, "x").columns
    assert set(columns) == {"amount", "is_fraud", "transaction_id", "timestamp", "user_id", "terminal_id", "channel"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('aggregate = "count", window = "1d"', 'aggregate = "count"', "needs window"),
        ('aggregate = "count", window = "1d"', 'window = "1d"', "needs aggregate"),
        ('window = "1d"', 'window = "0s"', "window is empty"),
        ('window = "1d"', 'window = "soon"', "is not a duration"),
        ('of = "amount", ', "", "needs of"),
        ('by = "user_id", events = "transactions"', 'events = "transactions"', "several entities"),
        ('by = "user_id", events = "transactions"', 'by = "card", events = "transactions"', "is no entity"),
        ('events = "transactions"', 'events = "logins"', "no source 'logins'"),
        ('of = "amount"', 'of = "amonut"', "name the source"),
        ('"mean", of = "amount"', '"mean", of = "channel"', "needs numbers"),
        ("amount > 10", "size > 10", "is no value of source"),
        ("amount > 10", "channel > 10", "is text"),
        ("amount > 10", "amount == 'x'", "is a number"),
        ('delay = "7d"', "", "the label is not known with the row"),
        ('"amount / mean"', '"amount / mode"', "is no feature"),
        ('"amount / mean"', '"amount / ratio"', "put it before"),
        ('"amount / mean"', '"amount % mean"', "are taken"),
        ('ratio = { expression', 'ratio = { source = "online", expression', "is not possible"),
        ('seen = { aggregate', 'seen = { type = "category", aggregate', "gives type 'integer'"),
        ('amount = { type = "number" }', 'amount = { type = "number", window = "1d" }', "needs aggregate"),
        ('amount = { type = "number" }', 'amount = { type = "number", of = "x" }', "belongs to a window feature"),
        ('amount = { type = "number" }', 'amount = { type = "number", source = "events" }', "needs aggregate and"),
        ('key = "transaction_id"', "", "which needs key"),
        ("decimals = 2", "decimals = 20", "decimals"),
        ('type = "string" }', 'type = "string", decimals = 2 }', "decimals belong to type 'number'"),
        ('delay = "7d"', 'delay = "7d"\nknown_at = "reported"', "either known_at"),
        ('delay = "7d"', 'delay = "7d"\nrecord = true', "record takes what is known"),
        ('delay = "7d"', 'delay = "7d"\nkey = "id"', "give both key and time"),
        ("[events.reports]", "[events.re-ports]", "is named by letters"),
    ],
)  # fmt: skip
def test_each_mistake_gets_one_line_with_the_remedy(old: str, new: str, message: str):
    """The key at fault is named."""
    assert old in TEXT
    with pytest.raises(ConfigError, match=message):
        parse_use_case(TEXT.replace(old, new, 1), "cards.toml")


def test_a_schema_without_windows_keeps_its_fingerprint():
    """The new keys say nothing where they are not given, so that bundles of before stay what they are."""
    plain = 'name = "x"\nlabel = "y"\n[features]\na = { type = "number" }\nb = { type = "category" }\n'
    schema = parse_use_case(plain, "x").schema_
    assert [set(feature.model_dump()) for feature in schema.features] == [
        {"name", "type", "source", "default", "optional", "vocabulary", "min", "max", "description"}
    ] * 2
