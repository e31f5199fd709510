"""Trials: the result of one set of parameters in a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from tune.training.boosting import best_round


class Trial(BaseModel):
    """A finished trial. `history` and `losses` are metric and log loss after each round, the mean of the folds."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    number: int
    params: dict[str, Any]
    history: list[float]
    losses: list[float]
    seconds: float
    stopped_early: bool
    """True when ASHA ended it for being worse than others at the same round."""

    @property
    def score(self) -> float:
        """The metric at the best round."""
        return self.history[self.rounds - 1]

    @property
    def rounds(self) -> int:
        """Number of rounds up to the best one, that of the smallest log loss."""
        return best_round(self.losses) + 1

    @property
    def loss(self) -> float:
        """The log loss at the best round."""
        return self.losses[self.rounds - 1]


def best_trial(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the best score; ties go to the smallest log loss, then to the lowest number."""
    return max(trials, key=lambda trial: (trial.score, -trial.loss, -trial.number))
