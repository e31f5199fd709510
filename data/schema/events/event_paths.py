"""Where the events are that a table does not hold itself, as options of a command name them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class EventPaths(NamedTuple):
    """Where the events are that a table does not hold itself."""

    history: Path | None = None
    """Earlier rows of the table, which are events and get no windows."""
    others: Mapping[str, Path] = {}
    """By source of events that are not rows of the table."""


NOTHING_BESIDE = EventPaths()
"""No events but the rows of the table."""
