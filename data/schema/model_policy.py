"""The model policy of a use case: calibration, decision threshold, promotion gates and reported slices."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Calibration(str, Enum):
    """Method by which probabilities are calibrated, by scores of rows that a fit has not learned from."""

    NONE = "none"
    """Probabilities stay as the trees give them."""
    ISOTONIC = "isotonic"
    """A rising curve through the log-odds, as the rows fell out."""
    PLATT = "platt"
    """A line through the log-odds: it shifts and stretches them."""
    BETA = "beta"
    """A line with one slope for low and another for high probabilities."""
    TEMPERATURE = "temperature"
    """Of several classes: all log-odds are divided by one number."""
    AUTO = "auto"
    """The simplest of those for the kind of target that is as good as the best on held-out parts of the rows."""


class ThresholdMetric(str, Enum):
    """Metric that the decision threshold maximizes out of fold."""

    F1 = "f1"
    BALANCED_ACCURACY = "balanced_accuracy"


class PolicyTable(BaseModel):
    """Base of every table in the use-case file: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Gates(PolicyTable):
    """Promotion gates: what a model must reach on its holdout, and its latency here, before it is promoted."""

    min_auc: Annotated[float, Field(ge=0, le=1)] | None = None
    min_pr_auc: Annotated[float, Field(ge=0, le=1)] | None = None
    min_f1: Annotated[float, Field(ge=0, le=1)] | None = None
    min_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    min_macro_f1: Annotated[float, Field(ge=0, le=1)] | None = None
    min_r2: Annotated[float, Field(le=1)] | None = None
    max_rmse: Annotated[float, Field(ge=0)] | None = None
    max_mae: Annotated[float, Field(ge=0)] | None = None
    min_ndcg: Annotated[float, Field(ge=0, le=1)] | None = None
    min_map: Annotated[float, Field(ge=0, le=1)] | None = None
    min_mrr: Annotated[float, Field(ge=0, le=1)] | None = None
    max_ece: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Most expected calibration error; of probabilities only."""
    max_loss_to_champion: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How far below zero the upper end of the bootstrap interval of (challenger - champion) may lie."""
    beats_chance: bool = True
    """Whether the model must know more of the labels than one of shuffled labels comes to."""
    max_loss_to_baselines: Annotated[float, Field(ge=0, le=1)] = 0.0
    """As `max_loss_to_champion`, for logistic regression and XGBoost with its defaults; 1 lets any model pass."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    max_slice_loss: Annotated[float, Field(ge=0, le=1)] = 0.05
    """As `max_loss_to_champion`, for each declared slice."""
    max_latency_ms: Annotated[float, Field(gt=0)] = 1.0
    """p99 of scoring one row by ONNX Runtime on the machine that promotes."""
    skew_rows: Annotated[int, Field(ge=1)] | None = None
    """Served rows that the skew proof must have compared; without it a promotion needs no proof."""


FIGURE_GATES = frozenset(name for name in Gates.model_fields if name.startswith(("min_", "max_"))) - {
    "max_loss_to_champion",
    "max_loss_to_baselines",
    "max_slice_loss",
    "max_latency_ms",
}
"""Limits of single figures of the holdout; which of them there are, the kind of target says."""


class Cost(PolicyTable):
    """What a wrong decision costs, in any unit; a right one costs nothing."""

    false_positive: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """A row with label 0 that is marked."""
    false_negative: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """A row with label 1 that is not marked."""


class Decision(PolicyTable):
    """How the threshold is chosen, out of fold: by the cost when it is declared, else by the metric."""

    metric: ThresholdMetric = ThresholdMetric.F1
    cost: Cost | None = None


class Slice(PolicyTable):
    """A column by whose values metrics are reported separately; it need not be a feature."""

    column: str
    edges: tuple[float, ...] | None = None
    """Cuts of a numeric column, ascending; an edge belongs to the slice above it."""
    quantiles: Annotated[int, Field(ge=2, le=20)] = 4
    """Without edges: a numeric column of many values is cut into so many slices of equally many learned rows."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _ascending(self) -> Slice:
        if self.edges is not None and (not self.edges or sorted(set(self.edges)) != list(self.edges)):
            raise ValueError(f"edges {list(self.edges)} are not ascending")
        return self
