"""Window features: an aggregate of the events of one entity in a span of time that ends when the row is scored.

The window of a row at time t is (t - window, t], moved back by `delay`; of events at the same instant those count whose
key is not above the row's own; an event that is not known at t does not count, whatever its time. These sentences are
the meaning, offline and online; `docs/features-in-time.md` has examples.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, model_validator

from data.errors import ConfigError
from data.schema.duration import parse_duration
from data.schema.features.expression import Condition, parse_condition


class Aggregate(str, Enum):
    """What a window feature computes from the events in its window."""

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    STD = "std"
    """Standard deviation of a sample (n - 1 in the denominator); missing for fewer than two events."""
    DISTINCT = "distinct"
    """How many different values."""
    FIRST = "first"
    """The value of the earliest event."""
    LAST = "last"
    """The value of the latest event."""
    SINCE_LAST = "since_last"
    """Seconds since the latest event."""

    @property
    def reads_value(self) -> bool:
        """Whether it aggregates a value (`of`), not the events themselves."""
        return self not in (Aggregate.COUNT, Aggregate.SINCE_LAST)

    @property
    def is_integer(self) -> bool:
        """Whether the result is a whole number of things."""
        return self in (Aggregate.COUNT, Aggregate.DISTINCT)

    @property
    def needs_numbers(self) -> bool:
        """Whether it takes numbers only."""
        return self in (Aggregate.SUM, Aggregate.MEAN, Aggregate.MIN, Aggregate.MAX, Aggregate.STD)


class WindowFeature(NamedTuple):
    """One declared window feature, durations in microseconds, its source of events resolved."""

    name: str
    aggregate: Aggregate
    window_us: int
    delay_us: int
    source: str
    by: str
    of: str | None
    where: Condition | None
    with_current: bool

    @property
    def reach_us(self) -> int:
        """How far back from a row's time its events can lie, in microseconds."""
        return self.window_us + self.delay_us


class WindowKeys(BaseModel):
    """The keys of a feature that make it a window feature; none of them is given for any other."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    aggregate: Aggregate | None = None
    """What is computed from the events in the window; the feature itself is neither in a table nor in a request."""
    window: str | None = None
    """How far back the window reaches, e.g. "24h", "30d"."""
    of: str | None = None
    """The value of an event that is aggregated."""
    by: str | None = None
    """The entity whose events count; the source's only one when it has one."""
    where: str | None = None
    """Which events count, by comparisons of their values: "amount > 100 and channel == 'web'"."""
    delay: str | None = None
    """How long before the row's time the window ends, e.g. "7d"."""
    with_current: bool = False
    """Whether the event that the row itself is counts."""
    events: str | None = None
    """The source of the events; the only one of the use case when it has one."""

    @model_validator(mode="after")
    def _window_consistent(self) -> WindowKeys:
        given = [name for name in WindowKeys.model_fields if name in self.model_fields_set]
        if self.aggregate is None and self.window is None:
            if given:
                raise ValueError(f"{given[0]} belongs to a window feature: give aggregate and window as well")
            return self
        if self.aggregate is None or self.window is None:
            absent = "aggregate" if self.aggregate is None else "window"
            raise ValueError(f'a window feature needs {absent}, e.g. aggregate = "count", window = "24h"')
        if self.aggregate.reads_value != (self.of is not None):
            needs = "needs of, the value that it aggregates" if self.aggregate.reads_value else "takes no of"
            raise ValueError(f"aggregate = '{self.aggregate.value}' {needs}")
        if not self._duration_us("window"):
            raise ValueError("window is empty")
        self._duration_us("delay")
        self._condition()
        return self

    @property
    def is_window(self) -> bool:
        """Whether the feature is one of a window."""
        return self.aggregate is not None

    @property
    def window_text(self) -> str:
        """What is computed, such as "mean of amount in 30d by card, ending 7d before"; empty for another feature."""
        if self.aggregate is None:
            return ""
        of, by = (f" {word} {name}" if name else "" for word, name in (("of", self.of), ("by", self.by)))
        where, delay = (
            f" where {self.where}" if self.where else "",
            f", ending {self.delay} before" if self.delay else "",
        )
        return f"{self.aggregate.value}{of} in {self.window}{by}{where}{delay}"

    def window_feature(self, name: str, source: str, by: str) -> WindowFeature:
        """Return the feature with its source and entity resolved; only for a window feature."""
        if self.aggregate is None:
            raise ValueError(f"feature '{name}' is not one of a window")
        window, delay = self._duration_us("window"), self._duration_us("delay")
        condition = self._condition()
        return WindowFeature(name, self.aggregate, window, delay, source, by, self.of, condition, self.with_current)

    def _condition(self) -> Condition | None:
        return None if self.where is None else parse_condition(self.where)

    def _duration_us(self, key: str) -> int:
        text = getattr(self, key)
        try:
            return 0 if text is None else round(parse_duration(text) * 1_000_000)
        except ConfigError as exc:
            raise ValueError(f"{key} {exc}") from exc
