"""An expression over features, computed of whole columns; `Expression.value` computes one row by the same rules."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data.schema.features.expression import Expression


def expression_column(expression: Expression, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Compute n rows: from float64 of shape (n,) by feature to float64 of shape (n,), NaN = missing."""
    with np.errstate(all="ignore"):
        result = expression.evaluate(values, _divide)
    return np.where(np.isfinite(result), result, np.nan)


def _divide(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.where(np.equal(right, 0), np.nan, np.divide(left, right))
