"""Expressions: what is taken, what is refused, and that a column and one value give the same bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.schema.features.expression import Comparison, Expression, parse_condition
from data.transform.expression_column import expression_column

_NUMBERS = st.floats(allow_nan=True, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1e308, 5e-324])
_TEXTS = st.sampled_from(["a / b", "a - b", "-(a + 2) * b / 3.5", "a / (b - b)", "a * a * a + b", "2 / a - 1 / b"])


@given(_TEXTS, st.lists(st.tuples(_NUMBERS, _NUMBERS), min_size=1, max_size=8))
def test_a_column_and_one_value_give_the_same_bits(text: str, rows: list[tuple[float, float]]) -> None:
    """Missing parts, divisions by zero and results beyond a float64 are missing in both."""
    expression = Expression(text)
    columns = {name: np.array([row[at] for row in rows]) for at, name in enumerate("ab")}
    one_by_one = [expression.value({"a": a, "b": b}) for a, b in rows]
    assert np.array_equal(expression_column(expression, columns), np.array(one_by_one), equal_nan=True)


def test_value_of_a_ratio():
    """Division is that of floats, and by zero it is missing, never infinite."""
    ratio = Expression("amount / mean")
    assert ratio.names == ("amount", "mean")
    assert ratio.value({"amount": 3.0, "mean": 2.0}) == 1.5
    assert math.isnan(ratio.value({"amount": 3.0, "mean": 0.0}))


@pytest.mark.parametrize(
    "text",
    ["f(a)", "a.b", "a[0]", "a if b else 1", "a ** b", "a // b", "a and b", "'x' + a", "a = 1", "", "1 + 2", "a +",
     "a + True", "lambda: a", "(" * 300 + "a", "a" * 600, "a == b", "a + 1e999"],
)  # fmt: skip
def test_anything_but_arithmetic_is_refused(text: str):
    """No calls, attributes, powers nor unbounded text: a use-case file runs no code."""
    with pytest.raises(ValueError):
        Expression(text)


def test_a_condition_is_comparisons_with_constants():
    """Negative numbers, text and booleans are constants."""
    found = parse_condition("amount > -1.5 and channel == 'web' and abroad != True")
    assert found.comparisons == (
        Comparison("amount", ">", -1.5),
        Comparison("channel", "==", "web"),
        Comparison("abroad", "!=", True),
    )
    assert found.names == ("amount", "channel", "abroad")


@pytest.mark.parametrize(
    "text", ["a > b", "a > 1 or b > 1", "1 < a < 2", "not a", "a", "a < 'x'", "a > None", "a == -'x'", "a in (1, 2)"]
)
def test_any_other_condition_is_refused(text: str):
    """Comparisons of two values, `or`, chains, and the order of text are not taken."""
    with pytest.raises(ValueError):
        parse_condition(text)
