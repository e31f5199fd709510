"""Early stopping across trials: asynchronous successive halving (ASHA), decided in the worker that runs the trial.

The score that a trial must reach at a rung follows from trials that ended before it was planned. So it is sent along
with the parameters, the worker decides alone, and the decision does not depend on the speed of workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from tune.search.trial import Trial

Bars = dict[int, float]
"""By round: the best metric so far that a trial must have reached there, else it is stopped."""

_REDUCTION = 3
_FIRST_RUNG_SHARE = 10
"""The first rung is at one part in so many of the rounds."""


class Boosted(Protocol):
    """A fit that is advanced in steps, such as `tune.training.boosting.Boosting`."""

    history: list[float]

    @property
    def finished(self) -> bool:
        """Whether early stopping or the most rounds have been reached."""
        ...

    def advance(self, rounds: int) -> None:
        """Boost up to `rounds` more rounds."""


class SuccessiveHalving:
    """The rungs of one search, and the scores that trials reached at each.

    The best third of the trials that reach a rung goes on. Rungs are at a tenth of `max_rounds` and at 3, 9, 27...
    times that. Li et al., "A System for Massively Parallel Hyperparameter Tuning" (2018), algorithm 2.
    """

    def __init__(self, max_rounds: int) -> None:
        self._reached: dict[int, list[float]] = {rung: [] for rung in rungs(max_rounds)}

    def tell(self, trial: Trial) -> None:
        """Record the score of an ended trial at every rung that it reached."""
        for rung, scores in self._reached.items():
            if len(trial.history) >= rung:
                scores.append(max(trial.history[:rung]))

    def bars(self) -> Bars:
        """Return the scores that the next trial must reach; a rung that no trial has reached yet has none."""
        share = 100 * (1 - 1 / _REDUCTION)
        return {rung: float(np.percentile(scores, share)) for rung, scores in self._reached.items() if scores}


def rungs(max_rounds: int) -> list[int]:
    """Return the rounds at which trials are compared, ascending."""
    rounds, rung = [], -(-max_rounds // _FIRST_RUNG_SHARE)
    while rung < max_rounds:
        rounds.append(rung)
        rung *= _REDUCTION
    return rounds


def climb(boosting: Boosted, bars: Mapping[int, float]) -> bool:
    """Boost to the end, or to the first rung whose score is not reached; return whether it was stopped there."""
    for rung, bar in _ascending(bars.items()):
        boosting.advance(rung - len(boosting.history))
        if boosting.finished:
            return False
        if max(boosting.history) < bar:
            return True
    while not boosting.finished:
        boosting.advance(_FIRST_RUNG_SHARE)
    return False


def _ascending(bars: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    return sorted(bars)
