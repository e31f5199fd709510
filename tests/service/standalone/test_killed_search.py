"""A search that is killed, on real processes: nothing is lost, nothing is left."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support.environment.waiting import wait_for
from tests.support.services.application import Workplace
from tests.support.training.models import write_card_table
from tests.support.training.registry import new_registry
from tests.support.training.stored_cards import stored_cards
from tune.dataset.encoded_examples import prepare
from tune.dataset.training_table import load_training_table
from tune.search.asha import climb
from tune.search.sampler import Sampler, SamplerName
from tune.search.trial import Trial
from tune.search.trial_scheduler import TrialScheduler
from tune.tasks.kinds import learning_task
from tune.training.boosting import Boosting, base_params
from tune.training.fold_matrices import fold_matrices

TRIALS = 16


def unbroken(table: Path) -> list[Trial]:
    """The trials of an undisturbed search with seed 0 and one trial at a time, without Ray."""
    use_case = stored_cards()
    prepared, search, found = prepare(load_training_table(table, use_case), use_case), use_case.search, []
    learning = learning_task(use_case)
    folds = fold_matrices(prepared.development, prepared.folds, prepared.feature_types, 1)
    schedule = TrialScheduler(Sampler(SamplerName.TPE, search.space, 0), search.max_rounds, TRIALS, 1, [])
    while (planned := schedule.plan()) is not None:
        params = {**base_params(learning, 1, 0), **planned.params}
        fit = Boosting(params, learning, folds, search.max_rounds, search.early_stopping_rounds)
        stopped = climb(fit, planned.bars)
        found.append(
            Trial(
                number=planned.number,
                params=planned.params,
                history=fit.history,
                losses=fit.losses,
                seconds=0,
                stopped_early=stopped,
            )
        )
        schedule.end(found[-1])
    return found


def logged(place: Workplace) -> tuple[list[str], dict[int, tuple[dict[str, str], float]]]:
    """Status of the parent runs; parameters and best metric of the finished trials by number."""
    client = MlflowClient(place.settings.tracking_uri)
    experiment = client.get_experiment_by_name("card_fraud")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [run.info.status for run in runs if "mlflow.parentRunId" not in run.data.tags]
    trials = {
        int(run.data.tags["rayscore.trial"]): (run.data.params, run.data.metrics["best_pr_auc"])
        for run in runs
        if "mlflow.parentRunId" in run.data.tags and run.info.status == "FINISHED"
    }
    return parents, trials


@pytest.mark.ray
def test_killed_driver_leaves_no_process_and_resumes_to_the_same_end(tmp_path: Path) -> None:
    """kill -9 in the middle of a search: no orphan; --resume keeps what was finished and ends as an unbroken search."""
    place = Workplace(tmp_path)
    new_registry(place.var)
    table = write_card_table(tmp_path / "card.parquet", rows=2000)
    journal = place.var / "tune" / "card_fraud.jsonl"
    command = [sys.executable, "-m", "tune", "--data", str(table), "--concurrency", "1"]

    with place.running(*command, "--trials", "5000") as child:
        wait_for(lambda: journal.is_file() and len(journal.read_text().splitlines()) > 8, "eight trials", 300)
        child.send_signal(signal.SIGKILL)
        child.wait(60)
    wait_for(lambda: not place.processes(), "every process of the killed search to be gone")
    kept = [json.loads(line) for line in journal.read_text().splitlines()[1:]][:TRIALS]
    assert logged(place)[0] == ["RUNNING"]

    with place.running(*command, "--trials", str(TRIALS), "--resume") as child:
        child.wait(600)
    log = place.log()
    assert child.returncode == 0, log
    assert "was left by a process that is gone: it is KILLED now" in log
    assert f"resuming: {len(kept)} of {TRIALS} trials are done" in log
    parents, trials = logged(place)
    assert parents == ["FINISHED"]
    expected = unbroken(table)
    assert [each["params"] for each in kept] == [each.params for each in expected[: len(kept)]]
    assert {number: params for number, (params, _) in trials.items() if number < TRIALS} == {
        each.number: {name: str(value) for name, value in each.params.items()} for each in expected
    }
    assert [trials[each.number][1] for each in expected] == pytest.approx([each.score for each in expected])


def test_unknown_name_in_the_search_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    """A sampler that there is not ends the command at once, with those there are."""
    done = Workplace(tmp_path).run("tune", "--data", "card.parquet", "--sampler", "grid")
    assert done.returncode == 2
    assert "tpe" in done.stderr
    assert "random" in done.stderr
