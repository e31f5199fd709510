"""Where the events are that a table does not hold itself, as options of a command name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from data.errors import ConfigError


class EventPaths(NamedTuple):
    """Where the events are that a table does not hold itself."""

    history: Path | None = None
    """Earlier rows of the table, which are events and get no windows."""
    others: Mapping[str, Path] = {}
    """By source of events that are not rows of the table."""


NOTHING_BESIDE = EventPaths()
"""No events but the rows of the table."""


def named_paths(texts: Iterable[str], option: str) -> dict[str, Path]:
    """Return the paths of texts SOURCE=PATH by source; raises ConfigError, which names the `option` they are of."""
    others: dict[str, Path] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not name or not path or name in others:
            why = "the source is named twice" if name in others else "expected NAME=PATH, e.g. reports=reports.parquet"
            raise ConfigError(f"{option} {text}: {why}")
        others[name] = Path(path)
    return others
