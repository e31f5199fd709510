"""What a person looks at after a search: figures, card and plots, without Ray."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.image import imread

from data.schema.outputs.binary_output import BinaryOutput
from data.schema.use_case import UseCase
from data.sources.atomic_output import write_table
from tests.support.training.models import card_table
from tests.support.training.stored_cards import stored_cards
from tests.support.training.training_reports import Finished, finish_in_process, search_in_process, source_of
from tune.dataset.encoded_examples import prepare
from tune.evaluation.baselines import DEFAULTS, baselines
from tune.evaluation.model_card import TrainingOutcome, write_card
from tune.evaluation.model_plots import importance, write_plots
from tune.evaluation.search_plots import parameter_importance, write_search_plots
from tune.pipeline.publication import describe, flat
from tune.search.trial import best_trial
from tune.tasks.binary import BinaryLearning
from tune.tasks.kinds import learning_task


def use_case(**keys) -> UseCase:
    """The card use case with other keys."""
    cards = stored_cards()
    features = {name: feature.model_dump(exclude={"name"}) for name, feature in cards.features.items()}
    return UseCase.model_validate({**cards.model_dump(exclude={"features"}), "features": features, **keys})


PLAIN = {"slices": [], "calibration": "none"}
DECLARED = {
    "slices": ["merchant_category", {"column": "amount", "edges": [50, 700]}],
    "calibration": "isotonic",
    "decision": {"cost": {"false_positive": 1, "false_negative": 20}},
}


@functools.cache
def finished(plain: bool) -> Finished:
    """A search on a small table, with everything declared or nothing."""
    return finish_in_process(card_table(4000), use_case(**(PLAIN if plain else DECLARED)))


def card(plain: bool, path: Path | None = None) -> str:
    """Its model card; `path` is where the table is said to be from."""
    source, prepared, trials, model, figures = finished(plain)
    source = source._replace(path=path or source.path)
    gains = importance(model.booster, prepared.schema.names)
    found = TrainingOutcome(source, prepared, model, figures, best_trial(trials), len(trials), gains)
    return write_card(use_case(**(PLAIN if plain else DECLARED)), found)


def test_every_baseline_is_beaten_by_a_stated_amount():
    """Majority, logistic regression and XGBoost's defaults each have figures and a paired interval."""
    figures = finished(True).figures
    assert (
        set(figures.baselines) == set(figures.differences) == {BinaryLearning.constant, BinaryLearning.linear, DEFAULTS}
    )
    assert figures.differences[BinaryLearning.constant].verdict == "better"
    for name, found in figures.differences.items():
        mine, theirs = figures.holdout.metrics["pr_auc"], figures.baselines[name]["pr_auc"]
        assert found.value == pytest.approx(mine - theirs)
    assert figures.baselines[BinaryLearning.constant]["recall"] == 0


def test_scores_out_of_fold_are_shown_beside_the_holdout():
    """The optimism of the rows that chose the model is reported figure by figure."""
    figures = finished(True).figures
    expected = figures.out_of_fold["pr_auc"] - figures.holdout.metrics["pr_auc"]
    assert figures.optimism["pr_auc"] == pytest.approx(expected)
    named = flat(figures, BinaryOutput(threshold=0.5), ["auc"])
    assert named["out_of_fold_pr_auc"] - named["holdout_pr_auc"] == pytest.approx(expected)
    assert {"beats_XGBoost_defaults_by", "beats_XGBoost_defaults_by_low", "holdout_recall_high"} <= set(named)


def test_uncalibrated_figures_need_no_threshold():
    """The threshold is one of calibrated probabilities: what depends on it is not told of the uncalibrated ones."""
    figures = finished(False).figures
    named = flat(figures, BinaryOutput(threshold=0.5), ["auc"])
    told = {name.removeprefix("uncalibrated_") for name in named if name.startswith("uncalibrated_")}
    assert told == {"auc", "pr_auc", "log_loss", "brier", "ece"}
    assert finished(True).figures.uncalibrated is None


def test_card_of_a_plain_use_case_has_its_sections():
    """Leaks, figures with intervals, optimism, decision, calibration, data, features, making and limits."""
    text = card(True)
    for words in (
        "## Leaks\n\nNone was found.",
        "| 95 % interval, low |",
        "paired 95 % bootstrap interval",
        "## Out of fold and holdout",
        "has the best f1 out of fold",
        "The probabilities are the booster's own.",
        "## Data",
        "## Features",
        "no row weighted",
        "No groups were compared",
    ):
        assert words in text
    assert "## Slices" not in text


def test_card_tells_cost_calibration_and_slices():
    """What is declared is told: the cost and what it came to, figures without calibration, slices too small."""
    text = card(False)
    for words in (
        "at 1 for a false positive and 20 for a false negative",
        "a row on the holdout",
        "Corrected by isotonic calibration inside the ONNX model",
        "| without calibration |",
        "| merchant_category = travel |",
        "| amount >= 700 |",
        "too few of a label",
        "Groups were compared by `merchant_category`, `amount` only.",
    ):
        assert words in text


