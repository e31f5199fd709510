"""When a batch view is materialized: what the online store holds at a moment follows from it."""

from __future__ import annotations

from pydantic import model_validator

from data.errors import ConfigError
from data.schema.duration import parse_duration
from data.schema.model_policy import PolicyTable


class BatchSchedule(PolicyTable):
    """A materialization begins at every multiple of `every` since 1970 UTC, and its rows are there `takes` later."""

    every: str
    """How often, e.g. "1d"."""
    takes: str = "0s"
    """How long from its beginning until its rows are in the store, e.g. "2h"."""

    @model_validator(mode="after")
    def _durations(self) -> BatchSchedule:
        for name in ("every", "takes"):
            try:
                duration = parse_duration(getattr(self, name))
            except ConfigError as exc:
                raise ValueError(f"{name} {exc}") from exc
            if name == "every" and not duration:
                raise ValueError("every is no time at all")
        return self

    @property
    def every_us(self) -> int:
        """How often, in microseconds."""
        return round(parse_duration(self.every) * 1_000_000)

    @property
    def takes_us(self) -> int:
        """How long it takes, in microseconds."""
        return round(parse_duration(self.takes) * 1_000_000)
