"""xgboost_ray under the present XGBoost."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import ray
import xgboost
import xgboost_ray.main
from ray.util.placement_group import placement_group_table

from data.errors import DataError, TrainingFailed
from tests.support.environment.processes import cpu_ticks, workers
from tests.support.environment.waiting import wait_for
from tests.support.services.object_store import object_store
from tests.support.training.tasks import binary_task
from tune.dataset.encoded_examples import EncodedExamples
from tune.dataset.shards import Shards, write_shard
from tune.training.boosting import base_params
from tune.training.distributed import cpus_of_an_actor, fit_distributed
from tune.training.rabit_tracker import TrackerProcess

pytestmark = pytest.mark.ray

PARAMS = {**base_params(binary_task(), 1, 0), "max_depth": 4}
SAMPLED = {**PARAMS, "subsample": 0.8, "colsample_bytree": 0.7}
TYPES, TYPES_OF_SIX = "qqqqq", "qqqqqq"
ACTOR = "ray::_RemoteRayXGBoostActor.train"


@pytest.fixture(scope="module")
def bucket():
    """An S3 server."""
    with object_store() as store:
        yield store


def rows():
    """Numbers with few distinct values, so that every process proposes the same thresholds; some missing."""
    rng = np.random.default_rng(0)
    x = (np.round(rng.normal(size=(4000, 5)) * 10) / 10).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    return x, (np.nan_to_num(x[:, 0]) + rng.normal(size=4000) > 1).astype(np.uint8)


def test_two_actors_give_the_model_of_plain_xgboost(ray_cluster):
    """Two processes that share the rows: the probabilities are those of plain XGBoost."""
    x, y = rows()
    plain = xgboost.train(PARAMS, xgboost.DMatrix(x, y), 20)
    shared = fit_distributed(PARAMS, EncodedExamples(x, y), TYPES, 20, 2)
    assert shared.num_boosted_rounds() == 20
    assert shared.inplace_predict(x) == pytest.approx(plain.inplace_predict(x), abs=1e-5)


def plain(examples, types):
    """XGBoost's own matrix of the rows, with the feature types that a model notes."""
    return xgboost.QuantileDMatrix(examples.x, examples.y, feature_types=list(types))


@pytest.fixture(scope="module")
def undisturbed(ray_cluster):
    """The bytes of the model of `rows()` in memory after 20 rounds, by number of actors; of one: XGBoost alone."""

    def fitted(actors):
        x, y = rows()
        if actors == 1:
            return bytes(xgboost.train(SAMPLED, plain(EncodedExamples(x, y), TYPES), 20).save_raw())
        return bytes(fit_distributed(SAMPLED, EncodedExamples(x, y), TYPES, 20, actors).save_raw())

    return cache(fitted)


