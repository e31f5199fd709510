"""What one run of ingest reads as which source's events: fields, and the times that are taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from data.errors import ConfigError
from data.feature_views.events.event_columns import Span
from data.feature_views.events.event_parser import FUTURE_US
from data.schema.events.event_source import EventSource
from data.schema.use_case import UseCase

EVER_US = 2**62
"""A reach, in microseconds, that leaves no event out for its age."""


class EventInput(NamedTuple):
    """One source of events, and where its events stand in rows and messages."""

    name: str
    source: EventSource
    key: str
    """Column or field of the key."""
    time: str
    """Column or field of the time."""
    reach_us: int
    """How old an event may be, in microseconds."""

    @property
    def columns(self) -> list[str]:
        """The columns that its events are made of, each once."""
        named = [self.key, self.time, self.source.known_at, *self.source.entity_columns, *self.source.values]
        return list(dict.fromkeys(name for name in named if name is not None))

    def span(self, now_us: int) -> Span:
        """Return the times that are taken when it is `now_us`, microseconds since 1970 UTC."""
        return Span(now_us - self.reach_us + 1, now_us + FUTURE_US)


def event_inputs(use_case: UseCase, name: str | None, *, all_times: bool = False) -> list[EventInput]:
    """Return the sources whose events a run reads: the one that is named, else all of the use case's own table.

    Args:
        use_case: the use case.
        name: name of a source.
        all_times: whether events that are older than every window are taken too.

    Raises:
        ConfigError: there is no such source, or no window reads its events; says what there is.
    """
    if not use_case.events:
        raise ConfigError(f"use case '{use_case.name}' has no [events.NAME]: there are no events to keep")
    if name is not None and name not in use_case.events:
        raise ConfigError(f"--source: no source '{name}'; use case '{use_case.name}' has: {', '.join(use_case.events)}")
    own = [each for each, source in use_case.events.items() if source.own]
    chosen = own if name is None else [name]
    if not chosen:
        raise ConfigError(
            f"no source has the rows of the use case's own table: name one with --source: {_names(use_case)}"
        )
    return [_input(use_case, each, all_times) for each in chosen]


def single_input(use_case: UseCase, name: str | None, *, all_times: bool = False) -> EventInput:
    """Return the one source whose events the messages of a topic are; as `event_inputs`.

    Raises:
        ConfigError: there is no such source, or several and none is named.
    """
    if name is None and len(use_case.events) > 1:
        raise ConfigError(f"a topic holds the events of one source: name it with --source: {_names(use_case)}")
    return event_inputs(use_case, name or next(iter(use_case.events), None), all_times=all_times)[0]


def _input(use_case: UseCase, name: str, all_times: bool) -> EventInput:
    source = use_case.events[name]
    reaches: Sequence[int] = [each.reach_us for each in use_case.windows if each.source == name]
    if not reaches and not all_times:
        raise ConfigError(f"no window feature reads the events of source '{name}'; --all keeps them all the same")
    reach_us = EVER_US if all_times else max(reaches)
    return EventInput(
        name, source, source.key or use_case.key or "", source.time or use_case.event_time or "", reach_us
    )


def _names(use_case: UseCase) -> str:
    return ", ".join(use_case.events)
