"""Honest quality from the command line: the same model again, leaks said aloud, nothing registered half."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from mlflow import MlflowClient

from data.cli.terminal import run_cli
from data.schema.model_policy import Calibration
from data.settings import load_settings
from data.sources.atomic_output import write_table
from data.transform.encoding import Transform
from ray_app.inference.models.onnx_model import OnnxModel
from tests.support.training.models import card_table
from tests.support.training.registry import new_registry
from tests.support.training.stored_cards import STORED_CARDS
from tune.__main__ import main
from tune.registry.registry import Registry

pytestmark = pytest.mark.ray

TOP = 'calibration = "isotonic"\n'
DECISION = "[decision]\ncost = { false_positive = 1, false_negative = 20 }\n"


@pytest.fixture
def case(tmp_path, monkeypatch):
    """The card use case with calibration and cost, in a var folder of its own."""
    monkeypatch.setenv("RAYSCORE_VAR_DIR", str(tmp_path / "var"))
    new_registry(tmp_path / "var")
    text = STORED_CARDS.read_text()
    text = text.replace("[entity]", f"{TOP}\n[entity]").replace("[features]", f"{DECISION}\n[features]")
    (tmp_path / "case.toml").write_text(text)
    return tmp_path / "case.toml"


def search(case, table, *options):
    """Search on a table and return the exit code."""
    write_table(table, case.parent / "table.parquet")
    words = ["--use-case", case, "--data", case.parent / "table.parquet", "--trials", 2, "--concurrency", 1, *options]
    return run_cli(main, [str(word) for word in words])


def registry():
    """The registry of the var folder."""
    settings = load_settings()
    return Registry(settings.tracking_uri, settings.artifact_dir)


def statuses():
    """Status of every run that is not a trial, newest first."""
    client = MlflowClient(load_settings().tracking_uri)
    runs = client.search_runs([client.get_experiment_by_name("card_fraud").experiment_id])
    return [run.info.status for run in runs if "mlflow.parentRunId" not in run.data.tags]


def test_same_search_again_gives_the_same_model_bytes(ray_cluster, case, capsys):
    """Table, seed and versions fixed: two searches register the same booster and ONNX model, byte by byte.

    A feature that gives the label away is on the console, in the card's head and a metric of the run, both times.
    """
    table = card_table(1500)
    # Not a perfect leak: after one split there would be nothing left to learn, and nothing to differ.
    told = table["is_fraud"].to_numpy() + np.random.default_rng(0).normal(size=1500) / 4
    table = table.set_column(table.column_names.index("amount"), "amount", pa.array(told))
    for version in ("1", "2"):
        assert search(case, table) == 0
        said = capsys.readouterr()
        for stream in (said.err, said.out):
            assert "LEAK? amount alone it ranks the label with an AUC of" in stream
        assert registry().run(registry().version("card_fraud", version).run_id)[1]["leaks"] == 1
    one, other = (registry().resolve("card_fraud", version).bundle for version in ("1", "2"))
    assert one.booster == other.booster
    assert one.onnx == other.onnx
    assert one.manifest.output.threshold == other.manifest.output.threshold
    assert one.manifest.calibration is Calibration.ISOTONIC
    model = OnnxModel(one)
    rows = Transform(one.manifest.schema_).matrix(table.slice(0, 50))
    assert ((model.score(rows) > 0) & (model.score(rows) < 1)).all()
    for words in ("this model's pr_auc minus its", "cost", "merchant_category = travel", "isotonic calibration inside"):
        assert words in said.out + one.card


def test_model_that_cannot_be_calibrated_is_not_registered(ray_cluster, case, capsys):
    """What means fraud in the older half means none in what folds are judged on: exit code 2, FAILED, no version."""
    table = card_table(1500)
    night = (table["transaction_hour"].to_numpy() < 8).astype(np.int64)
    label = np.where(np.arange(1500) < 600, night, 1 - night)
    assert search(case, table.set_column(table.column_names.index("is_fraud"), "is_fraud", pa.array(label))) == 2
    assert "no better than chance" in capsys.readouterr().err
    assert statuses() == ["FAILED"]
    assert registry().list("card_fraud") == []
