"""Labels of a table as a model learns them: codes of declared labels, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.schema.features.feature import Scalar
from data.transform.encoding import as_floats, as_strings
from data.transform.missing import is_text, missing_mask

NO_LABEL = -1
"""The code of a value that is none of the labels."""


class Target(Protocol):
    """What is known of a label column; a task has it, and an output."""

    @property
    def labels(self) -> tuple[Scalar, ...] | None:
        """The labels in the order of their codes; None for numbers."""
        ...


def label_array(column: pa.ChunkedArray, target: Target, name: str) -> np.ndarray:
    """Return the labels of n rows of which none is missing or wrong (`label_faults`).

    Returns:
        The codes of declared labels as uint8 of shape (n,), or numbers as float32.

    Raises:
        DataError: the column's type cannot hold labels.
    """
    if target.labels is None:
        return as_floats(column, name).astype(np.float32)
    return label_codes(column, target.labels, name).astype(np.uint8)


def label_codes(column: pa.ChunkedArray, labels: Sequence[Scalar], name: str) -> np.ndarray:
    """Return the code of each value of a column, int16 of shape (n,); `NO_LABEL` for missing and other values.

    Raises:
        DataError: the column's type cannot hold labels.
    """
    if any(isinstance(label, str) for label in labels):
        words = as_strings(column, name)
        found = pc.call_function("index_in", [words], pc.SetLookupOptions(pa.array([str(each) for each in labels])))
        return found.combine_chunks().fill_null(NO_LABEL).to_numpy(zero_copy_only=False).astype(np.int16)
    # True and 1 are one label, in a table as in a use case.
    values, numbers = as_floats(column, name), np.array(labels, np.float64)
    order = np.argsort(numbers)
    at = np.minimum(np.searchsorted(numbers[order], values), len(numbers) - 1)
    codes = order[at]
    return np.where(numbers[codes] == values, codes, NO_LABEL).astype(np.int16)


def label_faults(
    column: pa.ChunkedArray, target: Target, least: float | None, name: str, most_grade: int | None = None
) -> np.ndarray:
    """Return which of n values, missing ones left out, are no label, as bool of shape (n,).

    A number must be finite as float32, and `least` or more; with `most_grade` also whole, and that or less.

    Raises:
        DataError: the column's type cannot hold labels.
    """
    present = ~missing_mask(column)
    if target.labels is not None:
        return present & (label_codes(column, target.labels, name) == NO_LABEL)
    with np.errstate(over="ignore"):
        values = as_floats(column, name).astype(np.float32)
    wrong = ~np.isfinite(values)
    if least is not None:
        wrong |= values < least
    if most_grade is not None:
        wrong |= (values > most_grade) | (values != np.floor(values))
    return present & wrong


def is_words(column: pa.ChunkedArray) -> bool:
    """Return whether a column holds text, with or without a dictionary."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return is_text(kind)
