"""The registry on a real local MLflow."""

from __future__ import annotations

import mlflow.pyfunc
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR

from data.errors import BundleError, ModelNotFound, RegistryUnavailable
from data.transform.encoding import Transform
from tests.support.training.models import card_bundle, card_table
from tests.support.training.registry import new_registry
from tune.registry.bundle import Bundle
from tune.registry.registry import BUNDLE_FOLDER, Registry
from tune.registry.traffic_rules import CHALLENGER, CHAMPION
from tune.search.mlflow_runs import MlflowRuns
from tune.search.trial import Trial
from tune.training.onnx_export import OnnxScorer


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A local MLflow: its address and artifact folder."""
    folder = new_registry(tmp_path_factory.mktemp("mlflow"))
    return f"sqlite:///{folder}/mlflow.db", folder / "artifacts"


@pytest.fixture(scope="module")
def registry(place):
    """A registry with two versions, the first of them champion."""
    tracker, registry = MlflowRuns(*place, "card_fraud"), Registry(*place)
    for number in (1, 2):
        run_id = tracker.start(f"run {number}", {"trials": 1})
        registry.publish(card_bundle(), run_id)
        tracker.end(run_id, "FINISHED")
    registry.set_alias("card_fraud", CHAMPION, "1")
    return registry


def test_published_bundle_is_resolved_by_version_and_alias(registry):
    """Publishing moves `challenger` to the newest version and leaves `champion` alone."""
    champion = registry.resolve("card_fraud", CHAMPION)
    challenger = registry.resolve("card_fraud", CHALLENGER)
    assert (champion.version, champion.aliases) == ("1", (CHAMPION,))
    assert (challenger.version, challenger.aliases) == ("2", (CHALLENGER,))
    assert champion.bundle == registry.resolve("card_fraud", "1").bundle == card_bundle()


def test_versions_are_listed_newest_first_with_figures(registry):
    """The list shows versions, aliases and the figures of the holdout."""
    listed = registry.list("card_fraud")
    assert [(each.version, each.aliases) for each in listed] == [("2", (CHALLENGER,)), ("1", (CHAMPION,))]
    assert float(listed[0].tags["auc"]) == pytest.approx(card_bundle().manifest.metrics["auc"], rel=1e-4)
    assert registry.list("unknown") == []


def test_mlflow_itself_loads_the_model(registry, place):
    """`models:/card_fraud@champion` is an ordinary MLflow model, which takes a raw table and answers as the bundle."""
    mlflow.set_tracking_uri(place[0])
    bundle, table = card_bundle(), card_table(50)
    model = mlflow.pyfunc.load_model("models:/card_fraud@champion")
    scores = OnnxScorer(bundle.onnx).scores(Transform(bundle.manifest.schema_).matrix(table))[:, 0]
    assert model.predict(table.to_pandas())["probability"].tolist() == scores.tolist()


@pytest.mark.parametrize(
    ("name", "which"), [("card_fraud", "9"), ("card_fraud", "canary"), ("nothing", "1"), ("nothing", CHAMPION)]
)
def test_unknown_model_version_or_alias_is_told(registry, name, which):
    """What is not there is named, with the registry that was asked."""
    with pytest.raises(ModelNotFound, match=f"model '{name}', version or alias '{which}'.* sqlite:"):
        registry.resolve(name, which)


def test_lost_artifacts_are_told(place):
    """A version whose files are gone is an error of ours, not a stack trace."""
    tracker, registry = MlflowRuns(*place, "card_fraud"), Registry(*place)
    version = registry.publish(card_bundle(), tracker.start("lost", {}))
    run_id = registry.version("card_fraud", version).run_id
    for file in place[1].glob(f"card_fraud/{run_id}/artifacts/{BUNDLE_FOLDER}/*"):
        file.unlink()
    with pytest.raises((BundleError, ModelNotFound)):
        registry.resolve("card_fraud", version)


def refusing(*_args, **_kwargs):
    """What MLflow does when its alias table cannot be written."""
    raise MlflowException("gateway timeout", error_code=INTERNAL_ERROR)


def test_version_that_gets_no_alias_is_not_left(tmp_path, monkeypatch):
    """When the alias fails nothing is registered; published again, the run has one version with the alias."""
    place = f"sqlite:///{new_registry(tmp_path)}/mlflow.db", tmp_path / "artifacts"
    registry, run_id = Registry(*place), MlflowRuns(*place, "card_fraud").start("half", {})
    with monkeypatch.context() as patched:
        patched.setattr(registry._client, "set_registered_model_alias", refusing)
        with pytest.raises(RegistryUnavailable, match="gateway timeout"):
            registry.publish(card_bundle(), run_id)
    assert registry.list("card_fraud") == []
    registry.publish(card_bundle(), run_id)
    assert [each.aliases for each in registry.list("card_fraud")] == [(CHALLENGER,)]


def test_version_that_could_not_be_deleted_is_used_by_the_next_try(tmp_path, monkeypatch):
    """A version that stays because MLflow is gone is the one that the run has when it is published again."""
    place = f"sqlite:///{new_registry(tmp_path)}/mlflow.db", tmp_path / "artifacts"
    registry, run_id = Registry(*place), MlflowRuns(*place, "card_fraud").start("half", {})
    with monkeypatch.context() as patched:
        for name in ("set_registered_model_alias", "delete_model_version"):
            patched.setattr(registry._client, name, refusing)
        with pytest.raises(RegistryUnavailable):
            registry.publish(card_bundle(), run_id)
    (left,) = registry.list("card_fraud")
    assert left.aliases == ()
    better = {"auc": 0.75}
    bundle = card_bundle()
    again = Bundle(
        bundle.manifest.model_copy(update={"metrics": better}),
        bundle.onnx,
        bundle.booster,
        bundle.measured,
        bundle.card,
    )
    assert registry.publish(again, run_id) == left.version
    (found,) = registry.list("card_fraud")
    assert (found.aliases, found.tags["auc"]) == ((CHALLENGER,), "0.75")


def test_server_that_is_down_is_told_quickly():
    """Nothing listens on the port: the error names the address and the setting."""
    registry = Registry("http://127.0.0.1:9", "unused")
    with pytest.raises(
        RegistryUnavailable,
        match=r"http://127.0.0.1:9 failed: no answer.*_TRACKING_URI.*[Cc]onnection",
    ):
        registry.resolve("card_fraud", CHAMPION)


def test_database_that_cannot_be_opened_is_told(tmp_path):
    """A file that is no database is named."""
    (tmp_path / "mlflow.db").write_text("this is not SQLite, but long enough to look at" * 50)
    with pytest.raises(RegistryUnavailable, match=r"mlflow\.db"):
        Registry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path).resolve("a", "1")


def test_trials_are_runs_nested_in_the_search(place):
    """A trial is logged with parameters and the metric of every round, also beyond one request's worth."""
    tracker = MlflowRuns(*place, "trials")
    parent = tracker.start("search", {"trials": 2})
    history = [0.1 + number / 5000 for number in range(1300)]
    trial = Trial(
        number=4, params={"max_depth": 3}, history=history, losses=history[::-1], seconds=0.5, stopped_early=True
    )
    tracker.log_trial(parent, "auc", trial)
    tracker.end(parent, "KILLED")
    client = mlflow.MlflowClient(place[0])
    experiment = client.get_experiment_by_name("trials").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    nested = runs["trial 4"]
    assert runs["search"].info.status == "KILLED"
    assert nested.data.tags["mlflow.parentRunId"] == parent
    assert nested.data.params == {"max_depth": "3"}
    logged = client.get_metric_history(nested.info.run_id, "auc")
    assert sorted(metric.step for metric in logged) == list(range(1, 1301))
    tracker.reopen(parent)
    assert client.get_run(parent).info.status == "RUNNING"
