"""From a table with windows to a bundle: search, figures, card, probe, gates, and what of it is as served."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa
import pytest

from data.errors import ConfigError
from data.schema.outputs.binary_output import BinaryOutput
from data.schema.use_case import UseCase
from data.sources.atomic_output import write_table
from ray_app.inference.models.onnx_model import OnnxModel
from tests.support.training.models import train_bundle
from tests.support.training.swipes import swipes_table, swipes_use_case
from tests.support.training.training_reports import Finished, finish_in_process
from tune.evaluation.leakage import find_alarms
from tune.evaluation.model_card import TrainingOutcome, write_card
from tune.evaluation.model_plots import importance
from tune.pipeline.publication import describe, flat
from tune.promotion.gates import check_gates, score_measured
from tune.registry.bundle import Bundle
from tune.search.trial import best_trial
from tune.skew.http_replay import ReplayPace, prove
from tune.skew.log_replay import prove_log
from tune.skew.service_client import ServiceClient

STORED = """
materialized = { every = "1d", takes = "2h" }
entity = { column = "card", ttl = "30d" }
slices = ["card_count_1d"]
"""


def stored_use_case() -> UseCase:
    """Swipes with a value that is stored by a schedule."""
    declared = swipes_use_case(STORED)
    features = {name: feature.model_dump(exclude={"name"}) for name, feature in declared.features.items()}
    trust = {"type": "number", "source": "online"}
    return UseCase.model_validate(
        {**declared.model_dump(exclude={"features"}), "features": {**features, "trust": trust}}
    )


def stored_table() -> pa.Table:
    """Swipes of which some cards are bad; a swipe's own trust tells the label, that of earlier ones only the card."""
    table, rng = swipes_table(), np.random.default_rng(0)
    bad = np.isin(table.column("card").to_numpy(zero_copy_only=False), [f"c{card}" for card in range(10)])
    fraud = (rng.random(table.num_rows) < np.where(bad, 0.5, 0.03)).astype(np.int64)
    trust = 2 * bad + 3 * fraud + rng.normal(size=table.num_rows) / 3
    at = table.column_names.index("fraud")
    return table.set_column(at, "fraud", pa.array(fraud)).append_column("trust", pa.array(trust))


@functools.cache
def finished(stored: bool) -> Finished:
    """A search of two trials."""
    return finish_in_process(
        *((stored_table(), stored_use_case()) if stored else (swipes_table(), swipes_use_case())), 2
    )


def card(stored: bool) -> str:
    """Its model card."""
    source, prepared, trials, model, figures = finished(stored)
    gains = importance(model.booster, prepared.schema.names)
    outcome = TrainingOutcome(source, prepared, model, figures, best_trial(trials), len(trials), gains)
    return write_card(stored_use_case() if stored else swipes_use_case(), outcome)


@functools.cache
def bundle() -> Bundle:
    """A bundle of the swipes."""
    return train_bundle(swipes_table(), swipes_use_case())


def test_windows_are_learned_from():
    """The figures are far better than chance, which the amount alone is not, and no window is called a leak."""
    source, prepared, _, model, figures = finished(False)
    assert figures.holdout.metrics["auc"] > 0.65
    assert dict(importance(model.booster, prepared.schema.names))["terminal_risk_2d"] > 0.2
    assert not [alarm for alarm in find_alarms(source, prepared, swipes_use_case()) if alarm.leak]


def test_the_card_says_which_features_are_windows_and_what_was_left_out():
    """One line names windows, sources, delays and the events that no window counts."""
    said = card(False)
    assert (
        "Windows: `card_count_1d`, `card_mean_3d`, `pair_count_3d` over events.swipes (known at once); "
        "`terminal_risk_2d` over events.reports (known 1d after). They are as served: an event counts when it is known "
        "at the row's time. Events left out: none." in said
    )
    assert "| `terminal_risk_2d` | number | events |" in said
    assert "mean of fraud in 2d" in said


def test_the_card_judges_what_the_store_would_have_held():
    """Figures are of the joined values; those of the rows' own stand beside them, and they are better."""
    figures, said = finished(True).figures, card(True)
    assert figures.own_values is not None
    gain = figures.own_values["pr_auc"] - figures.holdout.metrics["pr_auc"]
    assert gain > 0.1
    assert "`trust`: what the online store would have held at each row's time, materialized every 1d" in said
    assert f"| difference | {figures.holdout.metrics['auc'] - figures.own_values['auc']:+.4f} | {-gain:+.4f} |" in said
    assert flat(figures, BinaryOutput(threshold=0.5), ["auc"])["own_values_pr_auc"] == figures.own_values["pr_auc"]


def test_of_a_table_with_stored_values_the_card_compares_nothing():
    """Where the rows' own values are gone, or were too many, the figures are as served and stand alone."""
    source, prepared, trials, model, figures = finished(True)
    gains, figures = importance(model.booster, prepared.schema.names), figures._replace(own_values=None)
    for held, reason in [
        (True, "The table came with it, so that the rows' own values are not known."),
        (False, "The rows' own values are not measured of a large table."),
    ]:
        told = source._replace(holds_stored=held)
        outcome = TrainingOutcome(told, prepared, model, figures, best_trial(trials), 2, gains)
        said = write_card(stored_use_case(), outcome)
        assert "`trust`: what the online store would have held at each row's time, materialized every 1d" in said
        assert reason in said
        assert "values of online features" not in said


def test_the_bundle_holds_the_windows_and_knows_itself():
    """The schema in the bundle has them with all their keys; a runtime that loads it answers the probe alike."""
    packed = Bundle.from_bytes(bundle().to_bytes())
    feature = packed.manifest.schema_.features[4]
    assert (feature.name, feature.window, feature.of, feature.events) == ("terminal_risk_2d", "2d", "fraud", "reports")
    assert set(packed.manifest.example) == {"amount"}
    OnnxModel(packed)
    assert packed.manifest.training_profile is not None
    assert set(packed.manifest.training_profile.features) == set(packed.manifest.schema_.names)


def test_gates_score_the_holdout_as_served(tmp_path):
    """The kept holdout rows carry their windows, so a later promotion scores what the card was written of."""
    source, prepared, *_ = finished(False)
    holdout = source.table.take(prepared.parts.holdout)
    assert score_measured(bundle(), holdout).scores.shape == (holdout.num_rows, 1)
    gates = {gate.name: gate for gate in check_gates(swipes_use_case(), holdout, bundle(), bundle())}
    assert gates["schema"].passed
    write_table(swipes_table(), tmp_path / "t.parquet")
    told = describe(source._replace(path=tmp_path / "t.parquet"), prepared.schema.windows)
    assert "card_count_1d" not in told["columns"]


def test_the_skew_proof_names_what_it_cannot_compare(tmp_path):
    """Windows and expressions are refused by name and with the reason, before a row is sent or read."""
    said = "card_count_1d, .*terminal_risk_2d .windows.: .*events that it holds.*; amount_ratio .expressions."
    with pytest.raises(ConfigError, match=said):
        prove(bundle(), swipes_table(), ServiceClient("http://127.0.0.1:9", "1"), ReplayPace(10, 100))
    with pytest.raises(ConfigError, match=said):
        prove_log(bundle(), "1", tmp_path, 10)
