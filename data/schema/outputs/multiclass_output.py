"""Several classes: what a model answers, and how its numbers are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from data.schema.features.feature import Scalar
from data.schema.outputs.base_output import (
    LOGIT_EDGES,
    PROBABILITY,
    BaseOutput,
    label_schema,
    labels_of,
)


class MulticlassOutput(BaseOutput):
    """The probability of each class, and the likeliest one; of equal ones the first."""

    kind: Literal["multiclass"] = "multiclass"
    classes: Annotated[tuple[Scalar, ...], Field(min_length=3)]
    """In the order of the model's numbers."""
    common: int = 0
    """The class that most rows have in training, by position: the rows that are answered otherwise are marked."""

    @property
    def marks(self) -> str:
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
        """As `BaseOutput.field_schemas`."""
        names = [str(label) for label in self.classes]
        each = {
            "type": "object",
            "properties": {name: dict(PROBABILITY) for name in names},
            "required": names,
            "description": "Probability of each class; they add up to 1",
        }
        return {
            "label": label_schema(self.classes, "The likeliest class"),
            "probability": {**PROBABILITY, "description": "Probability of the label"},
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
