"""Row comparison for the skew proof: a served row against what training computes for it, field by field.

*Offline* is the table's row, encoded by `data.transform.encoding.Transform` and scored by the bundle's ONNX model.
*Online* is what the service reports: the values it used with their sources, and its score. For a value from the store,
offline is what the store should hold if that is known, else the value that the service reports. Pure: no HTTP, no
registry.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from data.errors import ConfigError
from data.schema.features.feature import Scalar
from data.schema.features.feature_schema import FeatureSchema
from data.schema.features.value_source import ValueSource
from data.transform.encoding import FeatureEncoder, Transform
from data.transform.text_scores import derived_sent
from tune.registry.bundle import Bundle
from tune.training.onnx_export import OnnxScorer

SCORE_TOLERANCE = 1e-6
"""Largest difference of equal scores: eight times the rounding of a float32 near 1, since sums may be taken in another
order."""
SHOWN = 10
"""Most rows that are shown field by field."""
KEPT = 200
"""Most mismatches that are kept, for the diagnosis."""

ALONE, ANOTHER_VALUE = " to the service alone", "another value"
"""Faults of a field, the first as a suffix of "known" or "unknown"; a third kind names the source of the value."""

Values = Mapping[str, Scalar]
"""Raw values by feature; absent ones are left out."""


class SentRow(NamedTuple):
    """One request row: its number in the table, the JSON object (None when JSON cannot carry it), and the entity."""

    row: int
    body: dict[str, Scalar] | None
    entity: str | None


class UsedValue(NamedTuple):
    """One feature as the service says it used it; `source` is the word of a `ValueSource`, or what the service says.

    `unseen` says whether the service takes the value for an unknown category; None when it does not report that.
    """

    value: Scalar | None
    source: str
    unseen: bool | None = None


_NOT_USED = UsedValue(None, "nowhere")


class ServedRow(NamedTuple):
    """One answered row: its scores, each feature as it was used, and, from a log, the vector that was scored."""

    request_id: str
    scores: Sequence[float]
    features: Mapping[str, UsedValue]
    vector: Sequence[float] | None = None


class FieldDifference(NamedTuple):
    """One field of a compared row.

    `online` and `offline` are encoded values, as the model sees them; `fault` says what differs, empty when nothing.
    """

    name: str
    sent: Scalar | None
    used: UsedValue
    online: float
    offline_value: Scalar | None
    offline: float
    fault: str


class RowMismatch(NamedTuple):
    """A row on which online and offline differ.

    `vector`, float32 of shape (k,), is what the service scored, or should have scored by the values that it reports.
    `implied` has the bundle's scores of it: when `online` differs from them, the fault lies behind the values.
    """

    row: int
    request_id: str
    lines: tuple[FieldDifference, ...]
    online: Sequence[float]
    offline: Sequence[float]
    vector: np.ndarray
    implied: Sequence[float]

    @property
    def rescored(self) -> bool:
        """Whether the service's scores differ from the bundle's of the values that it reports."""
        return not same_scores(self.online, self.implied)


@dataclass
class SkewProof:
    """The result of a comparison. `wanted` is the number of rows that must be compared."""

    version: str
    wanted: int
    compared: int = 0
    degraded: int = 0
    refused: int = 0
    first_refusal: str = ""
    fields: Counter[str] = field(default_factory=Counter)
    """Number of compared fields by the source of the value."""
    differing: int = 0
    mismatches: list[RowMismatch] = field(default_factory=list)
    """The first `KEPT` of `differing`."""

    @property
    def passed(self) -> bool:
        """Whether enough rows were compared and none differs."""
        return self.differing == 0 and self.compared >= self.wanted

    @property
    def summary(self) -> str:
        """The result in one line, for a table."""
        words = [f"{self.compared:,} rows, {self.differing:,} differ"]
        if self.refused:
            words.append(f"{self.refused:,} refused")
        if self.degraded:
            words.append(f"{self.degraded:,} without the store")
        return ", ".join(words)

    def refuse(self, row: int, reason: str) -> None:
        """Count a row that the service refused or that cannot be sent."""
        self.refused += 1
        self.first_refusal = self.first_refusal or f"row {row}: {reason}"


class RowComparer:
    """Compares served rows with training for one bundle, and collects the result in `proof`.

    Args:
        bundle: the bundle of the version that is asked.
        version: number of the version.
        wanted: number of rows that must be compared.
        stored: what the store should hold by entity, if it is known.

    Raises:
        ConfigError: the bundle has features of which a row of a table does not say what was served.
    """

    def __init__(self, bundle: Bundle, version: str, wanted: int, stored: Mapping[str, Values] | None = None) -> None:
        refuse_in_time(bundle.manifest.schema_, version)
        self.proof = SkewProof(version, wanted)
        self.output = bundle.manifest.output
        """What the bundle answers."""
        self._encoders = Transform(bundle.manifest.schema_).encoders
        self._scorer = OnnxScorer(bundle.onnx)
        self._stored = stored

    def compare(self, matrix: np.ndarray, sent: Sequence[SentRow], served: Sequence[ServedRow]) -> None:
        """Compare n rows.

        Args:
            matrix: the encoded rows of the table, float32 of shape (n, k).
            sent: the request of each row.
            served: the answer to each.
        """
        if not sent:
            return
        rows = [self._lines(*row) for row in zip(matrix, sent, served, strict=True)]
        offline = np.array([[line.offline for line in lines] for lines in rows], np.float32)
        online = np.array([[line.online for line in lines] for lines in rows], np.float32)
        expected, implied = self._scorer.scores(offline).tolist(), self._scorer.scores(online).tolist()
        for at, lines in enumerate(rows):
            self.proof.compared += 1
            self.proof.fields.update(line.used.source for line in lines)
            scores = served[at].scores
            if any(line.fault for line in lines) or not same_scores(scores, expected[at]):
                mismatch = RowMismatch(
                    sent[at].row, served[at].request_id, lines, scores, expected[at], online[at], implied[at]
                )
                self._keep(mismatch)

    def _keep(self, mismatch: RowMismatch) -> None:
        self.proof.differing += 1
        if len(self.proof.mismatches) < KEPT:
            self.proof.mismatches.append(mismatch)

    def _lines(self, encoded: np.ndarray, sent: SentRow, served: ServedRow) -> tuple[FieldDifference, ...]:
        vector = served.vector if served.vector is not None else [None] * len(encoded)
        return tuple(
            self._line(encoder, float(code), sent, served.features.get(encoder.feature.name, _NOT_USED), scored)
            for encoder, code, scored in zip(self._encoders, encoded, vector, strict=True)
        )

    def _line(
        self, encoder: FeatureEncoder, code: float, sent: SentRow, used: UsedValue, scored: float | None
    ) -> FieldDifference:
        feature = encoder.feature
        body = sent.body or {}
        value = derived_sent(feature, body) if feature.is_derived else body.get(feature.name)
        stored = {} if self._stored is None else self._stored.get(sent.entity or "", {})
        implied = as_float32(encoder.encode(used.value))
        online = implied if scored is None else scored
        if not encoder.is_missing(value):
            offline_value, offline, expected = value, code, (ValueSource.REQUEST,)
        elif feature.online and self._stored is not None:
            offline_value = stored.get(feature.name)
            offline = as_float32(encoder.encode(offline_value))
            expected = (ValueSource.DEFAULT if offline_value is None else ValueSource.ONLINE,)
        elif feature.online:
            offline_value, offline, expected = used.value, implied, (ValueSource.ONLINE, ValueSource.DEFAULT)
        else:
            offline_value, offline, expected = feature.default, as_float32(encoder.missing), (ValueSource.DEFAULT,)
        fault = fault_of(encoder, used, online, offline, expected)
        return FieldDifference(feature.name, value, used, online, offline_value, offline, fault)


def refuse_in_time(schema: FeatureSchema, version: str) -> None:
    """Refuse a model whose features follow from more than a row and its stored values; names them and says why.

    Raises:
        ConfigError: it has windows or expressions.
    """
    windows = [feature.name for feature in schema.windows]
    expressions = [feature.name for feature in schema.expressions]
    reasons = []
    if windows:
        reasons.append(
            f"{', '.join(windows)} (windows): the service computes them of the events that it holds when it is asked, "
            "neither those of the row's time nor any that an answer or a log lists"
        )
    if expressions:
        reasons.append(f"{', '.join(expressions)} (expressions): they are neither sent nor stored")
    if reasons:
        raise ConfigError(
            f"version {version} cannot be compared row by row: {'; '.join(reasons)}; prove it in time (--in-time)"
        )


def same_scores(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether the scores of two rows agree within SCORE_TOLERANCE; see `agreeing`."""
    return bool(agreeing(np.array(one), np.array(other)))


