"""xgboost_ray under the present XGBoost."""

from __future__ import annotations

import numpy as np
import pytest
import ray
import xgboost
import xgboost_ray.main

from data.errors import TrainingFailed
from data.usecase import Metric
from tests.support_app import wait_for
from tune.distributed import fit_distributed
from tune.examples import Examples
from tune.train import base_params

pytestmark = pytest.mark.ray

PARAMS = {**base_params(Metric.PR_AUC, 1, 0), "max_depth": 4}


def rows():
    """Numbers with few distinct values, so that every process proposes the same thresholds; some missing."""
    rng = np.random.default_rng(0)
    x = (np.round(rng.normal(size=(4000, 5)) * 10) / 10).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    return x, (np.nan_to_num(x[:, 0]) + rng.normal(size=4000) > 1).astype(np.uint8)


@pytest.mark.parametrize("actors", [1, 2])
def test_model_equals_plain_xgboost(ray_cluster, actors):
    """One process or two that share the rows: the probabilities are those of plain XGBoost."""
    x, y = rows()
    plain = xgboost.train(PARAMS, xgboost.DMatrix(x, y), 20)
    shared = fit_distributed(PARAMS, Examples(x, y), 20, actors)
    assert shared.num_boosted_rounds() == 20
    assert shared.inplace_predict(x) == pytest.approx(plain.inplace_predict(x), abs=1e-5)


def test_refused_parameter_is_told_and_the_library_left_as_it_was(ray_cluster):
    """XGBoost's reason comes back from the actor, and the replaced functions are put back."""
    before = xgboost_ray.main._start_rabit_tracker
    with pytest.raises(TrainingFailed, match="max_depth should be greater equal to 0"):
        fit_distributed({**PARAMS, "max_depth": -3}, Examples(*rows()), 3, 1)
    assert xgboost_ray.main._start_rabit_tracker is before


def test_failed_fit_gives_the_cluster_its_cpus_back(ray_cluster):
    """What a failed fit had reserved is free again, so that the next search on the cluster can start."""
    with pytest.raises(TrainingFailed):
        fit_distributed({**PARAMS, "max_depth": -3}, Examples(*rows()), 3, 1)
    wait_for(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"], "the CPUs to be free")
