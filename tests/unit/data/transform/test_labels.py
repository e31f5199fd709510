"""Labels of a table as a model learns them."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from data.errors import DataError
from data.schema.task import Binary, Multiclass, Regression
from data.transform.labels import NO_LABEL, label_array, label_codes, label_faults

_NO = NO_LABEL


def column(values):
    """A column in two chunks."""
    array = pa.array(values)
    return pa.chunked_array([array.slice(0, 1), array.slice(1)], array.type)


@pytest.mark.parametrize(
    ("values", "labels", "codes"),
    [
        (["b", "a", None, "c", ""], ("b", "a"), [0, 1, _NO, _NO, _NO]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ("a", "b"), [1, 0, 1]),
        ([3, 1, 2, 4, None], (2, 3, 1), [1, 2, 0, _NO, _NO]),
        ([1.0, 0.5, np.nan], (0, 1), [1, _NO, _NO]),
        ([True, False], (0, 1), [1, 0]),
        ([True, False], (True, False), [0, 1]),
        ([Decimal("1.5"), Decimal("2.5")], (2.5, 1.5), [1, 0]),
        ([10, 20, 7], ("7", "10"), [1, _NO, 0]),
    ],
)
def test_code_is_the_place_of_the_label(values, labels, codes):
    """A label's code is its place among the declared ones, whatever the type of the column; others have none."""
    assert label_codes(column(values), labels, "y").tolist() == codes


def test_labels_are_learned_as_codes_or_as_numbers():
    """Classes become small whole numbers, what is predicted as a number stays one."""
    teams = Multiclass(kind="multiclass", classes=("x", "y", "z"))
    assert label_array(column(["z", "x"]), teams, "t").tolist() == [2, 0]
    assert label_array(column(["z", "x"]), teams, "t").dtype == np.uint8
    minutes = label_array(column([1.5, -2.0]), Regression(kind="regression"), "m")
    assert (minutes.tolist(), minutes.dtype) == ([1.5, -2.0], np.float32)


def test_missing_label_is_no_fault():
    """What is missing is told apart from what is wrong, by any kind."""
    assert label_faults(column([0, 2, None]), Binary(), None, "y").tolist() == [False, True, False]
    numbers = column([1.0, np.inf, None, -1.0, 1e39])
    assert label_faults(numbers, Regression(kind="regression"), 0.0, "y").tolist() == [False, True, False, True, True]


@pytest.mark.parametrize(("values", "task"), [(["a", "b"], Binary()), (["a", "b"], Regression(kind="regression"))])
def test_column_of_another_type_is_refused(values, task):
    """Words are neither 0 and 1 nor numbers."""
    with pytest.raises(DataError, match="column 'y' holds string, expected numbers"):
        label_faults(column(values), task, None, "y")
