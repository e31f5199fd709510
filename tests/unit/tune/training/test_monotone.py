"""Monotone constraints: what a use case declares of a feature holds for the model, up to the ONNX graph."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from data.schema.use_case import UseCase, parse_use_case
from tests.support.training.training_reports import source_of
from tune.dataset.encoded_examples import prepare
from tune.pipeline.pipeline import final_fits
from tune.search.ray_tune import SearchJob
from tune.search.trial import Trial
from tune.tasks.kinds import learning_task
from tune.training.final_fits import run_here
from tune.training.final_model import complete
from tune.training.onnx_export import OnnxScorer

_TRIAL = Trial(number=0, params={"max_depth": 5}, history=[0.5] * 40, losses=[0.1] * 40, seconds=1, stopped_early=False)


def loans(calibration: str = "none", **monotone: str) -> UseCase:
    """A use case of two numbers and a flag; `monotone` says what is declared of each."""
    features = [f'{name} = {{ type = "{kind}"{monotone.get(name, "")} }}' for name, kind in _KINDS.items()]
    return parse_use_case(
        f'name = "loans"\nlabel = "default"\ncalibration = "{calibration}"\n[split]\nstrategy = "random"\n'
        + "\n".join(["[features]", *features]),
        "loans.toml",
    )


_KINDS = {"income": "number", "debt": "number", "owner": "boolean"}


def table(rows: int = 1500) -> pa.Table:
    """Loans whose default is likelier with debt and less likely with income, with much noise."""
    rng = np.random.default_rng(5)
    income, debt, owner = rng.random(rows), rng.random(rows), rng.random(rows) < 0.5
    chance = 1 / (1 + np.exp(-(debt - income) * 2 + owner))
    columns = {"income": income, "debt": debt, "owner": owner}
    return pa.table({**columns, "default": (rng.random(rows) < chance).astype(np.int64)})


def steps(use_case: UseCase, feature: int) -> np.ndarray:
    """How the served probability changes as one feature grows, of 40 rows that differ in the others."""
    prepared = prepare(source_of(table(), use_case), use_case)
    fits = final_fits(use_case, prepared, _TRIAL, 0, run_here)
    grown = np.linspace(0, 1, 50, dtype=np.float32)
    rows = np.repeat(prepared.holdout.x[:40], len(grown), axis=0)
    rows[:, feature] = np.tile(grown, 40)
    scores = OnnxScorer(complete(use_case, prepared, fits).onnx).scores(rows)
    return np.diff(scores.reshape(40, len(grown)), axis=1)


@pytest.mark.parametrize("calibration", ["none", "platt", "isotonic"])
def test_declared_direction_holds(calibration: str):
    """With the constraint no row's probability moves the other way, calibrated or not; without it many do."""
    declared = loans(calibration, income=", monotone = -1", debt=", monotone = 1")
    assert steps(declared, 0).max() <= 0
    assert steps(declared, 1).min() >= 0
    assert (steps(loans(calibration), 0) > 0.01).any()


def test_trials_have_the_constraints_of_the_final_fits():
    """Each trial of a search learns by what is declared; nothing is passed where nothing is."""
    declared = loans(debt=", monotone = 1")
    prepared = prepare(source_of(table(300), declared), declared)
    shared = learning_task(declared), prepared.development, prepared.folds, prepared.feature_types, 0
    constrained = SearchJob(declared.search, *shared, prepared.schema.monotone)
    assert constrained.params(1)["monotone_constraints"] == "(0,1,0)"
    assert "monotone_constraints" not in SearchJob(declared.search, *shared, loans().schema_.monotone).params(1)


def test_constraint_does_not_change_how_rows_are_encoded():
    """Versions with and without constraints have one schema: they can take each other's place."""
    assert loans(debt=", monotone = 1").schema_.fingerprint == loans().schema_.fingerprint
