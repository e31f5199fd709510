"""The fits after a search: which rows they learn from, with how many rounds."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost

from tests.support.training.models import card_table
from tests.support.training.stored_cards import stored_cards
from tests.support.training.training_reports import source_of
from tune.dataset.encoded_examples import PreparedDataset, prepare
from tune.tasks.kinds import learning_task
from tune.training.boosting import base_params
from tune.training.final_fits import MemoryFits, MemoryTask, run_here, scaled_rounds
from tune.training.final_model import out_of_fold


@pytest.fixture(scope="module")
def prepared() -> PreparedDataset:
    """Card transactions, by time."""
    return prepare(source_of(card_table(2000), stored_cards()), stored_cards())


def test_fits_learn_from_their_rows_and_no_others(prepared):
    """Of the folds their learned rows, then all but the holdout, then every row, each with its rounds."""
    asked: list[MemoryTask] = []

    def noted(examples, types, params, tasks):
        asked.extend(tasks)
        return run_here(examples, types, params, tasks)

    fits = MemoryFits(prepared, base_params(learning_task(stored_cards()), 1, 0), 10, noted)
    folds, development, whole = fits.of_folds(), fits.of_development(), fits.of_all()
    assert [len(task.rows) for task in asked] == [
        *(len(rows.learned) for rows in prepared.folds.each()),
        prepared.development.rows,
        prepared.development.rows + prepared.holdout.rows,
    ]
    assert [booster.num_boosted_rounds() for booster in folds] == [10] * prepared.folds.count
    learned = prepared.folds.learned_share * prepared.development.rows
    assert development.num_boosted_rounds() == scaled_rounds(10, learned, 1600)
    assert whole.num_boosted_rounds() == scaled_rounds(10, learned, 2000)


def test_rows_out_of_fold_are_scored_by_a_fit_that_did_not_learn_from_them(prepared):
    """The score of each judged row is that of the booster of its fold; rows that no fold judges have none."""
    params = base_params(learning_task(stored_cards()), 1, 0)
    boosters = MemoryFits(prepared, params, 5, run_here).of_folds()
    found = out_of_fold(prepared, boosters)
    assert len(found.labels) == len(prepared.folds.judged) < prepared.development.rows
    last = prepared.folds.count - 1
    rows = prepared.folds.rows(last)
    matrix = xgboost.DMatrix(
        prepared.development.x[rows.judged], feature_types=prepared.feature_types, enable_categorical=True
    )
    assert np.array_equal(found.margins[found.folds == last], boosters[last].predict(matrix, output_margin=True))


def test_more_rows_have_more_rounds():
    """The rounds grow with the square root of the rows, and are never none."""
    assert scaled_rounds(100, 800, 800) == 100
    assert scaled_rounds(100, 400, 1600) == 200
    assert scaled_rounds(1, 800, 100) == 1
