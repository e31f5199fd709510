"""The options that name events beside a table."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from data.cli.options import add_events, events_of
from data.errors import ConfigError
from data.schema.events.event_paths import NOTHING_BESIDE, EventPaths


def named(*options: str) -> EventPaths:
    """What a command takes from its options."""
    parser = argparse.ArgumentParser()
    add_events(parser)
    return events_of(parser.parse_args(options))


def test_events_are_named_by_source():
    """Nothing is beside a table unless it is named; a path may have a `=` itself."""
    assert named() == NOTHING_BESIDE
    found = named("--history", "h.parquet", "--events", "a=x.parquet", "--events", "b=s3://c/day=1")
    assert found == EventPaths(Path("h.parquet"), {"a": Path("x.parquet"), "b": Path("s3://c/day=1")})


@pytest.mark.parametrize("options", [["a"], ["=x"], ["a="], ["a=x", "a=y"]])
def test_events_that_are_not_named_are_refused(options: list[str]):
    """Neither a source without path nor a source named twice is guessed at."""
    with pytest.raises(ConfigError, match=r"expected NAME=PATH|named twice"):
        named(*(part for option in options for part in ("--events", option)))
