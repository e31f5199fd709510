"""Timing and outcome of every request of a load test, one NumPy array per column."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

PENDING, TIMEOUT, REFUSED, RESET, MALFORMED = 0, -1, -2, -3, -4
"""Outcomes other than an HTTP status: not ended, no answer in time, no connection, connection lost, not HTTP."""

_NAMES = {TIMEOUT: "timeout", REFUSED: "refused", RESET: "reset", MALFORMED: "malformed"}


def kind_of(outcome: int) -> str:
    """Name of an outcome: `2xx` to `5xx` for an HTTP status, else `timeout`, `refused`, `reset` or `malformed`."""
    return _NAMES.get(outcome) or f"{outcome // 100}xx"


class Samples:
    """Columns with one entry per request, in the order of due times. All columns have the length of `due`.

    Args:
        due: due time of each request in s from the start of measuring, ascending; negative for warm-up.
    """

    def __init__(self, due: np.ndarray) -> None:
        self.due = due
        self.lateness = np.full(len(due), np.nan)
        """Delay in s from due until the generator sent or queued the request; NaN until then."""
        self.latency = np.full(len(due), np.nan)
        """Time in s from due to the end of the answer or the failure; NaN until then."""
        self.outcome = np.zeros(len(due), np.int16)
        """HTTP status, or one of the negative codes of this module; PENDING until the request has ended."""
        self.limit_s = 0.0
        """Time limit of a request in s; set by `generate`."""

    def measured(self) -> Measured:
        """The requests that have ended, without warm-up."""
        ended = (self.due >= 0) & (self.outcome != PENDING)
        return Measured(self.due[ended], self.lateness[ended], self.latency[ended], self.outcome[ended], self.limit_s)

    @property
    def unfinished(self) -> int:
        """Number of requests that were sent and have not ended, without warm-up."""
        return int(((self.due >= 0) & (self.outcome == PENDING) & ~np.isnan(self.lateness)).sum())


class Measured(NamedTuple):
    """Columns of the requests that have ended, without warm-up; meaning and units as in Samples."""

    due: np.ndarray
    lateness: np.ndarray
    latency: np.ndarray
    outcome: np.ndarray
    limit_s: float

    @property
    def good(self) -> np.ndarray:
        """Boolean array: True for each request answered with 2xx."""
        return self.outcome // 100 == 2

    def judged(self, times: np.ndarray) -> np.ndarray:
        """`times` as they enter the percentiles: a failed request counts with the time limit at least.

        It never got its answer. Left out, failures would make a stalled server look fast; counted as they are, quick
        503s would make an overloaded one look fast.
        """
        return np.where(self.good, times, np.maximum(times, self.limit_s))

    def kinds(self) -> dict[str, int]:
        """Number of requests by kind of outcome (see `kind_of`), most frequent first."""
        return dict(Counter(kind_of(outcome) for outcome in self.outcome.tolist()).most_common())

    def statuses(self) -> dict[str, int]:
        """Number of answers by HTTP status, ascending."""
        counts = Counter(outcome for outcome in self.outcome.tolist() if outcome > 0)
        return {str(status): counts[status] for status in sorted(counts)}
