"""Training and scoring from Python: arguments are checked, and a registered model scores a pandas table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pandas as pd
import pytest
from mlflow.onnx import save_model

from data.errors import BundleError, ConfigError, DataError, ModelNotFound
from data.schema.use_case import load_use_case
from tests.support.training.models import card_bundle, card_table, write_card_table
from tests.support.training.registry import new_registry
from tests.support.training.stored_cards import STORED_CARDS
from tune.notebook import Promoted, draft, load, promote, score, search
from tune.promotion.gates import Gate
from tune.registry.registry import Registry
from tune.registry.traffic_rules import CHAMPION
from tune.search.mlflow_runs import MlflowRuns


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The keywords by which a registry is found whose champion is the card model."""
    var = new_registry(tmp_path_factory.mktemp("var"))
    where = f"sqlite:///{var}/mlflow.db", var / "mlartifacts"
    registry = Registry(*where)
    registry.publish(card_bundle(), MlflowRuns(*where, "card_fraud").start("run", {}))
    registry.set_alias("card_fraud", CHAMPION, "1")
    return {"use_case": STORED_CARDS, "var_dir": var}


def test_draft_is_text_and_file(tmp_path: Path):
    """A draft shows its text, and what it writes is a use case that can be read."""
    table = write_card_table(tmp_path / "cards.parquet", 500)
    drafted = draft(table, "is_fraud", time="timestamp", name="cards", out=tmp_path / "cards.toml")
    assert repr(drafted) == drafted.text == (tmp_path / "cards.toml").read_text("utf-8")
    assert load_use_case(drafted.path or "").name == "cards"
    assert draft(table, "is_fraud").path is None
    with pytest.raises(DataError, match="fraud"):
        draft(table, "fraud")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"trials": 0}, "trials 0: expected 1 or more"),
        ({"seed": -1}, "seed -1: expected 0 or more"),
        ({"sampler": "grid"}, "sampler 'grid': expected one of: tpe, random"),
        ({"var_folder": "x"}, "var_folder"),
        ({"use_case": "nothing.toml"}, "no use case 'nothing.toml'"),
    ],
)
def test_wrong_arguments_of_a_search_are_told(wrong: dict[str, Any], told: str):
    """What the command would refuse is the same error here, before anything is read."""
    with pytest.raises(ConfigError, match=told):
        search("none.parquet", **{"use_case": STORED_CARDS, **wrong})


def test_loaded_model_scores_a_frame(place: dict[str, Any]):
    """The champion, by alias or by number, scores a frame alike, and shows its card."""
    frame = card_table(30).to_pandas()
    model = load(**place)
    scored = model.score(frame)
    assert set(scored["label"]) <= {0, 1}
    assert ((scored["probability"] >= model.output.threshold) == scored["label"]).all()
    pd.testing.assert_frame_equal(score(frame, 1, **place), scored)
    assert model.card == card_bundle().card
    assert repr(model).startswith("card_fraud version 1, the label is 1 from a probability of 0.")


def test_errors_are_the_projects_own(place: dict[str, Any]):
    """What MLflow raises of a frame that lacks a column, or of a version that is not there, is an error of ours."""
    with pytest.raises(DataError, match=r"^card_fraud version 1: Model is missing inputs \['amount'\]"):
        load(**place).score(card_table(3).to_pandas().drop(columns="amount"))
    with pytest.raises(ModelNotFound, match="version or alias '9'"):
        load(9, **place)
    with pytest.raises(ModelNotFound, match="version or alias '9'"):
        promote(9, **place)


def test_model_of_an_earlier_version_is_told(place: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    """A version in MLflow's ONNX flavour, which took encoded rows, says to train again."""

    def save_onnx(_bundle: Any, folder: Path) -> None:
        save_model(onnx.load_from_string(card_bundle().onnx), str(folder))

    monkeypatch.setattr("tune.registry.registry.save_flavor", save_onnx)
    var = place["var_dir"]
    where = f"sqlite:///{var}/mlflow.db", var / "mlartifacts"
    version = Registry(*where).publish(card_bundle(), MlflowRuns(*where, "card_fraud").start("old", {}))
    with pytest.raises(BundleError, match="takes no raw table; train it again"):
        load(version, **place)


def test_verdict_is_shown_as_text_and_as_table():
    """The gates with their verdicts and the outcome are in both, escaped in HTML."""
    verdict = Promoted("cards", "2", False, [Gate("auc", "0.8", ">= 0.9", False)])
    assert (
        repr(verdict)
        == "auc: 0.8, limit >= 0.9: REFUSED\ncards version 2 is not promoted; the champion stays as it was"
    )
    assert "<td>&gt;= 0.9</td><td>REFUSED</td>" in verdict._repr_html_()
