"""The hyperparameter search that a use case declares: metric, parameter space and boosting rounds."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import Field, FiniteFloat, model_validator

from data.schema.model_policy import PolicyTable


class Metric(str, Enum):
    """Metric that a search maximizes: the mean over its folds. More is better for each, as for scikit-learn's scorers.

    The first three are of two labels, the next three of several classes, the last two of rankings, the others of
    numbers.
    """

    AUC = "auc"
    PR_AUC = "pr_auc"
    F1 = "f1"
    NEG_LOG_LOSS = "neg_log_loss"
    """Minus the log loss."""
    MACRO_F1 = "macro_f1"
    """The mean of the classes' F1."""
    ACCURACY = "accuracy"
    R2 = "r2"
    """Share of the variance that is explained."""
    D2_ABSOLUTE_ERROR = "d2_absolute_error"
    """Share of the absolute error that is explained, beside the median."""
    D2_PINBALL = "d2_pinball"
    """Share of the pinball loss that is explained, beside the quantile of all rows."""
    D2_TWEEDIE = "d2_tweedie"
    """Share of the Poisson or Tweedie deviance that is explained, beside the mean."""
    NDCG = "ndcg"
    """Normalized discounted cumulative gain of the first items of a list, the mean over the lists."""
    MAP = "map"
    """Mean average precision of the first items of a list: relevant is what has a grade above 0."""


class Range(PolicyTable):
    """Search range of one XGBoost parameter: from `low` to `high`, or one of `choices`."""

    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[FiniteFloat | int | str, ...] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Range:
        if self.choices is not None:
            if self.low is not None or self.high is not None:
                raise ValueError("give either choices, or low and high")
            if not self.choices:
                raise ValueError("choices is empty")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range needs low above 0")
        return self


DEFAULT_SPACE: dict[str, Range] = {
    "max_depth": Range(low=3, high=9, integer=True),
    "learning_rate": Range(low=0.03, high=0.3, log=True),
    "min_child_weight": Range(low=1, high=20, log=True),
    "subsample": Range(low=0.6, high=1.0),
    "colsample_bytree": Range(low=0.5, high=1.0),
    "reg_lambda": Range(low=0.1, high=10, log=True),
}


class Search(PolicyTable):
    """Hyperparameter search: the metric, the parameter space, and the boosting rounds of a trial."""

    metric: Metric | None = None
    """Default: that of the kind of target; `pr_auc` for two labels."""
    max_rounds: Annotated[int, Field(ge=1, le=10_000)] = 1000
    early_stopping_rounds: Annotated[int, Field(ge=1)] = 40
    space: dict[str, Range] = Field(default_factory=lambda: dict(DEFAULT_SPACE))
