"""The records of one row's prediction: the validated row, what was looked up for it, and the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from data.event_store import EventOutcome, RowQuery
from data.online_store.row_codec import OnlineRow

_KEPT = (EventOutcome.TAKEN, EventOutcome.REPEATED, EventOutcome.REVISED)


class Row(NamedTuple):
    """One row of a request that passed validation.

    `entity` is the key in the online store and `key` the row's own id, None when not sent; `encoded` has one float
    per feature in schema order, None where the request has no value; `values` are the values as they were sent;
    `query` says what the row's windows need, None for a model without windows. `replayed_us` is set for a row that is
    answered from scratch stores: its time in microseconds since 1970 UTC, at which the age of what is stored is judged.
    """

    entity: str | None
    key: str | int | None
    encoded: list[float | None]
    values: dict[str, Any]
    query: RowQuery | None = None
    replayed_us: int | None = None

    @property
    def records(self) -> bool:
        """Whether the row itself becomes an event."""
        return self.query is not None and any(own.record for own in self.query.own)

    def unrecorded(self, time_us: int | None, key: bytes) -> Row:
        """Return the row as one that is scored again: at a time, under the key of its event, and never recorded."""
        if self.query is None:
            return self
        own = tuple(each._replace(record=False, event=each.event._replace(key=key)) for each in self.query.own)
        return self._replace(query=self.query._replace(key=key, time_us=time_us, own=own))


class RowWindows(NamedTuple):
    """The window features of one row, in the order of `BundleManifest.windows`."""

    time_us: int
    """The time as of which they were computed, microseconds since 1970 UTC."""
    values: Sequence[float | str]
    """NaN = missing."""
    counts: Sequence[int]
    """For each, the number of events that it was computed from."""
    newest_us: int | None = None
    """Time of the newest event that was read, the row itself left out; None without any."""
    outcomes: Sequence[EventOutcome] = ()
    """What became of the row's own events."""
    damaged: bool = False
    """A stored event could not be read, and every value is missing."""

    @property
    def newest_age_s(self) -> float | None:
        """Age of the newest event at the row's time, in seconds; None without any."""
        return None if self.newest_us is None else (self.time_us - self.newest_us) / 1e6

    @property
    def recorded(self) -> bool:
        """Whether the store holds the row's own events."""
        return all(outcome in _KEPT for outcome in self.outcomes)


class Lookup(NamedTuple):
    """Result of looking up one row's entity in the online store, and its windows in the event store.

    `online` is the stored row; None when there was no look-up, no row, only an expired one, or the read failed.
    `found` is whether the entity has a row; None without a look-up or when it failed. `age_s` is the age of the
    stored row in s. `degraded` is True when a read failed, so that defaults stand in for stored values. `windows` is
    None for a model without windows, and when the read failed.
    """

    online: OnlineRow | None = None
    found: bool | None = None
    age_s: float | None = None
    degraded: bool = False
    windows: RowWindows | None = None


class Prediction(NamedTuple):
    """Result of scoring one row.

    `scores` are the model's numbers, as the manifest's output reads them; `stored` is the number of features that came
    from the online store; `vector` has the encoded features that were scored, in schema order; `computed` has the value
    of each expression in schema order, NaN = missing.
    """

    row: Row
    scores: Sequence[float]
    lookup: Lookup
    stored: int
    vector: Sequence[float] = ()
    computed: Sequence[float] = ()
