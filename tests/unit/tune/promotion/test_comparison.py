"""Comparing two runs or versions on a real local MLflow."""

from __future__ import annotations

import pytest
from matplotlib.image import imread

from data.cli.terminal import run_cli
from data.errors import ModelNotFound
from data.sources.atomic_output import write_table
from tests.support.training.models import card_bundle, card_table, train_bundle
from tests.support.training.registry import new_registry
from tests.support.training.stored_cards import STORED_CARDS, stored_cards
from tests.support.training.tasks import binary_task
from tune.__main__ import main
from tune.promotion.comparison import compare, figure_rows, parameter_rows
from tune.promotion.gates import score_measured
from tune.registry.registry import HOLDOUT_FOLDER, Registry
from tune.search.mlflow_runs import MlflowRuns

USE_CASE = stored_cards()
HOLDOUT = card_table(rows=1500, seed=99)
OMITTED = "cardholder_age"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A var folder whose MLflow has a good model, a stump on the same rows, and others on other rows or columns."""
    var = new_registry(tmp_path_factory.mktemp("var"))
    where = f"sqlite:///{var}/mlflow.db", var / "mlartifacts"
    tracker, registry = MlflowRuns(*where, "card_fraud"), Registry(*where)
    weak = train_bundle(card_table(), USE_CASE, rounds=1, max_depth=1)
    declared = stored_cards()
    features = {name: each for name, each in declared.features.items() if name != OMITTED}
    ageless = train_bundle(card_table(), declared.model_copy(update={"features": features}))
    elsewhere = card_table(rows=1500, seed=98)
    for bundle, data, rows in (
        (card_bundle(), "aa", HOLDOUT),
        (weak, "aa", HOLDOUT),
        (weak, "bb", elsewhere),
        (weak, "aa", HOLDOUT.slice(5)),
        (ageless, "cc", HOLDOUT.drop_columns([OMITTED])),
        (ageless, "dd", elsewhere.drop_columns([OMITTED])),
        (weak, "aa", HOLDOUT),
    ):
        run_id = tracker.start(
            "run", {"data_fingerprint": data, "max_depth": 6 if bundle is not weak else 1, "seed": 0}
        )
        found = binary_task().evaluate(rows.column("is_fraud").to_numpy(), score_measured(bundle, rows))
        logged = {f"holdout_{name}": value for name, value in found.metrics.items()}
        for name, (low, high) in found.intervals.items():
            logged |= {f"holdout_{name}_low": low, f"holdout_{name}_high": high}
        tracker.log_metrics(run_id, logged)
        write_table(rows, var / "holdout" / "holdout.parquet")
        tracker.log_folder(run_id, var / "holdout", HOLDOUT_FOLDER)
        registry.publish(bundle, run_id)
    return var


@pytest.fixture
def registry(place):
    """That registry."""
    return Registry(f"sqlite:///{place}/mlflow.db", place / "mlartifacts")


def test_better_version_is_told_on_the_same_rows(registry):
    """Same data, same holdout: a paired difference for every metric, and the good model is better."""
    found = compare(registry, USE_CASE, "1", "2")
    assert found.shared is not None
    assert {name: each.verdict for name, each in found.shared.differences.items()} == dict.fromkeys(
        ("auc", "pr_auc", "f1"), "better"
    )
    name, mine, theirs, difference = figure_rows(found)[0]
    assert (name, mine[:4] > theirs[:4], difference.endswith("better")) == ("auc", True, True)
    assert " to " in mine


def test_parameters_that_differ_come_first(registry):
    """The table of parameters begins with what was done differently."""
    assert parameter_rows(compare(registry, USE_CASE, "1", "2"))[0] == ("max_depth", "6", "1")


def test_run_and_alias_stand_for_their_version(registry):
    """A run's id, a version and an alias of one model are the same contender."""
    version = registry.version("card_fraud", "7")
    found = compare(registry, USE_CASE, version.run_id, "challenger")
    assert found.one.run_id == found.other.run_id
    assert found.shared is not None
    assert found.shared.differences["auc"] == (0.0, 0.0, 0.0)


def test_feature_sets_of_one_table_are_compared(registry):
    """A model that reads a column less was judged on the same rows: each scores them with the columns it knows."""
    found = compare(registry, USE_CASE, "1", "5")
    assert (found.reason, found.shared is None) == ("", False)
    back = compare(registry, USE_CASE, "5", "1")
    assert found.shared is not None
    assert back.shared is not None
    assert back.shared.differences["auc"].value == pytest.approx(-found.shared.differences["auc"].value)
    assert found.shared.differences["auc"].value != 0


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ("3", "they learned from different data"),
        ("4", "split differently"),
        ("6", r"different rows, by the columns that both read (only version 1 read cardholder_age): another table"),
    ],
)
def test_figures_of_other_rows_are_not_subtracted(registry, other, reason):
    """Other data, or another split of the same: the figures are shown, no difference is claimed, and why."""
    found = compare(registry, USE_CASE, "1", other)
    assert found.shared is None
    assert reason in found.reason
    assert all(row[3] == "" for row in figure_rows(found))


def test_run_without_a_model_is_compared_by_what_it_has(registry, place):
    """A run that failed has parameters, and is said to have come to no model."""
    run_id = MlflowRuns(f"sqlite:///{place}/mlflow.db", place / "mlartifacts", "card_fraud").start(
        "failed", {"seed": 7}
    )
    found = compare(registry, USE_CASE, "1", run_id)
    assert (found.shared, found.reason) == (None, f"run {run_id[:8]} came to no model")
    assert ("seed", "0", "7") in parameter_rows(found)


@pytest.mark.parametrize("unknown", ["9", "canary", "0" * 32])
def test_unknown_side_is_told(registry, unknown):
    """A version, alias or run that is not there is named."""
    with pytest.raises(ModelNotFound, match=unknown):
        compare(registry, USE_CASE, "1", unknown)


def test_command_prints_tables_and_writes_the_picture(place, tmp_path, monkeypatch, capsys):
    """`compare` shows parameters, figures and differences, and writes a PNG; another ending is refused."""
    monkeypatch.setenv("RAYSCORE_VAR_DIR", str(place))
    monkeypatch.setenv("RAYSCORE_USE_CASE", str(STORED_CARDS))
    picture = tmp_path / "both.png"
    assert run_cli(main, ["compare", "1", "2", "--plot", str(picture)]) == 0
    said = capsys.readouterr().out
    for word in ("parameter", "paired difference", "better", "version 1 minus version 2 on the same rows"):
        assert word in said
    assert imread(picture).shape[1] > 800
    assert run_cli(main, ["compare", "1", "3", "--plot", str(picture)]) == 0
    assert "no paired difference: they learned from different data" in capsys.readouterr().out
    assert imread(picture).shape[1] < 800
    assert run_cli(main, ["compare", "1", "2", "--plot", "both.gif"]) == 2
    assert "must end in .png" in capsys.readouterr().err
