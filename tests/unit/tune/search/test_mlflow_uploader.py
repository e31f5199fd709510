"""The uploader and the tracker against MLflow: a local database, and a real server that is stopped and killed."""

from __future__ import annotations

import signal
from threading import Event

import pytest
from mlflow import MlflowClient

from data.errors import RegistryRefused, RegistryUnavailable
from tests.support.environment.waiting import wait_for
from tests.support.training.registry import new_registry
from tests.support.training.search import MlflowServer, trial
from tune.search import mlflow_uploader
from tune.search.mlflow_runs import MlflowRuns
from tune.search.mlflow_uploader import MlflowUploader


@pytest.fixture
def tracker(tmp_path):
    """A tracker on a local database."""
    return MlflowRuns(f"sqlite:///{new_registry(tmp_path) / 'mlflow.db'}", tmp_path / "artifacts", "cards")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real MLflow server, started anew by the tests that end it."""
    server = MlflowServer(tmp_path_factory.mktemp("server")).start()
    yield server
    server.stop()


def test_trials_are_logged_behind_the_search_s_back(tracker):
    """What was put is in MLflow when the block is left, each with its number."""
    run = tracker.start("tune", {}, "journal")
    said = []
    with MlflowUploader(tracker, run, "auc", said.append) as spool:
        spool.put([trial(0), trial(1, [0.5, 0.6])])
        spool.put([trial(4)])
        spool.drain()
    assert tracker.logged_trials(run) == {0, 1, 4}
    assert said == []


def test_trial_that_mlflow_refuses_is_named_and_the_others_logged(tracker):
    """A refusal is not tried again: it is said with the trial and the reason, and the search counts it."""
    run = tracker.start("tune", {}, "journal")
    said = []
    with MlflowUploader(tracker, run, "auc", said.append) as spool:
        spool.put([trial(0, params={"": 1}), trial(1)])
        spool.drain()
    assert tracker.logged_trials(run) == {1}
    (line,) = said
    assert line.startswith("trial 0 counts, but is not in MLflow: MLflow at sqlite")


def test_run_of_a_killed_process_ends_killed(tracker, tmp_path):
    """Runs of the journal that are still RUNNING, and trials within, end KILLED; others are left alone."""
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    left, other, ended = (tracker.start("tune", {}, owner) for owner in ("mine", "its", "mine"))
    tracker.end(ended, "FAILED")
    experiment = client.get_run(left).info.experiment_id
    half = client.create_run(experiment, tags={"mlflow.parentRunId": left}).info.run_id
    elsewhere = tracker.start("tune", {}, "host that is no more")
    assert set(tracker.kill_left_over("mine", elsewhere)) == {left, elsewhere}
    status = {run: client.get_run(run).info.status for run in (left, half, other, ended, elsewhere)}
    assert status == {left: "KILLED", half: "KILLED", other: "RUNNING", ended: "FAILED", elsewhere: "KILLED"}


def test_trial_that_mlflow_makes_after_the_end_is_not_left_running(tracker, tmp_path, monkeypatch):
    """Interrupted while MLflow is slow: the nested run that it makes later is ended by the thread that asked for it."""
    monkeypatch.setattr(mlflow_uploader, "_FAREWELL_S", 0.1)
    run, asked, answer, make = tracker.start("tune", {}), Event(), Event(), tracker._client.create_run

    def slow(*args, **kwargs):
        asked.set()
        answer.wait(60)
        return make(*args, **kwargs)

    monkeypatch.setattr(tracker._client, "create_run", slow)
    writing = MlflowUploader(tracker, run, "auc", print)
    with pytest.raises(KeyboardInterrupt), writing:
        writing.put([trial(0)])
        asked.wait(60)
        raise KeyboardInterrupt
    tracker.end(run, "KILLED")
    answer.set()
    writing._thread.join(60)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs([client.get_run(run).info.experiment_id])
    assert {(each.info.run_name, each.info.status) for each in runs} == {("tune", "KILLED"), ("trial 0", "KILLED")}


def test_trial_of_a_search_that_has_ended_is_ended_by_the_next(tracker, tmp_path):
    """A trial RUNNING below a run that is not ends KILLED, whose ever it was; one of a live search goes on."""
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    gone, alive = tracker.start("tune", {}, "its"), tracker.start("tune", {}, "another's")
    experiment = client.get_run(gone).info.experiment_id
    tracker.end(gone, "KILLED")
    late, going = (
        client.create_run(experiment, tags={"mlflow.parentRunId": parent, "rayscore.trial": "0"}).info.run_id
        for parent in (gone, alive)
    )
    assert tracker.kill_left_over("mine") == []
    assert [client.get_run(run).info.status for run in (late, going)] == ["KILLED", "RUNNING"]


def test_deleted_experiment_is_named_with_the_way_back(tracker, tmp_path):
    """An experiment in MLflow's bin takes no run: the error says how to bring it back."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name("cards").experiment_id)
    with pytest.raises(RegistryRefused, match="mlflow experiments restore"):
        MlflowRuns(uri, tmp_path / "artifacts", "cards").start("tune", {})


def test_server_that_was_killed_gets_what_it_missed(server, tmp_path):
    """Trials put while the server is dead wait for it; the first error is said, once."""
    tracker = MlflowRuns(server.uri, tmp_path, "killed")
    run, said = tracker.start("tune", {}), []
    with MlflowUploader(tracker, run, "auc", said.append) as spool:
        spool.put([trial(0)])
        wait_for(lambda: tracker.logged_trials(run) == {0}, "the first trial")
        server.stop()
        spool.put([trial(1), trial(2)])
        wait_for(lambda: bool(said), "the failure to be said")
        server.start()
        spool.drain()
    assert tracker.logged_trials(run) == {0, 1, 2}
    assert len([line for line in said if "the search goes on" in line]) == 1


def test_server_that_hangs_holds_up_nothing(server, tmp_path):
    """With the server stopped, putting returns; drained without success the first error and the way on are told."""
    tracker = MlflowRuns(server.uri, tmp_path, "stopped")
    run, said = tracker.start("tune", {}), []
    server.send(signal.SIGSTOP)
    try:
        told = pytest.raises(RegistryUnavailable, match=r"1 trials are not in MLflow.*--resume.*First error")
        with told, MlflowUploader(tracker, run, "auc", said.append) as spool:
            spool.put([trial(0)])
            spool.drain(patience_s=1)
    finally:
        server.send(signal.SIGCONT)
