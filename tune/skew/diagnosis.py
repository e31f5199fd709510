"""Diagnosis of skew: the kinds of fault that explain why served rows differ from training.

A fault in the values that the service used is read off them. A fault in the encoding behind them shows in the score
alone: each kind is simulated on the values that the service names, and the one that reproduces its scores is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np

from data.schema.features.feature import FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.schema.features.value_source import ValueSource
from data.transform.encoding import Transform
from tune.registry.bundle import Bundle
from tune.skew.row_comparison import ALONE, ANOTHER_VALUE, FieldDifference, RowMismatch, agreeing, shown_scores
from tune.training.onnx_export import OnnxScorer


class FaultKind(str, Enum):
    """Kind of fault."""

    ZERO = "a zero is treated as missing"
    VOCABULARY = "category codes are from another vocabulary"
    DROPPED = "a value that was sent is not used"
    STORE = "the store does not hold what it should"
    OTHER_VALUE = "another value is used than training has"
    UNEXPLAINED = "the same values give another score: another model, or an encoding that no rule here explains"


class SkewFault(NamedTuple):
    """One kind of fault: the features that it affects, the number of rows that it explains, and an example."""

    kind: FaultKind
    features: tuple[str, ...]
    rows: int
    example: str


class _Theory(NamedTuple):
    kind: FaultKind
    features: tuple[str, ...]
    explained: dict[int, str]
    """The mismatches that it explains, by index, each with an example in words."""


def diagnose(mismatches: Sequence[RowMismatch], bundle: Bundle) -> list[SkewFault]:
    """Return the kinds of fault among mismatches, most rows first; a row may show more than one.

    Args:
        mismatches: the rows that differ.
        bundle: the bundle that the service should serve.
    """
    schema = bundle.manifest.schema_
    rescored = [mismatch for mismatch in mismatches if mismatch.rescored]
    faults = [*_in_the_values(mismatches, schema), *_behind_the_values(rescored, schema, OnnxScorer(bundle.onnx))]
    return sorted(faults, key=lambda fault: -fault.rows)


def _in_the_values(mismatches: Sequence[RowMismatch], schema: FeatureSchema) -> Iterator[SkewFault]:
    rows: Counter[FaultKind] = Counter()
    features: dict[FaultKind, list[str]] = {}
    example: dict[FaultKind, str] = {}
    for mismatch in mismatches:
        faulty = [(line, f.type) for line, f in zip(mismatch.lines, schema.features, strict=True) if line.fault]
        kinds = {_kind(line, of_type): line for line, of_type in reversed(faulty)}
        rows.update(kinds.keys())
        for kind, line in kinds.items():
            example.setdefault(kind, f"row {mismatch.row}: {_in_words(line)}")
        for line, of_type in faulty:
            features.setdefault(_kind(line, of_type), []).append(line.name)
    for kind, count in rows.items():
        yield SkewFault(kind, tuple(dict.fromkeys(features[kind])), count, example[kind])


def _kind(line: FieldDifference, kind: FeatureType) -> FaultKind:
    same_word = line.fault == ANOTHER_VALUE and line.used.value == line.offline_value
    if kind is FeatureType.CATEGORY and (same_word or line.fault.endswith(ALONE)):
        return FaultKind.VOCABULARY
    if kind is not FeatureType.CATEGORY and line.offline_value == 0 and line.online != 0:
        return FaultKind.ZERO
    if line.sent is not None:
        return FaultKind.DROPPED if line.used.source != ValueSource.REQUEST else FaultKind.OTHER_VALUE
    return FaultKind.STORE if line.used.source in (ValueSource.ONLINE, ValueSource.DEFAULT) else FaultKind.OTHER_VALUE


def _in_words(line: FieldDifference) -> str:
    came = f"{line.sent!r} was sent" if line.sent is not None else f"{line.offline_value!r} should be stored"
    used = "no value" if line.used.value is None else repr(line.used.value)
    if line.fault.endswith(ALONE):
        return f"{line.name} = {used} is {line.fault}"
    if line.used.value == line.offline_value:
        return f"{line.name} = {used} is scored as {line.online:g}, not {line.offline:g}"
    return f"{line.name}: {came}, {used} from {line.used.source} was used"


def _behind_the_values(
    mismatches: Sequence[RowMismatch], schema: FeatureSchema, scorer: OnnxScorer
) -> Iterator[SkewFault]:
    """Yield the theory that explains the most mismatches, then the best for the rest, until none explains any."""
    theories = [*_zero_theories(mismatches, schema, scorer), *_vocabulary_theories(mismatches, schema, scorer)]
    left = set(range(len(mismatches)))
    while left:
        best = max(theories, key=lambda theory: len(left & theory.explained.keys()), default=None)
        rows = sorted(left & best.explained.keys()) if best else []
        if best is None or not rows:
            first = mismatches[min(left)]
            example = (
                f"row {first.row}: {shown_scores(first.online)} online, {shown_scores(first.implied)} by the bundle"
            )
            yield SkewFault(FaultKind.UNEXPLAINED, (), len(left), example)
            return
        yield SkewFault(best.kind, best.features, len(rows), best.explained[rows[0]])
        left -= set(rows)


def _zero_theories(mismatches: Sequence[RowMismatch], schema: FeatureSchema, scorer: OnnxScorer) -> Iterator[_Theory]:
    """Yield theories in which zeros (of all features, of all numbers, of each alone) count as missing or default."""
    numbers = [i for i, feature in enumerate(schema.features) if feature.type is not FeatureType.CATEGORY]
    missing = np.array([encoder.missing for encoder in Transform(schema).encoders], np.float32)
    sets = [numbers, *([i] for i in range(len(schema.names))), list(range(len(schema.names)))]
    for columns in sets if mismatches else ():
        explained: dict[int, str] = {}
        vectors = np.array([mismatch.vector for mismatch in mismatches])
        chosen = np.zeros_like(vectors, bool)
        chosen[:, columns] = vectors[:, columns] == 0
        for fill in (np.full_like(missing, np.nan), missing):
            scores = scorer.scores(np.where(chosen, fill, vectors))
            for at in np.flatnonzero(_same(scores, mismatches) & chosen.any(axis=1)).tolist():
                named = ", ".join(schema.names[i] for i in np.flatnonzero(chosen[at]))
                explained.setdefault(at, f"row {mismatches[at].row}: {named} = 0 is scored as missing")
        touched = {i for at in explained for i in np.flatnonzero(chosen[at]).tolist()}
        yield _Theory(FaultKind.ZERO, tuple(schema.names[i] for i in sorted(touched)), explained)


def _vocabulary_theories(
    mismatches: Sequence[RowMismatch], schema: FeatureSchema, scorer: OnnxScorer
) -> Iterator[_Theory]:
    """Yield, for each category, the theory that every word has another code, the same one in all of its rows."""
    for column, feature in enumerate(schema.features):
        words = feature.vocabulary or ()
        by_word: dict[str, list[int]] = {}
        for at, mismatch in enumerate(mismatches):
            by_word.setdefault(str(mismatch.lines[column].used.value), []).append(at)
        explained: dict[int, str] = {}
        for word, places in by_word.items() if words else ():
            codes, rows = _shared_codes([mismatches[at] for at in places], column, len(words), scorer)
            if codes:
                example = f"{feature.name} = '{word}' is scored as {_code_in_words(codes, words)}"
                explained |= {places[row]: example for row in rows}
        yield _Theory(FaultKind.VOCABULARY, (feature.name,), explained)


def _shared_codes(
    mismatches: Sequence[RowMismatch], column: int, size: int, scorer: OnnxScorer
) -> tuple[list[float], list[int]]:
    """Return the codes of a word that explain the most of its mismatches, and the indices of those mismatches."""
    codes = np.append(np.arange(size, dtype=np.float32), np.float32(np.nan))
    fits = np.zeros((len(mismatches), len(codes)), bool)
    for at, mismatch in enumerate(mismatches):
        rows = np.repeat(mismatch.vector[None], len(codes), axis=0)
        rows[:, column] = codes
        fits[at] = agreeing(scorer.scores(rows), np.array(mismatch.online))
    most = fits.sum(axis=0).max()
    if most == 0:
        return [], []
    best = np.flatnonzero(fits.sum(axis=0) == most)
    return codes[best].tolist(), np.flatnonzero(fits[:, best[0]]).tolist()


def _code_in_words(codes: Sequence[float], words: Sequence[str]) -> str:
    named = [f"{code:g} ('{words[int(code)]}')" if code == code else "missing" for code in codes[:3]]
    return "code " + " or ".join(named) + (" or others" if len(codes) > 3 else "")


def _same(scores: np.ndarray, mismatches: Sequence[RowMismatch]) -> np.ndarray:
    return agreeing(scores, np.array([mismatch.online for mismatch in mismatches]))
