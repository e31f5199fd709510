"""Text scores: the numbers that a row's texts are turned into, by one function for a table and for a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import DataError
from data.schema.features.feature import Feature
from data.transform.derived_time import derive_sent
from data.transform.missing import is_missing, is_text, missing_as_null
from data.transform.table_columns import named_column


def text_column(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Return a column of texts, dictionary-encoded or not, or of nothing but nulls, as strings; null where missing.

    Raises:
        DataError: the column holds anything else.
    """
    if pa.types.is_dictionary(column.type):
        return text_column(column.cast(column.type.value_type), name)
    if not (is_text(column.type) or pa.types.is_null(column.type)):
        raise DataError(f"column '{name}' holds {column.type}, expected text")
    # Large strings: the texts of a column may be more than the 2 GiB that the offsets of others can tell apart.
    return missing_as_null(column.cast(pa.large_string()))


def text_lengths(texts: pa.ChunkedArray) -> np.ndarray:
    """Return the characters of n texts, int64 of shape (n,); of a missing one 0."""
    return pc.call_function("utf8_length", [texts]).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)


def score_texts(texts: pa.ChunkedArray, width: int, scores: Callable[[str], Sequence[float]]) -> np.ndarray:
    """Return the scores of n texts, float32 of shape (n, width); of a missing one NaN."""
    found = np.full((len(texts), width), np.nan, np.float32)
    for row, text in enumerate(each for chunk in texts.chunks for each in chunk):
        if text.is_valid:
            found[row] = scores(text.as_py())
    return found


def text_scores(table: pa.Table, features: Sequence[Feature]) -> dict[str, np.ndarray]:
    """Return the text scores among `features`, float32 of shape (n,) by name.

    Raises:
        DataError: the column of a text is missing, or holds no texts.
    """
    by_text: dict[tuple[str, str], list[Feature]] = {}
    for feature in features:
        if feature.score is not None:
            by_text.setdefault((feature.inputs[0], feature.score.model), []).append(feature)
    found: dict[str, np.ndarray] = {}
    for (name, _), scored in by_text.items():
        width = 1 + max(each.score.at for each in scored if each.score is not None)
        scorer = scored[0].scorer
        texts = text_column(named_column(table, name), name)
        matrix = score_texts(texts, width, lambda text, scorer=scorer, width=width: scorer.scores(text)[:width])
        found |= {each.name: matrix[:, each.score.at] for each in scored if each.score is not None}
    return found


def with_text_scores(table: pa.Table, features: Sequence[Feature]) -> pa.Table:
    """Return a table with a column for each text score among `features`, in place of any of the same name.

    Raises:
        DataError: as `text_scores`.
    """
    return with_scores(table, text_scores(table, features))


def with_scores(table: pa.Table, scores: Mapping[str, np.ndarray]) -> pa.Table:
    """Return a table with columns of scores, float32 of shape (n,) by name, NaN = missing; in place of such names."""
    kept = table.select([name for name in table.column_names if name not in scores])
    for name, values in scores.items():
        kept = kept.append_column(name, pa.array(values, pa.float32(), mask=np.isnan(values)))
    return kept


def derived_sent(feature: Feature, sent: Mapping[str, Any]) -> int | float | None:
    """Compute a derived feature, of times or of a text, of the fields of an accepted request; None when missing."""
    if feature.score is None:
        return derive_sent(feature, sent)
    text = sent.get(feature.inputs[0])
    return None if is_missing(text) else feature.scorer.scores(str(text))[feature.score.at]
