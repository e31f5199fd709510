"""From a fitted booster to a registered version: export, threshold, figures, plots, card, bundle."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xgboost

from data.parquet import write_table
from data.settings import Settings
from data.usecase import UseCase
from tune.baselines import baselines
from tune.bundle import Bundle
from tune.card import Findings, write_card
from tune.evaluate import Evaluation, best_threshold, evaluate
from tune.examples import Prepared
from tune.onnx_export import OnnxScorer, to_onnx, verify_parity
from tune.pack import pack
from tune.plots import importance, write_plots
from tune.registry import HOLDOUT_FOLDER, Registry
from tune.table import TrainingTable
from tune.tracking import Tracker
from tune.trial import Trial, best_trial


class Learned(NamedTuple):
    """What came out, registered as `version`."""

    bundle: Bundle
    version: str
    run_id: str
    best: Trial
    trials: int
    evaluation: Evaluation
    baselines: dict[str, dict[str, float]]


class _Model(NamedTuple):
    booster: xgboost.Booster
    onnx: bytes
    threshold: float
    holdout_scores: np.ndarray


def finish(
    use_case: UseCase,
    source: TrainingTable,
    prepared: Prepared,
    booster: xgboost.Booster,
    trials: list[Trial],
    settings: Settings,
    tracker: Tracker,
    run_id: str,
) -> Learned:
    """Judge `booster` on the holdout, log everything a person looks at, and register the bundle.

    Raises:
        BundleError: ONNX and booster differ.
        RegistryUnavailable: MLflow does not answer.
    """
    best = best_trial(trials)
    model = _export(prepared, booster)
    evaluation = evaluate(prepared.holdout.y, model.holdout_scores, model.threshold)
    against = baselines(prepared, nthread=1)
    gains = importance(model.booster, prepared.schema.names)
    card = write_card(
        use_case,
        Findings(source, prepared, evaluation, against, model.threshold, best, len(trials), gains),
    )
    holdout = source.table.take(prepared.parts.holdout)
    bundle = pack(
        use_case,
        prepared.schema,
        model.booster,
        model.onnx,
        model.threshold,
        evaluation.metrics,
        card,
        source.fingerprint,
        holdout,
    )
    tracker.log_params(run_id, {"best_trial": best.number, "rounds": best.rounds, **best.params})
    tracker.log_metrics(run_id, _flat(evaluation, against, model.threshold))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        names, metric = prepared.schema.names, use_case.search.metric.value
        write_plots(
            folder, prepared.holdout, model.holdout_scores, model.threshold, model.booster, names, trials, metric
        )
        tracker.log_folder(run_id, folder, "plots")
        write_table(holdout, folder / HOLDOUT_FOLDER / "holdout.parquet")
        tracker.log_folder(run_id, folder / HOLDOUT_FOLDER, HOLDOUT_FOLDER)
    version = Registry(settings.tracking_uri, settings.artifact_dir).publish(bundle, run_id)
    return Learned(bundle, version, run_id, best, len(trials), evaluation, against)


def _export(prepared: Prepared, booster: xgboost.Booster) -> _Model:
    """The same model in ONNX; the threshold comes from validation."""
    onnx = to_onnx(booster)
    verify_parity(booster, onnx, prepared.holdout.x)
    scorer = OnnxScorer(onnx)
    threshold = best_threshold(prepared.validation.y, scorer.probabilities(prepared.validation.x))
    return _Model(booster, onnx, threshold, scorer.probabilities(prepared.holdout.x))


def _flat(evaluation: Evaluation, against: dict[str, dict[str, float]], threshold: float) -> dict[str, float]:
    flat = {f"holdout_{name}": value for name, value in evaluation.metrics.items()}
    for name, (low, high) in evaluation.intervals.items():
        flat |= {f"holdout_{name}_low": low, f"holdout_{name}_high": high}
    for baseline, figures in against.items():
        flat |= {f"baseline_{baseline.replace(' ', '_')}_{name}": figures[name] for name in ("auc", "pr_auc", "f1")}
    return {**flat, "threshold": threshold}
