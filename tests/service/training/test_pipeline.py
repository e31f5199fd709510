"""The whole of a search as one call: what it refuses before it touches anything."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from data.errors import ConfigError, RegistryUnavailable
from data.feature_views.point_in_time import point_in_time
from data.settings import Settings
from data.sources.atomic_output import write_table
from tests.support.training.models import card_table, write_card_table
from tests.support.training.registry import new_registry
from tests.support.training.stored_cards import stored_cards
from tune.pipeline.pipeline import learn
from tune.registry.registry import Registry
from tune.search.mlflow_runs import MlflowRuns
from tune.search.study import SearchPlan, trial_log_of


def test_second_search_is_refused_and_leaves_the_shards_of_the_first(tmp_path):
    """While one search holds the journal, another of the use case ends at once, and what the first reads stays."""
    use_case = stored_cards()
    settings = Settings(var_dir=tmp_path / "var", train_memory_mb=1)
    shard = settings.var_dir / "shards" / use_case.name / "00000-000.x.npy"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"rows")
    write_table(point_in_time(card_table(20_000), use_case).table, tmp_path / "cards.parquet")
    plan = SearchPlan(tmp_path / "cards.parquet", trials=1)
    with (
        trial_log_of(use_case, settings).held(),
        pytest.raises(ConfigError, match=r"another search writes to .*wait for its end"),
    ):
        learn(use_case, plan, settings)
    assert shard.read_bytes() == b"rows"


def absent(*_args, **_kwargs):
    """An MLflow that has gone away."""
    raise RegistryUnavailable("MLflow is gone")


@pytest.mark.ray
def test_search_that_registers_at_its_second_try_is_logged_as_it_ended(ray_cluster, tmp_path, monkeypatch, capsys):
    """Resumed with more trials, the run has the parameters of its end; registered, there is nothing to resume."""
    use_case, settings = stored_cards(), Settings(var_dir=new_registry(tmp_path / "var"))
    plan = SearchPlan(write_card_table(tmp_path / "cards.parquet", rows=2000), trials=1, concurrency=1)
    with monkeypatch.context() as patched, pytest.raises(RegistryUnavailable):
        patched.setattr(Registry, "publish", absent)
        learn(use_case, plan, settings)
    client = MlflowClient(settings.tracking_uri)
    with monkeypatch.context() as patched:
        patched.setattr(MlflowRuns, "end", absent)
        learned = learn(use_case, plan._replace(trials=3, resume=True), settings)
    run = client.get_run(learned.run_id)
    assert {name: run.data.params[name] for name in ("trials", "best_trial", "max_depth")} == {
        "trials": "3",
        "best_trial": str(learned.best.number),
        "max_depth": str(learned.best.params["max_depth"]),
    }
    assert f"registered, but run {learned.run_id} could not be ended as FINISHED" in capsys.readouterr().err
    assert [each.version for each in Registry(settings.tracking_uri, settings.artifact_dir).list(use_case.name)] == [
        "1"
    ]
    with pytest.raises(ConfigError, match="nothing to resume"):
        learn(use_case, plan._replace(trials=3, resume=True), settings)
