"""Which source's events a run reads, from which columns, and how old they may be."""

from __future__ import annotations

import pytest

from data.errors import ConfigError
from data.ingest.event_input import EVER_US, event_inputs, single_input
from data.schema.use_case import parse_use_case

_HEAD = 'name = "cards"\nlabel = "y"\nkey = "id"\nevent_time = "t"\n'
_SOURCES = """
[events.swipes]
entities = ["card", "shop"]
values = ["amount"]
[events.reports]
entities = ["shop"]
values = ["y"]
delay = "7d"
[events.logins]
entities = ["card"]
key = "login"
time = "at"
"""
_FEATURES = """
[features]
amount = { type = "number" }
a = { aggregate = "count", window = "10s", by = "card", events = "swipes" }
b = { aggregate = "sum", of = "amount", window = "5s", by = "shop", delay = "7s" }
c = { aggregate = "mean", of = "y", window = "3s", by = "shop" }
"""
USE_CASE = parse_use_case(_HEAD + _SOURCES + _FEATURES, "x")


def test_the_table_s_own_sources_are_read_by_default():
    """Each with the use case's key and time, and as far back as its longest window reaches, delay included."""
    found = event_inputs(USE_CASE, None)
    assert [(each.name, each.columns, each.reach_us) for each in found] == [
        ("swipes", ["id", "t", "card", "shop", "amount"], 12_000_000),
        ("reports", ["id", "t", "shop", "y"], 3_000_000),
    ]


def test_an_event_that_no_window_of_now_reaches_is_too_old():
    """A window is open at its beginning."""
    span = event_inputs(USE_CASE, "reports")[0].span(10_000_000)
    assert span.oldest_us == 7_000_001


def test_all_times_are_taken_when_asked_for():
    """Also the source that no window reads then has events."""
    found = single_input(USE_CASE, "logins", all_times=True)
    assert (found.columns, found.reach_us) == (["login", "at", "card"], EVER_US)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nope", "no source 'nope'; use case 'cards' has: swipes, reports, logins"),
        ("logins", "no window feature reads"),
    ],
)
def test_a_source_that_does_not_fit_is_refused(source: str, words: str):
    """By name, with what there is."""
    with pytest.raises(ConfigError, match=words):
        event_inputs(USE_CASE, source)


def test_a_topic_is_of_one_source():
    """With several the name must be given."""
    with pytest.raises(ConfigError, match="name it with --source: swipes, reports, logins"):
        single_input(USE_CASE, None)


@pytest.mark.parametrize("choose", [event_inputs, single_input])
def test_a_use_case_without_events_has_none_to_keep(choose):
    """It says so."""
    plain = parse_use_case(_HEAD + '[features]\namount = { type = "number" }\n', "x")
    with pytest.raises(ConfigError, match=r"has no \[events.NAME\]"):
        choose(plain, None)
