"""The task: which kind of target a use case predicts, as it is declared, with all that differs between kinds.

What a trained model of a kind answers is its output, `data.schema.output`; how it is learned and judged, `tune.tasks`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from data.schema.features.feature import Scalar
from data.schema.model_policy import Calibration
from data.schema.objective import Objective
from data.schema.search import Metric

MOST_GRADE = 31
"""Highest relevance grade: the gain of a grade is two to its power, less one (Burges et al. 2005), exact up to here."""
MOST_CLASSES = 100
"""Most classes of a multi-class target: each costs a tree a round."""


class _Kind(BaseModel):
    """Base of the kinds of target: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    CALIBRATIONS: ClassVar[tuple[Calibration, ...]] = (Calibration.NONE,)
    """How its probabilities may be corrected."""
    GATES: ClassVar[frozenset[str]] = frozenset()
    """The limits of `Gates` that it has figures for."""
    explained: ClassVar[bool] = True
    """Whether one margin stands behind an answer, of which features have shares."""
    decides: ClassVar[bool] = False
    """Whether a threshold makes a decision of its answer, so that `[decision]` has a meaning."""

    @property
    @abstractmethod
    def labels(self) -> tuple[Scalar, ...] | None:
        """What the label column may hold, in the order of the classes; None for numbers."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """What a search may be judged by; the first is the default."""

    @property
    def metric(self) -> Metric:
        """What a search is judged by, where the use case does not say."""
        return self.metrics[0]

    @property
    def least_label(self) -> float | None:
        """The least number that the label column may hold; None for any, and where it holds classes."""
        return None

    @property
    def most_grade(self) -> int | None:
        """The largest number that the label column may hold, where it holds whole numbers; None for others."""
        return None

    @property
    def list_column(self) -> str | None:
        """Column whose equal values make rows one list, which is never divided; None where every row stands alone."""
        return None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that training reads of it, beside the label."""
        return ()

    @property
    def strata(self) -> int:
        """How many sets of rows a random split divides apart, by label, so that a rare class is in every part."""
        return len(self.labels) if self.labels is not None else 1

    @property
    def expected(self) -> str:
        """What the label column must hold, for messages."""
        if self.labels == (0, 1):
            return "0 and 1 (or false and true)"
        if self.labels is not None:
            return ", ".join(shown_label(label) for label in self.labels[:10]) + ("" if len(self.labels) <= 10 else "…")
        return "finite numbers" if self.least_label is None else f"finite numbers from {self.least_label:g} on"

    @property
    def fault(self) -> str:
        """What is wrong with a value that the label column must not hold, for messages."""
        if self.labels is not None:
            return f"label is none of {self.expected}"
        return "label is not a finite number" + ("" if self.least_label is None else f" from {self.least_label:g} on")


class Binary(_Kind):
    """One of two labels: the answer is the probability of the positive one, and a decision by threshold."""

    CALIBRATIONS: ClassVar = (
        Calibration.AUTO,
        Calibration.NONE,
        Calibration.PLATT,
        Calibration.BETA,
        Calibration.ISOTONIC,
    )
    GATES: ClassVar = frozenset({"min_auc", "min_pr_auc", "min_f1", "max_ece"})
    decides: ClassVar = True

    kind: Literal["binary"] = "binary"
    positive: Scalar | None = None
    """The label whose probability is predicted, where labels are not 0 and 1 (or false and true)."""
    negative: Scalar | None = None
    """The other label."""

    @model_validator(mode="after")
    def _both(self) -> Binary:
        if (self.positive is None) != (self.negative is None):
            raise ValueError("give both positive and negative: which two labels the column holds")
        if self.positive is not None and self.positive == self.negative:
            raise ValueError(f"positive and negative are both {shown_label(self.positive)}")
        _refuse_missing(self.labels)
        if type(self.positive) is not type(self.negative):
            raise ValueError("positive and negative must be of one type, as the values of a column are")
        return self

    @property
    def labels(self) -> tuple[Scalar, Scalar]:
        """The negative, then the positive label."""
        if self.positive is None or self.negative is None:
            return (0, 1)
        return (self.negative, self.positive)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """PR-AUC, which suits a rare label, AUC and F1."""
        return (Metric.PR_AUC, Metric.AUC, Metric.F1)

    @property
    def expected(self) -> str:
        """The two labels, for messages."""
        return super().expected if self.positive is not None else "0 and 1, or false and true"

    @property
    def fault(self) -> str:
        """What is wrong with a third label, for messages."""
        return super().fault if self.positive is not None else "label is neither 0 nor 1"