def test_refused_parameter_is_told_and_everything_left_as_it_was(ray_cluster):
    """XGBoost's reason comes back from the actor; the replaced functions are put back, and the CPUs are free again."""
    before = xgboost_ray.main._start_rabit_tracker
    with pytest.raises(TrainingFailed, match="max_depth should be greater equal to 0"):
        fit_distributed({**PARAMS, "max_depth": -3}, EncodedExamples(*rows()), TYPES, 3, 1)
    assert xgboost_ray.main._start_rabit_tracker is before
    wait_for(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"], "the CPUs to be free")


@pytest.mark.parametrize(
    ("free", "actors", "cpus"),
    [
        ([4], 1, 4),
        ([4, 4], 2, 4),
        ([1, 3], 2, 1),
        ([2, 7], 2, 3),
        ([8, 8, 2], 3, 4),
        ([5], 2, 2),
        ([1, 0], 2, 1),
        ([], 1, 1),
    ],
)
def test_actor_gets_the_cpus_that_the_nodes_have_room_for(free, actors, cpus):
    """On nodes of unequal size every actor finds a place, with as many CPUs as that leaves each."""
    assert cpus_of_an_actor(free, actors) == cpus


def test_fit_that_finds_no_place_is_told(ray_cluster, monkeypatch):
    """More actors than free CPUs: an error says what there was and what to do; nothing stays asked for."""
    # The library keeps what it has read of the environment: without this, every later fit would wait a second only.
    kept = xgboost_ray.main.ENV
    monkeypatch.setattr(kept, "PLACEMENT_GROUP_TIMEOUT_S", kept.PLACEMENT_GROUP_TIMEOUT_S)
    monkeypatch.setenv("RXGB_PLACEMENT_GROUP_TIMEOUT_S", "1")
    with pytest.raises(TrainingFailed, match=r"no place for 99 actors within 1 s: free CPUs .*--resume"):
        fit_distributed(PARAMS, EncodedExamples(*rows()), TYPES, 3, 99)
    wait_for(
        lambda: {found["state"] for found in placement_group_table().values()} <= {"REMOVED"}, "the request to be gone"
    )


def many_rows():
    """Enough rows that a round takes some time."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(100_000, 6)).astype(np.float32)
    return EncodedExamples(x, (x[:, 0] + rng.normal(size=len(x)) > 1).astype(np.uint8))


def on_disk(rows, folder):
    """The rows in three shards."""
    cuts = [0, 1000, 1500, rows.rows]
    for number in range(3):
        part = slice(cuts[number], cuts[number + 1])
        write_shard(folder, str(number), rows.x[part], rows.y[part])
    return Shards(folder, rows.features, tuple((str(i), cuts[i + 1] - cuts[i]) for i in range(3)))


@pytest.mark.parametrize("actors", [1, 2])
def test_shards_give_the_model_of_the_rows_in_memory(undisturbed, tmp_path, actors):
    """Read by path, shards over actors, rows and columns drawn: the same bytes, and those of XGBoost alone for one."""
    shards = on_disk(EncodedExamples(*rows()), tmp_path)
    assert bytes(fit_distributed(SAMPLED, shards, TYPES, 20, actors).save_raw()) == undisturbed(actors)


def test_shards_that_do_not_fit_are_trained_on_from_disk(undisturbed, tmp_path, caplog):
    """Without memory to use, the matrices go beside the shards: it is told, and the model is the same."""
    shards = on_disk(EncodedExamples(*rows()), tmp_path)
    assert bytes(fit_distributed(SAMPLED, shards, TYPES, 20, 1, usable=0.0).save_raw()) == undisturbed(1)
    assert caplog.text.count("0 MB usable: from disk (external memory)") == 1


@pytest.mark.parametrize(("actors", "usable"), [(1, 0.7), (2, 0.0)])
def test_shards_of_an_object_store_give_the_same_model(undisturbed, bucket, actors, usable):
    """Fetched by each actor from S3, into memory or, where that is not enough, to its own disk: the same bytes."""
    shards = on_disk(EncodedExamples(*rows()), Path(bucket.url("shards")))
    assert bytes(fit_distributed(SAMPLED, shards, TYPES, 20, actors, usable=usable).save_raw()) == undisturbed(actors)


@contextmanager
def killing(count, times):
    """Kill -9 one of `count` training processes that have worked for half a second, `times` times; gives their pids."""
    over, killed = threading.Event(), []

    def kill():
        while len(killed) < times and not over.wait(0.1):
            busy = [pid for pid in workers(ACTOR) if cpu_ticks(pid) > 0.5 * os.sysconf("SC_CLK_TCK")]
            if len(busy) >= count and not set(killed) & set(busy):
                os.kill(busy[0], signal.SIGKILL)
                killed.append(busy[0])

    wait_for(lambda: workers(ACTOR) == [], "the actors of another fit to be gone")
    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("actors", [1, 2])
def test_killed_actor_costs_time_and_nothing_else(ray_cluster, actors, caplog):
    """Kill -9 in the midst of the rounds: it is told, the fit starts again and ends with the same bytes, no orphan."""
    source = many_rows()
    if actors == 1:
        whole = xgboost.train(SAMPLED, plain(source, TYPES_OF_SIX), 80)
    else:
        whole = fit_distributed(SAMPLED, source, TYPES_OF_SIX, 80, actors)
    with killing(actors, times=1):
        again = fit_distributed(SAMPLED, source, TYPES_OF_SIX, 80, actors)
    assert "a process of the final fit was lost; it starts again" in caplog.text
    assert bytes(again.save_raw()) == bytes(whole.save_raw())
    wait_for(lambda: workers("ray::_RemoteRayXGBoostActor") == [], "the actors to be gone")


def test_aborted_tracker_costs_time_and_nothing_else(undisturbed, caplog, monkeypatch):
    """The process that the actors are about to connect to ends itself: told, started again, with the same bytes."""
    begin, aborted = TrackerProcess.begin, []

    def begin_and_abort(tracker, *args):
        given = begin(tracker, *args)
        if not aborted:
            os.kill(tracker.pid, signal.SIGABRT)
            aborted.append(tracker)
        return given

    monkeypatch.setattr(TrackerProcess, "begin", begin_and_abort)
    again = fit_distributed(SAMPLED, EncodedExamples(*rows()), TYPES, 20, 2)
    assert "a process of the final fit was lost; it starts again" in caplog.text
    assert bytes(again.save_raw()) == undisturbed(2)


def test_actor_that_is_lost_again_and_again_is_told(ray_cluster):
    """After three tries the fit is given up with an error, and nothing of it is left."""
    failed = pytest.raises(TrainingFailed, match="the final fit on 1 actors failed")
    with killing(1, times=99) as killed, failed:
        fit_distributed(SAMPLED, many_rows(), TYPES_OF_SIX, 500, 1)
    assert len(killed) == 3
    wait_for(lambda: workers("ray::_RemoteRayXGBoostActor") == [], "the actors to be gone")


def test_shard_that_an_actor_cannot_see_is_told(ray_cluster, tmp_path):
    """A folder that only the driver sees is named, with what to do, and nothing is tried again."""
    shards = on_disk(EncodedExamples(*rows()), tmp_path)
    with pytest.raises(DataError, match="RAYSCORE_SHARDS_DIR must name a URL, or a folder that all of them share"):
        fit_distributed(PARAMS, shards._replace(folder=tmp_path / "elsewhere"), TYPES, 5, 1)
