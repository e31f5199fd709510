"""Made-up rows for a bundle's probe and its example: typical values, drawn column by column, never a row of the table.

A bundle travels to every replica, and its example is on pages that anyone may read. So nothing in it may be a person's:
numbers are quantiles rounded to a coarse step, words are those of many rows, and what stands beside what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from data.schema.features.feature import Feature, FeatureType, Scalar
from data.schema.features.feature_schema import FeatureSchema
from data.schema.use_case import UseCase
from data.transform.encoding import as_floats, named_column
from data.transform.text_scores import with_text_scores
from data.transform.time_values import times_us
from tune.dataset.encoded_examples import count_words

LEAST_ROWS_OF_A_WORD = 10
"""A fitted word of fewer rows than this is shown nowhere: it may be somebody's name."""
EXAMPLE_TEXT = "This is an example of a text."

_DRAWN = 61
_SEED = 0
_MISSING = 0.1
_QUANTILES = np.linspace(0.05, 0.95, 19)
_STEPS = 20
"""A step is the power of ten below this part of the range between the outer quantiles."""
_UNSEEN = "\x00unseen"
_HUGE = {FeatureType.NUMBER: 1e30, FeatureType.INTEGER: 2**53}


def common_words(use_case: UseCase, schema: FeatureSchema, table: pa.Table) -> dict[str, int]:
    """How many words at the front of each category's vocabulary may be shown to anyone.

    All of a declared vocabulary; of a fitted one those that occur in LEAST_ROWS_OF_A_WORD rows of `table` at least,
    up to the first that does not.
    """
    fitted = set(use_case.categories())
    return {
        feature.name: _frequent(feature.vocabulary, count_words(table, feature.name))
        if feature.name in fitted
        else len(feature.vocabulary)
        for feature in schema.features
        if feature.vocabulary is not None
    }


def typical_values(schema: FeatureSchema, table: pa.Table, common: Mapping[str, int]) -> list[list[Scalar]]:
    """Typical values of each feature, in schema order: numbers ascending, words most frequent first; may be empty."""
    scored = with_text_scores(table, schema.scores)
    return [_typical(feature, scored, common.get(feature.name, 0)) for feature in schema.features]


def example_values(schema: FeatureSchema, typical: Sequence[Sequence[Scalar]]) -> dict[str, Scalar]:
    """One value a feature: the middle one of a number, the most frequent word; none where there is no typical value.

    Windows and expressions have none: nobody sends them. A text is the same for every table.
    """
    return dict.fromkeys(schema.texts, EXAMPLE_TEXT) | {
        feature.name: values[0 if feature.type is FeatureType.CATEGORY else len(values) // 2]
        for feature, values in zip(schema.features, typical, strict=True)
        if values and not feature.is_window and not feature.is_expression and feature.score is None
    }


def example_times(schema: FeatureSchema, table: pa.Table) -> dict[str, Scalar]:
    """One time for each column that features are derived from: the beginning of the month of the middle one."""
    columns = {name: times_us(named_column(table, name), name) for name in schema.times}
    found = {name: times.us[~times.missing] for name, times in columns.items()}
    return {name: f"{_month(us)}-01T00:00:00Z" for name, us in found.items() if us.size}


def _month(us: np.ndarray) -> str:
    middle = np.partition(us, us.size // 2)[us.size // 2]
    return str(middle.astype("datetime64[us]").astype("datetime64[M]"))


def probe_rows(schema: FeatureSchema, typical: Sequence[Sequence[Scalar]]) -> list[list[Scalar | None]]:
    """Rows that tell one model from another: typical values with some missing, all missing, unseen words, extremes.

    Equal for equal arguments.
    """
    rng = np.random.default_rng(_SEED)
    columns = [_drawn(rng, values) for values in typical]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return [
        *rows,
        [None] * len(schema.features),
        [_extreme(feature, -1) for feature in schema.features],
        [_extreme(feature, 1) for feature in schema.features],
    ]


def _frequent(vocabulary: Sequence[str], counts: Mapping[str, int]) -> int:
    rare = (at for at, word in enumerate(vocabulary) if counts.get(word, 0) < LEAST_ROWS_OF_A_WORD)
    return next(rare, len(vocabulary))


def _typical(feature: Feature, table: pa.Table, words: int) -> list[Scalar]:
    if feature.type is FeatureType.CATEGORY:
        return list((feature.vocabulary or ())[:words])
    if feature.type is FeatureType.BOOLEAN:
        return [False, True]
    values = as_floats(named_column(table, feature.name), feature.name)
    values = values[np.isfinite(values)]
    if not values.size:
        return []
    quantiles = np.quantile(values, _QUANTILES)
    spread = float(quantiles[-1] - quantiles[0])
    # The step is coarser than the distance of neighbours in any table of more than a few dozen rows.
    digits = -math.floor(math.log10(spread / _STEPS)) if spread > 0 else 0
    return sorted({_as_declared(feature, round(float(value), digits)) for value in quantiles})


def _as_declared(feature: Feature, value: float) -> int | float:
    """Within the declared range, and whole where the feature is."""
    low = -math.inf if feature.min is None else feature.min
    high = math.inf if feature.max is None else feature.max
    within = min(max(value, low), high)
    if feature.type is not FeatureType.INTEGER:
        return within
    whole = round(within)
    return whole + (whole < low) - (whole > high)


def _drawn(rng: np.random.Generator, values: Sequence[Scalar]) -> list[Scalar | None]:
    if not values:
        return [None] * _DRAWN
    # Every value about as often as any other, for the rows to reach as many leaves as they can.
    chosen = rng.permutation(np.resize(np.arange(len(values)), _DRAWN))
    missing = rng.random(_DRAWN) < _MISSING
    return [None if absent else values[at] for at, absent in zip(chosen, missing, strict=True)]


def _extreme(feature: Feature, sign: int) -> Scalar:
    if feature.type is FeatureType.CATEGORY:
        return _UNSEEN
    if feature.type is FeatureType.BOOLEAN:
        return sign > 0
    return sign * _HUGE[feature.type]
