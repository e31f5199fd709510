"""The search on a real Ray cluster."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

import pytest

from data.errors import ConfigError, TrainingFailed
from data.schema.search import Range
from tests.support.environment.processes import workers
from tests.support.training.models import card_table
from tests.support.training.search import DECLARED, trial
from tests.support.training.stored_cards import stored_cards
from tests.support.training.tasks import binary_task
from tune.dataset.encoded_examples import prepare
from tune.dataset.training_table import TrainingTable, fingerprint
from tune.search.ray_tune import SearchJob, Workers, plan_workers, search
from tune.search.sampler import Sampler, SamplerName
from tune.search.trial import best_trial
from tune.search.trial_scheduler import TrialScheduler


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Encoded card transactions."""
    table = card_table(2000)
    labels = table.column("is_fraud").to_numpy().astype("uint8")
    path = tmp_path_factory.mktemp("data")
    return prepare(TrainingTable(table, labels, path, fingerprint(table)), stored_cards())


ONE = Workers(1, 1)


def run(prepared, finished, scratch, trials=14, workers=ONE, sampler=SamplerName.TPE, on_trial=None, declared=DECLARED):
    """Search, and return the trials in the order of finishing and what was said."""
    found, said = [], []
    schedule = TrialScheduler(Sampler(sampler, declared.space, 1), declared.max_rounds, trials, workers.lag, finished)
    job = SearchJob(declared, binary_task(), prepared.development, prepared.folds, prepared.feature_types, 1)

    def hand_in(trial):
        found.append(trial)
        if on_trial:
            on_trial(trial)

    search(job, schedule, workers, hand_in, said.append, scratch / "ray")
    assert list(scratch.iterdir()) == [], "Ray Tune's own files are removed"
    return found, said


def kill(pids):
    """kill -9 each that is still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


@pytest.fixture(scope="module")
def undisturbed(ray_cluster, prepared, tmp_path_factory):
    """Fourteen trials of TPE, one after the other, in one go."""
    trials, _ = run(prepared, [], tmp_path_factory.mktemp("undisturbed"))
    return trials


def outcomes(trials):
    """Everything of trials but how long they took, by number."""
    return [each.model_dump(exclude={"seconds"}) for each in sorted(trials, key=lambda each: each.number)]


@pytest.mark.ray
def test_resumed_search_ends_as_an_unbroken_one(undisturbed, prepared, tmp_path):
    """Going on after twelve of fourteen, when TPE has begun to learn, gives the same trials and the same best."""
    assert [each.number for each in undisturbed] == list(range(14))
    assert any(each.stopped_early for each in undisturbed)
    rest, _ = run(prepared, undisturbed[:12], tmp_path)
    assert outcomes([*undisturbed[:12], *rest]) == outcomes(undisturbed)
    assert best_trial([*undisturbed[:12], *rest]) == best_trial(undisturbed)


@pytest.mark.ray
def test_two_at_once_give_the_same_trials_whoever_is_faster(ray_cluster, prepared, tmp_path):
    """With two workers trials are planned by number: a search, and one resumed with a hole, have the same trials."""
    two = Workers(2, 1)
    whole, _ = run(prepared, [], tmp_path, workers=two)
    kept = [each for each in whole if each.number in (0, 1, 2, 4)]
    rest, _ = run(prepared, kept, tmp_path, workers=two)
    assert outcomes([*kept, *rest]) == outcomes(whole)


@pytest.mark.ray
def test_trial_of_a_killed_worker_is_run_again(undisturbed, prepared, tmp_path):
    """kill -9 of the worker between two trials: said, run again, and the trials are those of an undisturbed search."""
    killed = []

    def kill_worker(trial):
        if trial.number == 2:
            killed.extend(kill(workers("ray::_XGBoostTrial")))

    found, said = run(prepared, [], tmp_path, on_trial=kill_worker)
    assert killed
    assert outcomes(found) == outcomes(undisturbed)
    assert said == ["trial 3: its worker died; the trial is run again"]


@pytest.mark.ray
def test_trial_whose_worker_always_dies_ends_the_search(ray_cluster, prepared, tmp_path):
    """kill -9 in the middle of a trial, each time it is begun: the search names the trial and what to look for."""
    over, long = threading.Event(), DECLARED.model_copy(update={"max_rounds": 10_000, "early_stopping_rounds": 10_000})

    def kill_each() -> None:
        while not over.wait(0.1):
            kill(workers("ray::ResourceTrainable.train"))

    killer = threading.Thread(target=kill_each)
    killer.start()
    try:
        with pytest.raises(TrainingFailed, match="trial 0 was begun 4 times and its worker died each time"):
            run(prepared, [], tmp_path, sampler=SamplerName.RANDOM, declared=long)
    finally:
        over.set()
        killer.join()


@pytest.mark.ray
def test_interrupt_hands_over_what_is_finished(ray_cluster, prepared, tmp_path):
    """Ctrl-C ends the search with KeyboardInterrupt, after whole trials."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seen = []

    def interrupt(trial):
        seen.append(trial.number)
        if trial.number == 2:
            threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        run(prepared, [], tmp_path, trials=5000, sampler=SamplerName.RANDOM, on_trial=interrupt)
    assert seen == list(range(len(seen)))


@pytest.mark.ray
def test_what_the_caller_raises_ends_the_search(ray_cluster, prepared, tmp_path):
    """An error of the journal is not swallowed with the trial by Ray Tune."""

    def full(trial):
        raise TrainingFailed("no space")

    with pytest.raises(TrainingFailed, match="no space"):
        run(prepared, [], tmp_path, trials=5000, sampler=SamplerName.RANDOM, on_trial=full)


@pytest.mark.ray
def test_parameters_that_fail_in_a_trial_name_it(ray_cluster, prepared, tmp_path):
    """What XGBoost refuses in a trial is told with the trial and XGBoost's reason, without trying again."""
    declared = DECLARED.model_copy(update={"space": {"max_depth": Range(choices=(-3,))}})
    with pytest.raises(ConfigError, match="trial 0: XGBoost refuses the parameters"):
        run(prepared, [], tmp_path, sampler=SamplerName.RANDOM, declared=declared)


@pytest.mark.ray
def test_finished_search_runs_nothing(ray_cluster, prepared, tmp_path):
    """With all trials done there is nothing to run."""
    assert run(prepared, [trial(0)], tmp_path, trials=1) == ([], [])


def test_workers_share_the_cores_by_rows():
    """Small tables get one worker with one thread; more rows more threads, then more workers; never more than cores."""
    assert plan_workers(8, 6_000, 20, None) == (1, 1)
    assert plan_workers(8, 250_000, 20, None) == (1, 2)
    assert plan_workers(8, 5_000_000, 20, None) == (8, 1)
    assert plan_workers(8, 5_000_000, 3, None) == (3, 2)
    assert plan_workers(8, 5_000_000, 20, 2) == (2, 4)
    with pytest.raises(ConfigError, match="--concurrency 9: the cluster has 8 free CPUs"):
        plan_workers(8, 6_000, 20, 9)
    with pytest.raises(ConfigError, match="no free CPU"):
        plan_workers(0, 6_000, 20, None)