class Multiclass(_Kind):
    """One of three or more classes: the answer is the likeliest class, and the probability of each."""

    CALIBRATIONS: ClassVar = (Calibration.AUTO, Calibration.NONE, Calibration.TEMPERATURE)
    GATES: ClassVar = frozenset({"min_accuracy", "min_macro_f1", "max_ece"})
    explained: ClassVar = False

    kind: Literal["multiclass"]
    classes: Annotated[tuple[Scalar, ...], Field(min_length=3, max_length=MOST_CLASSES)]
    """The labels that the column holds, in any order that the answers are to have."""

    @model_validator(mode="after")
    def _distinct(self) -> Multiclass:
        twice = [label for label in self.classes if self.classes.count(label) > 1]
        if twice:
            raise ValueError(f"classes names {shown_label(twice[0])} twice")
        _refuse_missing(self.classes)
        if len({type(label) for label in self.classes}) > 1:
            raise ValueError("classes must be of one type, as the values of a column are")
        return self

    @property
    def labels(self) -> tuple[Scalar, ...]:
        """The classes, in the declared order."""
        return self.classes

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Log loss, which judges every probability, macro F1 and accuracy."""
        return (Metric.NEG_LOG_LOSS, Metric.MACRO_F1, Metric.ACCURACY)


class Regression(_Kind):
    """A number: the answer is its prediction, and an interval that holds the true value as often as declared."""

    GATES: ClassVar = frozenset({"min_r2", "max_rmse", "max_mae"})

    kind: Literal["regression"]
    objective: Objective = Objective.SQUARED
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Of the objective "quantile": which quantile is predicted."""
    tweedie_power: Annotated[float, Field(gt=1, lt=2)] = 1.5
    """Of the objective "tweedie": nearer 1 for counts, nearer 2 for amounts."""
    interval: Annotated[float, Field(ge=0.5, lt=1)] = 0.9
    """Share of the rows whose true value the interval of the answer is to hold."""

    @property
    def labels(self) -> None:
        """None: it holds numbers."""
        return

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The share of the objective's loss that the model explains, beside the best constant; then R2 and MAE's."""
        by_objective = {
            Objective.SQUARED: Metric.R2,
            Objective.ABSOLUTE: Metric.D2_ABSOLUTE_ERROR,
            Objective.QUANTILE: Metric.D2_PINBALL,
        }
        own = by_objective.get(self.objective, Metric.D2_TWEEDIE)
        return tuple(dict.fromkeys((own, Metric.R2, Metric.D2_ABSOLUTE_ERROR)))

    @property
    def least_label(self) -> float | None:
        """0 for counts and amounts, None else."""
        return 0.0 if self.objective in (Objective.POISSON, Objective.TWEEDIE) else None

    @property
    def power(self) -> float:
        """The variance power of its deviance (Jørgensen 1987): 0 squared errors, 1 Poisson, between them Tweedie."""
        return {Objective.POISSON: 1.0, Objective.TWEEDIE: self.tweedie_power}.get(self.objective, 0.0)


class Ranking(_Kind):
    """The order of the items of a list: the answer is a score, and the rank among the items that were sent together."""

    GATES: ClassVar = frozenset({"min_ndcg", "min_map", "min_mrr"})

    kind: Literal["ranking"]
    group: str
    """Column whose equal values are one list: a session, a query."""
    item: str | None = None
    """Column that says which item a row is of; with it a model must beat the mean grade of the item."""
    at: Annotated[int, Field(ge=1, le=1000)] = 10
    """How many items from the top the figures count."""

    @property
    def labels(self) -> None:
        """None: it holds grades, which are numbers."""
        return

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """NDCG, which knows how relevant an item is, and MAP, which knows whether it is."""
        return (Metric.NDCG, Metric.MAP)

    @property
    def least_label(self) -> float:
        """0: not relevant."""
        return 0.0

    @property
    def most_grade(self) -> int:
        """As `MOST_GRADE`."""
        return MOST_GRADE

    @property
    def list_column(self) -> str:
        """The group."""
        return self.group

    @property
    def columns(self) -> tuple[str, ...]:
        """The group, and the item if it is named."""
        return (self.group,) if self.item is None else (self.group, self.item)

    @property
    def expected(self) -> str:
        """The grades, for messages."""
        return f"grades of relevance: whole numbers from 0 to {MOST_GRADE}"

    @property
    def fault(self) -> str:
        """What is wrong with another number, for messages."""
        return f"label is no grade of relevance: a whole number from 0 to {MOST_GRADE}"


def _refuse_missing(labels: tuple[Scalar, ...]) -> None:
    if any(label == "" or label != label for label in labels):
        raise ValueError("neither '' nor NaN is a label: in a table they say that there is no value")


def kind_of(value: Any) -> str:
    """Return the name of the kind that a table of the use-case file, or a task or an output, is of."""
    return str(value.get("kind", "binary")) if isinstance(value, dict) else getattr(value, "kind", "binary")


Task = Annotated[
    Annotated[Binary, Tag("binary")]
    | Annotated[Multiclass, Tag("multiclass")]
    | Annotated[Regression, Tag("regression")]
    | Annotated[Ranking, Tag("ranking")],
    Discriminator(
        kind_of,
        custom_error_type="unknown_kind",
        custom_error_message="kind must be 'binary', 'multiclass', 'regression' or 'ranking'",
    ),
]
"""A task of any kind; without `kind` a binary one."""


def shown_label(label: Scalar) -> str:
    """Return a label for messages: words are quoted."""
    return f"'{label}'" if isinstance(label, str) else str(label).lower() if isinstance(label, bool) else str(label)
