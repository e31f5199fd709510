"""The tables of events that windows are computed over, beside the table itself: where they are, and reading them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa

from data.errors import ConfigError, DataError
from data.feature_views.events.table_mark import STORED
from data.schema.events.event_paths import EventPaths
from data.schema.events.event_source import EventSource
from data.schema.use_case import UseCase
from data.sources.filesystems import absolute, named
from data.sources.parquet import ParquetSource, open_source, read_source


class EventFiles(NamedTuple):
    """The opened files of `EventPaths`."""

    history: ParquetSource | None
    others: Mapping[str, ParquetSource]

    @property
    def sources(self) -> list[ParquetSource]:
        """All of them."""
        return [*([] if self.history is None else [self.history]), *self.others.values()]

    @property
    def rows(self) -> int:
        """Rows of all of them."""
        return sum(source.rows for source in self.sources)


class EventTables(NamedTuple):
    """The events in memory, each table with the columns that the use case reads."""

    history: pa.Table | None
    others: Mapping[str, pa.Table]

    @property
    def all(self) -> list[pa.Table]:
        """All of the tables, in an order that does not change."""
        return [*([] if self.history is None else [self.history]), *(self.others[name] for name in sorted(self.others))]


def sources_beside(use_case: UseCase, holds_windows: bool = False) -> list[str]:
    """The sources of events that windows read and that are not rows of the table; none for a table that holds them."""
    read = {feature.source for feature in use_case.windows if not use_case.events[feature.source].own}
    return [] if holds_windows else sorted(read)


def open_events(paths: EventPaths, use_case: UseCase, holds_windows: bool = False, partly: bool = False) -> EventFiles:
    """Open the tables of events that are needed beside a table.

    Args:
        paths: where they are.
        use_case: its windows, and its stored rows, are made of them.
        holds_windows: whether the table holds its windows already, so that they need nothing.
        partly: whether some of the events that are needed may be absent.

    Raises:
        ConfigError: a source is not given or not needed, or the history is of no use.
        DataError: a file is broken.
    """
    _check_named(paths, use_case, holds_windows)
    absent = next((name for name in sources_beside(use_case, holds_windows) if name not in paths.others), None)
    if absent is not None and not partly:
        raise ConfigError(f"the events of source '{absent}' are not given: add --events {absent}=PATH")
    history = None if paths.history is None else open_source(absolute(paths.history))
    if history is not None and use_case.joins_stored and STORED in (history.schema.metadata or {}):
        raise DataError(
            f"{named(history.path)}: its online features are what the store would have held; name the table with the "
            "rows' own values"
        )
    return EventFiles(history, {name: open_source(absolute(path)) for name, path in paths.others.items()})


def _check_named(paths: EventPaths, use_case: UseCase, holds_windows: bool) -> None:
    needed = sources_beside(use_case, holds_windows)
    why = "the table holds its windows already" if holds_windows else f"needed are: {', '.join(needed) or 'none'}"
    for name in paths.others:
        if name not in needed:
            raise ConfigError(f"--events {name}: events of that name are not needed beside the table ({why})")
    own = any(use_case.events[feature.source].own for feature in use_case.windows) and not holds_windows
    if paths.history is not None and not own and not use_case.joins_stored:
        why = "the table holds its windows already" if holds_windows else "nothing is computed from earlier rows"
        raise ConfigError(f"--history: {why}; leave it out")


def read_events(files: EventFiles, use_case: UseCase) -> EventTables:
    """Read the columns of opened events into memory; raises DataError as `read_source`."""
    history = None if files.history is None else read_source(files.history, history_columns(use_case))
    others = {name: read_source(source, event_columns(use_case.events[name])) for name, source in files.others.items()}
    return EventTables(history, others)


def event_columns(source: EventSource) -> list[str]:
    """The columns of a table that is a source of its own, each once."""
    names = [source.key, source.time, source.known_at, *source.entity_columns, *source.values]
    return list(dict.fromkeys(name for name in names if name is not None))


def history_columns(use_case: UseCase) -> list[str]:
    """The columns of earlier rows of the table that windows and stored rows are made of, each once."""
    names = [use_case.key, use_case.event_time, use_case.entity.column if use_case.entity else None]
    for source in use_case.events.values():
        names += [*source.entity_columns, *source.values, source.known_at] if source.own else []
    if use_case.joins_stored:
        names += [feature.name for feature in use_case.schema_.online]
    return list(dict.fromkeys(name for name in names if name is not None))


def left_out_lines(left_out: Mapping[str, Counter[str]]) -> Iterator[str]:
    """Yield a line for each source of which events were left out, with the counts by reason."""
    for name, reasons in left_out.items():
        if reasons:
            said = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
            yield f"events.{name}: {reasons.total():,} left out: {said}"


def said_of(files: EventFiles) -> list[str]:
    """What was read of the events and what was not, in a line each."""
    return [line for source in files.sources for line in source.report]
