"""`rayscore tune` from the command line to the registry."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pyarrow as pa
import pytest
import ray
from mlflow import MlflowClient

from data.cli.terminal import run_cli
from data.settings import load_settings
from data.sources.atomic_output import write_table
from tests.support.training.models import card_table, write_card_table
from tests.support.training.registry import new_registry
from tests.support.training.stored_cards import STORED_CARDS
from tune.__main__ import main
from tune.registry.registry import Registry
from tune.registry.traffic_rules import CHALLENGER, CHAMPION


@pytest.fixture
def var(tmp_path, monkeypatch):
    """A var folder of its own, which the settings name beside the use case."""
    monkeypatch.setenv("RAYSCORE_VAR_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("RAYSCORE_USE_CASE", str(STORED_CARDS))
    return new_registry(tmp_path / "var")


@pytest.fixture
def cards(tmp_path):
    """A small table of card transactions."""
    return write_card_table(tmp_path / "cards.parquet", rows=2000)


def tune(*argv):
    """Run the command as `rayscore tune` does and return the exit code."""
    return run_cli(main, [str(word) for word in argv])


def parents(settings):
    """Name and status of the runs that are not a trial."""
    client = MlflowClient(settings.tracking_uri)
    experiment = client.get_experiment_by_name("card_fraud")
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return [run for run in runs if "mlflow.parentRunId" not in run.data.tags]


@pytest.mark.ray
def test_search_registers_a_challenger_and_promotes_it(ray_cluster, var, cards, tmp_path, monkeypatch, capsys):
    """One command: trials, figures, plots, card, holdout, version, champion; list and show then tell of it."""
    text = STORED_CARDS.read_text()
    (tmp_path / "u.toml").write_text(text.replace("min_auc = 0.90", "min_auc = 0.60"))
    monkeypatch.setenv("RAYSCORE_USE_CASE", str(tmp_path / "u.toml"))
    assert tune("--data", cards, "--trials", 3, "--concurrency", 1, "--promote") == 0
    said = capsys.readouterr().out
    for word in ("on the holdout", "always the majority", "version 1", "mlflow ui --backend-store-uri", "passed"):
        assert word in said
    settings = load_settings()
    model = Registry(settings.tracking_uri, settings.artifact_dir).resolve("card_fraud", CHAMPION)
    assert set(model.aliases) == {CHAMPION, CHALLENGER}
    assert model.bundle.manifest.metrics["auc"] > 0.7
    client = MlflowClient(settings.tracking_uri)
    run = client.get_run(model.run_id)
    assert run.info.status == "FINISHED"
    out_of_fold = f"{run.data.metrics['out_of_fold_pr_auc']:.4f}"
    assert f"pr_auc {out_of_fold} out of fold" in said
    assert f"out of fold, which chose it, {out_of_fold}" in said
    assert run.data.metrics["holdout_auc"] == pytest.approx(model.bundle.manifest.metrics["auc"])
    folders = {
        item.path: len(client.list_artifacts(model.run_id, item.path))
        for item in client.list_artifacts(run.info.run_id)
    }
    assert folders["plots"] == 6
    assert {"bundle", "model", "holdout", "report"} <= set(folders)
    assert tune("list") == 0
    assert "champion" in capsys.readouterr().out
    assert tune("show", "challenger") == 0
    card = capsys.readouterr().out
    assert all(head in card for head in ("## Data", "## Figures on the holdout", "## Decision", "## Limits"))
    assert not (var / "tune" / "card_fraud.jsonl").exists(), "a finished search leaves no journal"


@pytest.mark.ray
def test_interrupted_search_is_killed_and_keeps_its_trials(ray_cluster, var, cards):
    """Ctrl-C: exit code 130, the run KILLED, nothing registered; the journal stays.

    That --resume then goes on in the same run is shown in `tests/service/standalone/test_killed_search.py`.
    """
    words = ["--data", str(cards), "--trials", "3000", "--concurrency", "1"]
    command = [sys.executable, "-m", "tune", *words]
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    assert any(line.startswith("trials: ") for line in iter(process.stderr.readline, ""))
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    settings = load_settings()
    (killed,) = parents(settings)
    assert killed.info.status == "KILLED"
    assert Registry(settings.tracking_uri, settings.artifact_dir).list("card_fraud") == []
    assert len((var / "tune" / "card_fraud.jsonl").read_text().splitlines()) > 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trials", "0"], "--trials 0: expected 1 or more"),
        (["--concurrency", "0"], "--concurrency 0: expected 1 or more"),
        (["--seed", "-1"], "--seed -1: expected 0 or more"),
        (["--resume"], "nothing to resume"),
        (["--use-case", "nothing"], "no use case 'nothing'"),
    ],
)
@pytest.mark.ray
def test_wrong_option_is_told(ray_cluster, var, cards, capsys, options, said):
    """A wrong option is exit code 2 with the reason, and no run is left open."""
    assert tune("--data", cards, *options) == 2
    assert said in capsys.readouterr().err
    assert parents(load_settings()) == []


def broken_tables():
    """Tables that cannot be learned from, and what is said of them."""
    whole = card_table(400)
    constant = whole.set_column(whole.column_names.index("is_fraud"), "is_fraud", pa.array([0] * 400))
    three = whole.set_column(whole.column_names.index("is_fraud"), "is_fraud", pa.array([0, 1, 2, 1] * 100))
    words = whole.set_column(whole.column_names.index("amount"), "amount", pa.array(["much"] * 400))
    labels = whole.set_column(whole.column_names.index("is_fraud"), "is_fraud", pa.array(["no", "yes"] * 200))
    return [
        (whole.drop_columns(["cardholder_age"]), "column 'cardholder_age' is missing"),
        (constant, "every row has is_fraud = 0"),
        (three, "'is_fraud' holds 0, 1, 2; expected 0 and 1, or false and true: remove the other rows"),
        (words, "broken.parquet: column 'amount' holds string, expected numbers (it is a feature of type 'number')"),
        (labels, "column 'is_fraud' holds string, expected 0 and 1, or false and true (it is the label); write 1"),
    ]


@pytest.mark.ray
@pytest.mark.parametrize(("table", "said"), broken_tables(), ids=[said for _, said in broken_tables()])
def test_table_that_cannot_be_learned_from_is_told(ray_cluster, var, tmp_path, capsys, table, said):
    """A missing column, one label, three labels, wrong types: exit code 2, the reason, nothing registered."""
    write_table(table, tmp_path / "broken.parquet")
    assert tune("--data", tmp_path / "broken.parquet") == 2
    assert said in capsys.readouterr().err
    assert parents(load_settings()) == []


@pytest.mark.ray
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("max_dpth = { low = 3, high = 9, integer = true }", "max_dpth: XGBoost has no such parameter"),
        ("max_depth = { low = 9, high = 3, integer = true }", "low 9 is above high 3"),
        ("max_depth = { low = -9, high = 3, integer = true }", "max_depth = -9: XGBoost refuses it"),
    ],
)
def test_wrong_space_is_told(ray_cluster, var, cards, tmp_path, capsys, line, said):
    """A mistake in the search space is exit code 2 with key and reason before any trial runs."""
    text = STORED_CARDS.read_text()
    (tmp_path / "u.toml").write_text(text.replace("max_depth = { low = 3, high = 9, integer = true }", line))
    assert tune("--data", cards, "--use-case", tmp_path / "u.toml") == 2
    assert said in capsys.readouterr().err
    assert parents(load_settings()) == []


@pytest.mark.ray
def test_more_trials_at_once_than_cores_is_told(ray_cluster, var, cards, capsys):
    """More trials at once than cores is exit code 2 before a run is opened; nothing is registered."""
    assert tune("--data", cards, "--trials", 2, "--concurrency", 99) == 2
    assert "--concurrency 99" in capsys.readouterr().err
    settings = load_settings()
    assert parents(settings) == []
    assert Registry(settings.tracking_uri, settings.artifact_dir).list("card_fraud") == []


def test_nothing_registered_is_said(var, capsys):
    """`list` of an empty registry says so; `show` and `promote` name what is missing and fail."""
    assert tune("list") == 0
    assert "no version of 'card_fraud' is registered" in capsys.readouterr().out
    assert tune("show", "champion") == 2
    assert tune("promote") == 2
    assert "'challenger', is not in the registry" in capsys.readouterr().err


def test_help_names_every_command(capsys):
    """--help lists the commands, and the search's own help its options."""
    commands = ("search", "list", "show", "compare", "promote")
    for words, expected in ((["--help"], commands), (["search", "-h"], ("--resume",))):
        with pytest.raises(SystemExit) as done:
            main(words)
        assert done.value.code == 0
        said = capsys.readouterr().out
        assert all(word in said for word in expected)
