"""The comparison of a proof in time: each answer against the table's vector of its row, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from data.schema.features.feature import Scalar
from data.schema.features.value_source import ValueSource
from data.transform.encoding import FeatureEncoder, Transform
from tune.registry.bundle import Bundle
from tune.skew.in_time_table import InTimeTable
from tune.skew.row_comparison import (
    ANOTHER_VALUE,
    KEPT,
    FieldDifference,
    RowMismatch,
    ServedRow,
    SkewProof,
    UsedValue,
    as_float32,
    fault_of,
    same_scores,
)
from tune.tasks.learning_task import LearningTask, Scored
from tune.training.onnx_export import OnnxScorer

_NOT_USED = UsedValue(None, "nowhere")


class Figures(NamedTuple):
    """One metric of the measured model on the compared rows, by the table's vectors and by those of the answers.

    The model that serves has learned from these rows: its own scores would flatter.
    """

    metric: str
    by_table: float
    live: float


@dataclass
class InTimeProof(SkewProof):
    """The result of a proof in time; `compared` counts each row once, and every difference of its answers."""

    repeated: int = 0
    """Rows that were sent again; their answers are compared, too."""
    disordered: int = 0
    """Rows that were sent after later ones."""
    events: int = 0
    """Events that were stored beside those that rows became."""
    repeated_events: int = 0
    late_events: int = 0
    """Events that were stored after rows later than they."""
    figures: Figures | None = None
    places: list[int] = field(default_factory=list)
    """Of each mismatch that is kept, the place of its row in the order of time."""
    causes: list[str] = field(default_factory=list)
    """Which events were missing or counted too early, in words."""

    @property
    def summary(self) -> str:
        """The result in one line, for a table."""
        return f"in time: {super().summary}"

    def refuse(self, row: int, reason: str) -> None:
        """Count a row that cannot be answered, and so is not wanted either."""
        super().refuse(row, reason)
        self.wanted = max(self.wanted - 1, 1)


class InTimeComparer:
    """Compares answers with the table, and collects the result in `proof`.

    Args:
        bundle: of the version that is asked.
        version: its number.
        table: the rows that are sent.
    """

    def __init__(self, bundle: Bundle, version: str, table: InTimeTable) -> None:
        self.proof = InTimeProof(version, table.count)
        self._table = table
        self._encoders = Transform(bundle.manifest.schema_).encoders
        self._scorer, self._measured = OnnxScorer(bundle.onnx), OnnxScorer(bundle.measured)
        self._online = {feature.name for feature in bundle.manifest.schema_.online}
        self.output = bundle.manifest.output
        """What the bundle answers."""
        self.by_table = self._scorer.scores(table.matrix)
        """The scores of each row by the table, float32 of shape (n, width)."""
        self._answered = np.zeros(table.count, bool)
        self._vectors = np.empty_like(table.matrix)

    def compare(self, at: int, served: ServedRow, repeated: bool) -> None:
        """Compare the answer to one row.

        Args:
            at: the row's place in the order of time.
            served: the answer.
            repeated: whether the row was sent before.
        """
        lines = tuple(
            self._line(i, encoder, at, served.features.get(encoder.feature.name, _NOT_USED))
            for i, encoder in enumerate(self._encoders)
        )
        expected = self.by_table[at].tolist()
        if not repeated:
            self.proof.compared += 1
            self.proof.fields.update(line.used.source for line in lines)
            self._answered[at], self._vectors[at] = True, [line.online for line in lines]
        if any(line.fault for line in lines) or not same_scores(served.scores, expected):
            self._keep(at, served, lines, expected)

    def finish(self, labels: np.ndarray, learning: LearningTask[Any], lists: np.ndarray | None = None) -> InTimeProof:
        """Return the proof, with the figures of the rows that were answered.

        Args:
            labels: of the n rows, of shape (n,).
            learning: the use case's, for its metric.
            lists: of a ranking the lists of the rows, as `Scored.lists`.
        """
        rows = np.flatnonzero(self._answered)
        of = labels[rows]
        if len(of) and of.min() != of.max():
            found = [self._measured.scores(each[rows]) for each in (self._table.matrix, self._vectors)]
            metric = learning.metric.value
            own = None if lists is None else lists[rows]
            figures = (learning.metrics(of, Scored(scores, self.output, own))[metric] for scores in found)
            self.proof.figures = Figures(metric, *figures)
        return self.proof

    def _keep(self, at: int, served: ServedRow, lines: tuple[FieldDifference, ...], expected: Sequence[float]) -> None:
        self.proof.differing += 1
        if len(self.proof.mismatches) < KEPT:
            vector = np.array([line.online for line in lines], np.float32)
            implied = self._scorer.scores(vector[None, :])[0].tolist()
            number, request = int(self._table.numbers[at]), served.request_id
            mismatch = RowMismatch(number, request, lines, served.scores, expected, vector, implied)
            self.proof.mismatches.append(mismatch)
            self.proof.places.append(at)

    def _line(self, i: int, encoder: FeatureEncoder, at: int, used: UsedValue) -> FieldDifference:
        feature = encoder.feature
        value = self._expected(i, encoder, at)
        offline, online = float(self._table.matrix[at, i]), as_float32(encoder.encode(used.value))
        fault = fault_of(encoder, used, online, offline, (self._source(encoder, value, at),))
        same = _bits(online) == _bits(offline)
        if feature.is_window or feature.is_expression:
            same = same and _same(used.value, value, feature.default)
        if not fault and not same:
            fault = ANOTHER_VALUE
        body = self._table.sent[at].body or {}
        return FieldDifference(feature.name, body.get(feature.name), used, online, value, offline, fault)

    def _expected(self, i: int, encoder: FeatureEncoder, at: int) -> Scalar | None:
        value = self._table.values[i][at]
        return None if encoder.is_missing(value) else value

    def _source(self, encoder: FeatureEncoder, value: Scalar | None, at: int) -> str:
        feature = encoder.feature
        if value is None:
            return ValueSource.DEFAULT
        if feature.is_window:
            return ValueSource.EVENTS
        if feature.is_expression:
            return ValueSource.COMPUTED
        return ValueSource.ONLINE if feature.name in self._online else ValueSource.REQUEST


def _same(used: Scalar | None, value: Scalar | None, default: Scalar | None) -> bool:
    """Return whether a computed value is the table's in float64, or the default where the table has none."""
    return used == (default if value is None else value)


def _bits(value: float) -> bytes:
    """Return the bits of a float32, of every NaN the same."""
    return b"" if math.isnan(value) else np.float32(value).tobytes()