def agreeing(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return which of n rows have the same scores, bool of shape (n,), of two arrays of shape (n, width).

    They may differ by SCORE_TOLERANCE, numbers above 1 by that share of them.
    """
    allowed = SCORE_TOLERANCE * np.maximum(np.abs(other.astype(np.float64)), 1.0)
    return np.asarray(np.all(np.abs(one.astype(np.float64) - other) <= allowed, axis=-1))


def shown_scores(scores: Sequence[float]) -> str:
    """Return the scores of a row for people."""
    return ", ".join(f"{score:.6f}" for score in scores)


def fault_of(encoder: FeatureEncoder, used: UsedValue, online: float, offline: float, expected: Sequence[str]) -> str:
    """Return what is wrong with a value that the service used, empty when nothing is.

    Args:
        encoder: of the feature.
        used: the value.
        online: its code.
        offline: the code that training has.
        expected: the words of the sources that it may come from.
    """
    if used.source not in expected:
        return f"taken from {used.source}, not from {' or '.join(expected)}"
    if used.value is not None and used.unseen is not None and used.unseen != encoder.unseen(used.value):
        return f"{'unknown' if used.unseen else 'known'}{ALONE}"
    if not (online == offline or (math.isnan(online) and math.isnan(offline))):
        return ANOTHER_VALUE
    return ""


def as_float32(value: float) -> float:
    """Return a number as the model sees it."""
    # The encoder returns a Python float; a logged or encoded vector has been rounded to float32.
    return float(np.float32(value))
