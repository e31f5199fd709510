"""The interface of every output, and what the outputs share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from data.schema.features.feature import Scalar

PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
"""The JSON schema of a probability."""
LOGIT_EDGES = tuple(1 / (1 + np.exp(-np.arange(-14, 15) / 2)))
"""Upper edges of a histogram of probabilities: half a logit apart, because those of rare events crowd near zero."""
SCORE_EDGES = len(LOGIT_EDGES)
"""How many edges the histograms of every output have, so that counts by them add up."""


class BaseOutput(BaseModel):
    """Base of the outputs: immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @property
    def marks(self) -> str:
        """What it means that a row is marked (`marked`), for reports: "labelled 1"; empty where no row ever is."""
        return ""

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


def check_edges(edges: Sequence[float]) -> None:
    """Raise ValueError unless edges are as many as every output has, ascending and different."""
    if len(edges) != SCORE_EDGES or list(edges) != sorted(set(edges)):
        raise ValueError(f"quantiles must be {SCORE_EDGES} different numbers in order")


def label_schema(classes: Sequence[Scalar], about: str) -> dict[str, Any]:
    """Return the JSON schema of a label, for labels of one type."""
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {"type": names[type(classes[0])], "enum": list(classes), "description": about}


def labels_of(classes: Sequence[Scalar], codes: np.ndarray) -> np.ndarray:
    """Return the labels of codes (n,): int8 where they are 0 and 1, else as they are declared."""
    if tuple(classes) == (0, 1) and not isinstance(classes[0], bool):
        return codes.astype(np.int8)
    return np.array(classes)[codes]