def test_infinities_in_the_table_are_reported_on():
    """Infinite values in train and holdout: every baseline has finite probabilities, the card tells, nothing fails."""
    rows = card_table(3000)
    amount = rows["amount"].to_numpy().copy()
    amount[:600:50], amount[2900::40] = np.inf, -np.inf
    rows = rows.set_column(rows.column_names.index("amount"), "amount", pa.array(amount))
    source, prepared, trials, model, figures = finish_in_process(rows, use_case(), 2)
    for found in baselines(prepared, learning_task(use_case()), 1).values():
        assert np.isfinite(found.scores).all()
    text = write_card(use_case(), TrainingOutcome(source, prepared, model, figures, trials[0], 2, []))
    assert "infinite" in text[text.index("## Leaks") : text.index("## Figures")]


def test_alarms_head_the_card():
    """A leak is named at the top of the card."""
    rows = card_table(3000)
    told = rows["is_fraud"].to_numpy() + np.random.default_rng(0).normal(size=3000) / 50
    rows = rows.set_column(rows.column_names.index("amount"), "amount", pa.array(told))
    source, prepared, trials, model, figures = finish_in_process(rows, use_case(), 2)
    text = write_card(use_case(), TrainingOutcome(source, prepared, model, figures, trials[0], 2, []))
    assert text.index("- **amount** alone it ranks the label") < text.index("## Figures")
    assert flat(figures, model.output, ["auc"])["leaks"] == 1


@pytest.mark.parametrize("plain", [True, False])
def test_plots_are_pictures(tmp_path, plain):
    """Every plot is a PNG of some size and more than one colour; slices have one when they are declared."""
    _, prepared, trials, model, figures = finished(plain)
    declared = use_case()
    write_plots(tmp_path, declared, prepared.holdout, model, figures, prepared.schema.names)
    write_search_plots(tmp_path, trials, "pr_auc")
    found = {file.stem: imread(file) for file in tmp_path.glob("*.png")}
    always = {"pr_and_roc", "calibration", "confusion", "feature_importance", "search", "search_parameters"}
    assert set(found) == always | (set() if plain else {"slices"})
    for name, picture in found.items():
        assert min(picture.shape[:2]) > 250, name
        assert len(np.unique(picture[:, :, :3] @ (1.0, 256.0, 65536.0))) > 50, name


def test_few_trials_say_nothing_about_parameters(tmp_path):
    """Below eight trials there is no plot of parameter importance."""
    write_search_plots(tmp_path, finished(True).trials[:7], "pr_auc")
    assert [file.name for file in tmp_path.iterdir()] == ["search.png"]


def test_parameter_that_decides_is_the_most_important():
    """Of parameters drawn at random, the one that makes the score is found, words included."""
    declared = use_case()
    space = {
        "max_depth": {"low": 1, "high": 9, "integer": True},
        "grow_policy": {"choices": ["depthwise", "lossguide"]},
    }
    varied = declared.search.model_validate({"space": space, "max_rounds": 2})
    prepared = prepare(source_of(card_table(1000), declared), declared)
    trials = search_in_process(declared.model_copy(update={"search": varied}), prepared, 30)
    made = [
        t.model_copy(update={"history": [float(t.params["grow_policy"] == "lossguide")], "losses": [0.5]})
        for t in trials
    ]
    assert parameter_importance(made)[0][0] == "grow_policy"


def test_data_is_described_by_files_rows_types_and_content(tmp_path):
    """What the model learned from is named down to the digest of its content."""
    write_table(card_table(300), tmp_path / "cards.parquet")
    source = source_of(card_table(300), use_case())._replace(path=tmp_path / "cards.parquet")
    told = json.loads(json.dumps(describe(source)))
    assert list(told["files"]) == [str(tmp_path / "cards.parquet")]
    assert (told["rows"], told["fingerprint"]) == (300, source.fingerprint)
    assert told["columns"]["merchant_category"] == "string"


def test_no_credentials_of_a_url_are_kept_with_a_model(tmp_path):
    """What a URL carries behind its path is neither in the description of the table nor in the model card."""
    write_table(card_table(300), tmp_path / "cards.parquet")
    url = Path(f"file://{tmp_path}/cards.parquet?secret_key=hush")
    source = source_of(card_table(300), use_case())._replace(path=url)
    assert list(describe(source)["files"]) == [f"file://{tmp_path}/cards.parquet"]
    assert "hush" not in json.dumps(describe(source))
    written = card(True, url)
    assert "`cards.parquet`, 4,000 rows" in written
    assert "hush" not in written


def test_same_data_and_seed_give_the_same_bytes():
    """Two searches on the same table come to the same booster and ONNX model, byte by byte."""
    one, other = (finish_in_process(card_table(1500), use_case(calibration="isotonic"), 3).model for _ in range(2))
    assert one.onnx == other.onnx
    assert one.booster.save_raw("ubj") == other.booster.save_raw("ubj")
    assert one.output == other.output
