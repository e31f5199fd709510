"""Options that several commands take, and what they mean."""

from __future__ import annotations

import argparse
from pathlib import Path

from data.schema.events.event_paths import EventPaths, named_paths
from data.schema.use_case import UseCase, load_use_case
from data.settings import load_settings


def positive(text: str) -> int:
    """Return a whole number of 1 or more, as argparse's `type` does."""
    value = int(text.replace("_", ""))
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the table that a command reads, and the use case it is read by."""
    parser.add_argument("path", type=Path, help="Parquet file or folder")
    add_use_case(parser)


def add_use_case(parser: argparse.ArgumentParser) -> None:
    """Add `--use-case`."""
    parser.add_argument(
        "--use-case",
        metavar="NAME|FILE",
        help="name of a shipped use case or path of a file (default: RAYSCORE_USE_CASE, else card_fraud)",
    )


def add_events(parser: argparse.ArgumentParser) -> None:
    """Add `--history` and `--events`: where the events are that a table does not hold itself."""
    parser.add_argument(
        "--history", type=Path, metavar="PATH", help="earlier rows of the table: events of windows, and nothing else"
    )
    parser.add_argument(
        "--events",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="events of a source that are not rows of the table; may be repeated",
    )


def events_of(args: argparse.Namespace) -> EventPaths:
    """Return what the options of `add_events` name; raises ConfigError."""
    return EventPaths(args.history, named_paths(args.events, "--events"))


def use_case_of(args: argparse.Namespace) -> UseCase:
    """Return the use case that `--use-case` or the settings name; raises ConfigError."""
    return load_use_case(args.use_case or load_settings().use_case)
