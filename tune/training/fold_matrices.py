"""The matrices of the folds of a search, which share their bins."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import xgboost

from tune.dataset.encoded_examples import EncodedExamples
from tune.dataset.folds import Folds
from tune.training.boosting import Fold
from tune.training.listed_rows import listed

_OWN_BINS = "max_bin"
"""The parameter that decides how values are binned: where it is searched, each fit makes its bins itself."""


def fold_matrices(
    development: EncodedExamples, folds: Folds, types: Sequence[str], nthread: int, searched: Collection[str] = ()
) -> list[Fold]:
    """Build the matrices of every fold.

    The values are binned once, over all development rows: bins know no labels.

    Args:
        development: the rows.
        folds: their folds.
        types: of each feature "q" for a number or "c" for a category.
        nthread: threads to bin with.
        searched: names of the parameters that vary.
    """
    declared = {"feature_types": list(types), "enable_categorical": True, "nthread": nthread}
    if _OWN_BINS in searched:

        def plain(rows: np.ndarray) -> xgboost.DMatrix:
            return xgboost.DMatrix(**listed(development.take(rows)), **declared)

        return [Fold(*map(plain, rows)) for rows in folds.each()]
    bins = xgboost.QuantileDMatrix(**listed(development), **declared)

    def binned(rows: np.ndarray) -> xgboost.DMatrix:
        return xgboost.QuantileDMatrix(**listed(development.take(rows)), ref=bins, **declared)

    return [Fold(*map(binned, rows)) for rows in folds.each()]
