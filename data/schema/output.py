"""The output: what a trained model answers, by kind of target, and how its numbers are read.

A model gives `width` float32 numbers a row. All code that shows, logs, counts or compares answers goes by the output;
none asks which kind it is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from data.schema.features.feature import Scalar
from data.schema.prediction_interval import PredictionInterval
from data.schema.task import kind_of

_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
LOGIT_EDGES = tuple(1 / (1 + np.exp(-np.arange(-14, 15) / 2)))
"""Upper edges of a histogram of probabilities: half a logit apart, because those of rare events crowd near zero."""
SCORE_EDGES = len(LOGIT_EDGES)
"""How many edges the histograms of every output have, so that counts by them add up."""


class _Output(BaseModel):
    """Base of the outputs: immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    marks: ClassVar[str] = ""
    """What it means that a row is marked (`marked`), for reports: "labelled 1"; empty where no row ever is."""

    @property
    @abstractmethod
    def words(self) -> str:
        """How an answer is meant, in a clause for people."""

    @property
    @abstractmethod
    def width(self) -> int:
        """How many numbers the model gives for a row."""

    @property
    @abstractmethod
    def labels(self) -> tuple[Scalar, ...] | None:
        """The labels that are told apart, in the order of the classes; None for numbers."""

    @property
    @abstractmethod
    def edges(self) -> tuple[float, ...]:
        """Upper edges, ascending, of the histogram by which the scores of two versions are compared: `SCORE_EDGES`."""

    @property
    def fitted(self) -> dict[str, float]:
        """The numbers that were fitted beside the model, by name."""
        return {}

    @abstractmethod
    def fields(self, scores: Sequence[float]) -> dict[str, Any]:
        """Return the fields of a response for one row's numbers: JSON values by name."""

    @abstractmethod
    def read(self, fields: Mapping[str, Any]) -> list[float]:
        """Return the numbers of which `fields` made a response; raises KeyError for one that is none of this output."""

    @abstractmethod
    def field_schemas(self) -> dict[str, dict[str, Any]]:
        """Return the JSON schema of each field of a response."""

    @abstractmethod
    def columns(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns of batch scoring by name, for float32 of shape (n, width); values as in `fields`."""

    @abstractmethod
    def code(self, scores: Sequence[float]) -> int | None:
        """Return the position of the label that is answered, None where none is."""

    def ranked(self, answers: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
        """Return for each answer of a request the fields that follow from all of them; none where a row stands alone.

        Args:
            answers: the numbers of the rows that one model answered, in the order of the request.
        """
        return []

    def ranked_schemas(self) -> dict[str, dict[str, Any]]:
        """Return the JSON schema of each field of `ranked`."""
        return {}

    def marked(self, code: int | None) -> bool:
        """Return whether rows that are answered with the label at this position are those whose share is watched."""
        return False

    @abstractmethod
    def probability(self, scores: Sequence[float]) -> float | None:
        """Return the probability that is answered first: of the positive label, or the label's; None of numbers."""

    @abstractmethod
    def score(self, scores: Sequence[float]) -> float:
        """Return the one number that stands for an answer where two versions are compared; see `edges`."""

    def named(self, code: int | None) -> Scalar | None:
        """Return the label at a position; None where none is answered."""
        return None if code is None or self.labels is None else self.labels[code]


class BinaryOutput(_Output):
    """The probability of the positive label, and the label by a threshold."""

    kind: Literal["binary"] = "binary"
    classes: tuple[Scalar, Scalar] = (0, 1)
    """The negative, then the positive label."""
    threshold: Annotated[float, Field(ge=0, le=1)]
    """Rows with a probability of at least this have the positive label."""

    @property
    def marks(self) -> str:  # type: ignore[override]
        """The positive label."""
        return f"labelled {self.classes[1]}"

    @property
    def words(self) -> str:
        """From which probability on the label is the positive one."""
        return f"the label is {self.classes[1]} from a probability of {self.threshold:.4g} on"

    @property
    def width(self) -> int:
        """One: the probability."""
        return 1

    @property
    def labels(self) -> tuple[Scalar, Scalar]:
        """The negative, then the positive label."""
        return self.classes

    @property
    def edges(self) -> tuple[float, ...]:
        """As `LOGIT_EDGES`."""
        return LOGIT_EDGES

    @property
    def fitted(self) -> dict[str, float]:
        """The threshold."""
        return {"threshold": self.threshold}

    def read(self, fields: Mapping[str, Any]) -> list[float]:
        """The probability."""
        return [float(fields["probability"])]

    def fields(self, scores: Sequence[float]) -> dict[str, Any]:
        """`probability`, and `label`."""
        return {"probability": scores[0], "label": self.classes[scores[0] >= self.threshold]}

    def field_schemas(self) -> dict[str, dict[str, Any]]:
        """As `_Output.field_schemas`."""
        positive = self.classes[1]
        return {
            "probability": {**_PROBABILITY, "description": f"Probability of the label {positive}"},
            "label": _label_schema(self.classes, f"{positive} from the model's threshold on"),
        }

    def columns(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """As `_Output.columns`."""
        # Compare in float64, as `fields` does: in float32 a score at the threshold could get another label.
        codes = (scores[:, 0].astype(np.float64) >= self.threshold).astype(np.int8)
        return {"probability": scores[:, 0], "label": labels_of(self.classes, codes)}

    def code(self, scores: Sequence[float]) -> int:
        """0 for the negative label, 1 for the positive one."""
        return int(scores[0] >= self.threshold)

    def marked(self, code: int | None) -> bool:
        """Whether it is the positive label."""
        return code == 1

    def probability(self, scores: Sequence[float]) -> float:
        """That of the positive label."""
        return scores[0]

    def score(self, scores: Sequence[float]) -> float:
        """The probability."""
        return scores[0]


class MulticlassOutput(_Output):
    """The probability of each class, and the likeliest one; of equal ones the first."""

    kind: Literal["multiclass"] = "multiclass"
    classes: Annotated[tuple[Scalar, ...], Field(min_length=3)]
    """In the order of the model's numbers."""
    common: int = 0
    """The class that most rows have in training, by position: the rows that are answered otherwise are marked."""

    @property
    def marks(self) -> str:  # type: ignore[override]
        """Any label but the most common one."""
        return f"labelled otherwise than {self.classes[self.common]}"

    @property
    def words(self) -> str:
        """Among how many classes it is the likeliest."""
        return f"the label is the likeliest of {len(self.classes)} classes"

    @property
    def width(self) -> int:
        """The number of classes."""
        return len(self.classes)

    @property
    def labels(self) -> tuple[Scalar, ...]:
        """The classes."""
        return self.classes

    @property
    def edges(self) -> tuple[float, ...]:
        """As `LOGIT_EDGES`."""
        return LOGIT_EDGES

    def read(self, fields: Mapping[str, Any]) -> list[float]:
        """The probability of each class."""
        return [float(fields["probabilities"][str(label)]) for label in self.classes]

    def fields(self, scores: Sequence[float]) -> dict[str, Any]:
        """`label`, its `probability`, and `probabilities` by class."""
        code = self.code(scores)
        named = {str(label): score for label, score in zip(self.classes, scores, strict=True)}
        return {"label": self.classes[code], "probability": scores[code], "probabilities": named}

    def field_schemas(self) -> dict[str, dict[str, Any]]:
        """As `_Output.field_schemas`."""
        names = [str(label) for label in self.classes]
        each = {
            "type": "object",
            "properties": {name: dict(_PROBABILITY) for name in names},
            "required": names,
            "description": "Probability of each class; they add up to 1",
        }
        return {
            "label": _label_schema(self.classes, "The likeliest class"),
            "probability": {**_PROBABILITY, "description": "Probability of the label"},
            "probabilities": each,
        }

    def columns(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """`label`, `probability`, and `probability_CLASS` for every class."""
        codes = scores.argmax(axis=1)
        likeliest = scores[np.arange(len(scores)), codes]
        each = {f"probability_{label}": scores[:, at] for at, label in enumerate(self.classes)}
        return {"label": labels_of(self.classes, codes), "probability": likeliest, **each}

    def code(self, scores: Sequence[float]) -> int:
        """The position of the likeliest class, the first of equal ones."""
        return max(range(len(scores)), key=scores.__getitem__)

    def marked(self, code: int | None) -> bool:
        """Whether it is another label than the most common one."""
        return code != self.common

    def probability(self, scores: Sequence[float]) -> float:
        """That of the likeliest class."""
        return max(scores)

    def score(self, scores: Sequence[float]) -> float:
        """The probability that it is not of the most common class."""
        return 1 - scores[self.common]


class RegressionOutput(_Output):
    """A number, and the interval around it."""

    kind: Literal["regression"] = "regression"
    interval: PredictionInterval
    """Where the true value lies."""
    quantiles: tuple[float, ...]
    """29 quantiles of the labels that were learned from, ascending and different: the edges of score histograms."""

    @model_validator(mode="after")
    def _ordered(self) -> RegressionOutput:
        _check_edges(self.quantiles)
        return self

    @property
    def width(self) -> int:
        """One: the number."""
        return 1

    @property
    def labels(self) -> None:
        """None."""
        return

    @property
    def edges(self) -> tuple[float, ...]:
        """Quantiles of the labels."""
        return self.quantiles

    @property
    def words(self) -> str:
        """What the interval holds."""
        return f"the interval holds the true value for {self.interval.coverage:.0%} of the rows"

    @property
    def fitted(self) -> dict[str, float]:
        """The interval's coverage."""
        return {"interval_coverage": self.interval.coverage}

    def read(self, fields: Mapping[str, Any]) -> list[float]:
        """The prediction."""
        return [float(fields["prediction"])]

    def fields(self, scores: Sequence[float]) -> dict[str, Any]:
        """`prediction`, and `interval` as an array of two numbers."""
        return {"prediction": scores[0], "interval": list(self.interval.ends(scores[0]))}

    def field_schemas(self) -> dict[str, dict[str, Any]]:
        """As `_Output.field_schemas`."""
        about = f"Holds the true value for {self.interval.coverage:.0%} of the rows"
        interval = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2, "description": about}
        return {"prediction": {"type": "number"}, "interval": interval}

    def columns(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """`prediction`, `interval_low` and `interval_high`, the latter float64."""
        low, high = self.interval.all_ends(scores[:, 0])
        return {"prediction": scores[:, 0], "interval_low": low, "interval_high": high}

    def code(self, scores: Sequence[float]) -> None:
        """None."""
        return

    def probability(self, scores: Sequence[float]) -> None:
        """None."""
        return

    def score(self, scores: Sequence[float]) -> float:
        """The number."""
        return scores[0]


class RankingOutput(_Output):
    """A score, by which the items of a list are ordered, the largest first; its size says nothing beyond that."""

    kind: Literal["ranking"] = "ranking"
    quantiles: tuple[float, ...]
    """29 quantiles of the scores out of fold, ascending and different: the edges of score histograms."""
    at: Annotated[int, Field(ge=1)] = 10
    """How many items from the top the model's figures count."""

    @model_validator(mode="after")
    def _ordered(self) -> RankingOutput:
        _check_edges(self.quantiles)
        return self

    @property
    def width(self) -> int:
        """One: the score."""
        return 1

    @property
    def labels(self) -> None:
        """None."""
        return

    @property
    def edges(self) -> tuple[float, ...]:
        """Quantiles of the scores."""
        return self.quantiles

    @property
    def words(self) -> str:
        """What the score is good for."""
        return "the score orders the items that are sent together, the best first, and is no probability"

    def read(self, fields: Mapping[str, Any]) -> list[float]:
        """The score."""
        return [float(fields["score"])]

    def fields(self, scores: Sequence[float]) -> dict[str, Any]:
        """`score`."""
        return {"score": scores[0]}

    def field_schemas(self) -> dict[str, dict[str, Any]]:
        """As `_Output.field_schemas`."""
        return {"score": {"type": "number", "description": "Larger is better; compare it within one list only"}}

    def ranked(self, answers: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
        """`rank`: 1 for the largest score; of equal ones the first in the request is the better."""
        ranks = [0] * len(answers)
        for rank, at in enumerate(sorted(range(len(answers)), key=lambda at: -answers[at][0]), 1):
            ranks[at] = rank
        return [{"rank": rank} for rank in ranks]

    def ranked_schemas(self) -> dict[str, dict[str, Any]]:
        """As `_Output.ranked_schemas`."""
        about = "1 for the best of the items of the request that were answered"
        return {"rank": {"type": "integer", "minimum": 1, "description": about}}

    def columns(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """`score`; a list's rows may be parts apart, so ranks are left to who has them all."""
        return {"score": scores[:, 0]}

    def code(self, scores: Sequence[float]) -> None:
        """None."""
        return

    def probability(self, scores: Sequence[float]) -> None:
        """None."""
        return

    def score(self, scores: Sequence[float]) -> float:
        """The score."""
        return scores[0]


Output = Annotated[
    Annotated[BinaryOutput, Tag("binary")]
    | Annotated[MulticlassOutput, Tag("multiclass")]
    | Annotated[RegressionOutput, Tag("regression")]
    | Annotated[RankingOutput, Tag("ranking")],
    Discriminator(kind_of),
]
"""An output of any kind."""


def _check_edges(edges: Sequence[float]) -> None:
    if len(edges) != SCORE_EDGES or list(edges) != sorted(set(edges)):
        raise ValueError(f"quantiles must be {SCORE_EDGES} different numbers in order")


def _label_schema(classes: Sequence[Scalar], about: str) -> dict[str, Any]:
    """Return the JSON schema of a label, for labels of one type."""
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {"type": names[type(classes[0])], "enum": list(classes), "description": about}


def labels_of(classes: Sequence[Scalar], codes: np.ndarray) -> np.ndarray:
    """Return the labels of codes (n,): int8 where they are 0 and 1, else as they are declared."""
    if tuple(classes) == (0, 1) and not isinstance(classes[0], bool):
        return codes.astype(np.int8)
    return np.array(classes)[codes]
