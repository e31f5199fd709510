"""Listed rows: examples as XGBoost takes them, of a ranking sorted so that the rows of a list are neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import xgboost

from data.schema.task import Task
from tune.dataset.encoded_examples import EncodedExamples


def listed(examples: EncodedExamples) -> dict[str, Any]:
    """Return some rows as arguments of a matrix: `data` and `label`, of a ranking `qid` too.

    Rows keep their order, but of a ranking that of their lists comes first: XGBoost takes a list for over where the
    number changes.
    """
    if examples.lists is None:
        return {"data": examples.x, "label": examples.y}
    order = np.argsort(examples.lists, kind="stable")
    return {"data": examples.x[order], "label": examples.y[order], "qid": examples.lists[order]}


def lists_of(matrix: xgboost.DMatrix, task: Task) -> np.ndarray | None:
    """Return the list of each row of a matrix, numbered in their order, of shape (n,); None where rows stand alone."""
    if task.list_column is None:
        return None
    ends = matrix.get_uint_info("group_ptr").astype(np.int64)
    return np.repeat(np.arange(len(ends) - 1), np.diff(ends))
