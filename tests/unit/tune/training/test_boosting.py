"""Boosting round by round, and the search space."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost
from sklearn.metrics import f1_score

from data.errors import ConfigError
from data.schema.search import Metric, Range, Search
from data.schema.task import Binary
from tests.support.training.tasks import binary_task
from tune.search.space import check_space
from tune.training.boosting import Boosting, Fold, base_params, best_round, fit


def matrices():
    """One fold: rows to learn from and to be judged on, with something to learn."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 4)).astype(np.float32)
    y = (x[:, 0] + rng.normal(size=1200) > 1).astype(np.uint8)
    return Fold(xgboost.DMatrix(x[:800], y[:800]), xgboost.DMatrix(x[800:], y[800:]))


@pytest.mark.parametrize("metric", Binary().metrics)
def test_steps_equal_one_go_and_xgboost_itself(metric):
    """Boosting in steps of seven gives the model that one go and xgboost.train give."""
    fold = matrices()
    params = {**base_params(binary_task(metric), 1, 3), "subsample": 0.7}
    whole = fit(params, binary_task(metric), [fold], 40, 40)
    stepped = Boosting(params, binary_task(metric), [fold], 40, 40)
    while not stepped.finished:
        stepped.advance(7)
    plain = xgboost.train(params, fold.learned, whole.rounds)
    assert stepped.result().history == whole.history
    assert (whole.boosters[0].predict(fold.judged) == plain.predict(fold.judged)).all()


def test_folds_end_together_at_the_best_round_of_their_mean_loss():
    """Metric and loss of a round are the mean over the folds by their judged rows, and all are cut to one round."""
    fold = matrices()
    small = Fold(fold.judged, fold.learned)
    params = {**base_params(binary_task(Metric.AUC), 1, 0), "learning_rate": 0.5}
    alone = [fit(params, binary_task(Metric.AUC), [each], 30, 30) for each in (fold, small)]
    both = fit(params, binary_task(Metric.AUC), [fold, small], 30, 30)
    losses = np.average([each.losses for each in alone], axis=0, weights=[400, 800])
    assert both.losses == pytest.approx(losses.tolist())
    assert both.history == pytest.approx(np.average([f.history for f in alone], axis=0, weights=[400, 800]).tolist())
    assert [each.num_boosted_rounds() for each in both.boosters] == [int(np.argmin(losses)) + 1] * 2


def test_booster_is_cut_to_the_best_round():
    """Rounds after the best one end the fit after the patience and are not in the booster."""
    params = {**base_params(binary_task(Metric.AUC), 1, 0), "learning_rate": 0.5}
    result = fit(params, binary_task(Metric.AUC), [matrices()], 200, 5)
    assert result.boosters[0].num_boosted_rounds() == result.rounds < 200
    assert len(result.history) == result.rounds + 5
    assert result.losses[result.rounds - 1] == min(result.losses)
    assert result.score == result.history[result.rounds - 1]


def test_best_round_has_the_smallest_loss():
    """The first of equal ones is best."""
    assert best_round([0.4, 0.5, 0.2, 0.2]) == 2


@pytest.mark.parametrize("positives_first", [True, False])
def test_f1_of_rows_that_score_alike_does_not_depend_on_their_order(positives_first):
    """A model that tells no row from another has the F1 of marking them all, whichever rows come first."""
    y = np.sort((np.arange(1000) < 20).astype(np.uint8))[:: -1 if positives_first else 1]
    matrix = xgboost.DMatrix(np.zeros((1000, 1), np.float32), y)
    found = fit(base_params(binary_task(Metric.F1), 1, 0), binary_task(Metric.F1), [Fold(matrix, matrix)], 2, 2)
    assert found.history == pytest.approx([2 * 20 / (20 + 1000)] * 2, abs=1e-6)


def test_f1_of_a_round_is_that_of_its_best_threshold():
    """The metric of a round equals scikit-learn's F1 at the best of the distinct scores; shallow trees score alike."""
    fold = matrices()
    found = fit({**base_params(binary_task(Metric.F1), 1, 0), "max_depth": 1}, binary_task(Metric.F1), [fold], 3, 3)
    scores, labels = found.boosters[0].predict(fold.judged), fold.judged.get_label()
    assert len(np.unique(scores)) < 20
    assert found.score == pytest.approx(max(f1_score(labels, scores >= score) for score in np.unique(scores)), abs=1e-6)


def test_refused_parameter_is_named():
    """What XGBoost refuses becomes an error with its reason and without a C++ stack."""
    with pytest.raises(ConfigError, match="max_depth") as caught:
        fit(
            {**base_params(binary_task(Metric.AUC), 1, 0), "max_depth": -3}, binary_task(Metric.AUC), [matrices()], 5, 5
        )
    assert "Stack trace" not in str(caught.value)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"max_dpth": Range(low=1, high=2)}, "max_dpth: XGBoost has no such parameter"),
        ({"subsample": Range(low=0.5, high=3)}, r"subsample = 3.0: XGBoost refuses it: .*exceed bound \[0,1\]"),
        ({"max_depth": Range(low=3, high=6)}, "integer = true"),
        ({"objective": Range(choices=("reg:squarederror",))}, "objective: is set by rayscore"),
        ({"booster": Range(choices=("dart",))}, "booster: is set by rayscore"),
    ],
)
def test_space_that_xgboost_would_not_take_is_refused(space, said):
    """A mistake in the space is found before anything runs, with the key and the reason."""
    with pytest.raises(ConfigError, match=said):
        check_space(Search(space=space), binary_task(), 2)


def test_default_space_is_accepted():
    """The space that a use case gets without declaring one passes its own check."""
    check_space(Search(), binary_task(), 2)
