"""Publication of a fitted booster: export, evaluation, plots and card to MLflow, then the registered version."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from data.schema.features.feature import Feature
from data.schema.features.feature_schema import FeatureSchema
from data.schema.output import Output
from data.schema.use_case import UseCase
from data.settings import Settings
from data.sources.atomic_output import write_table
from data.sources.filesystems import file_size, named
from data.sources.table_files import table_files
from tune.dataset.encoded_examples import PreparedDataset
from tune.dataset.training_table import TrainingTable
from tune.evaluation.holdout_evaluation import HoldoutEvaluation, judge
from tune.evaluation.leakage import LeakageAlarm
from tune.evaluation.model_card import TrainingOutcome, write_card
from tune.evaluation.model_plots import importance, write_plots
from tune.evaluation.search_plots import write_search_plots
from tune.pipeline.bundle_assembly import pack
from tune.promotion.holdout_overlap import last_learned_us
from tune.registry.bundle import Bundle
from tune.registry.registry import HOLDOUT_FOLDER, REPORT_FOLDER, Registry
from tune.registry.scratch_folder import scratch_folder
from tune.search.mlflow_runs import MlflowRuns
from tune.search.trial import Trial, best_trial
from tune.tasks.kinds import learning_task
from tune.training.final_model import FinalModel


class PublishedModel(NamedTuple):
    """A registered model with its bundle, evaluation and winning trial."""

    bundle: Bundle
    version: str
    run_id: str
    best: Trial
    trials: int
    figures: HoldoutEvaluation


def finish(
    use_case: UseCase,
    source: TrainingTable,
    prepared: PreparedDataset,
    model: FinalModel,
    trials: list[Trial],
    alarms: list[LeakageAlarm],
    settings: Settings,
    tracker: MlflowRuns,
    run_id: str,
) -> PublishedModel:
    """Evaluate a model on the holdout, log report and plots, and register the bundle last.

    Raises:
        DataError: the disk of the var folder is full.
        RegistryUnavailable: MLflow does not answer; nothing is registered.
    """
    best = best_trial(trials)
    figures = judge(use_case, source, prepared, model, alarms)
    gains = importance(model.booster, prepared.schema.names)
    outcome = TrainingOutcome(source, prepared, model, figures, best, len(trials), gains)
    card = write_card(use_case, outcome)
    holdout = source.table.take(prepared.parts.holdout)
    bundle = pack(
        use_case,
        prepared.schema,
        model,
        figures.holdout.metrics,
        figures.differences,
        card,
        source.fingerprint,
        last_learned_us(source.table, use_case),
        source.table,
        prepared.profile,
    )
    tracker.log_metrics(run_id, flat(figures, model.output, learning_task(use_case).headline))
    with scratch_folder(settings.var_dir / "tune") as scratch:
        _write_artifacts(scratch, use_case, outcome, trials, card, holdout)
        for folder in scratch.iterdir():
            tracker.log_folder(run_id, folder, folder.name)
    registry = Registry(settings.tracking_uri, settings.artifact_dir)
    version = registry.publish(bundle, run_id, settings.var_dir / "tune")
    return PublishedModel(bundle, version, run_id, best, len(trials), figures)


def flat(figures: HoldoutEvaluation, output: Output, headline: Sequence[str]) -> dict[str, float]:
    """Return every figure under the name by which MLflow keeps it; of baselines those of `headline`."""
    named = {f"holdout_{name}": figure for name, figure in figures.holdout.metrics.items()}
    named |= {f"out_of_fold_{name}": figure for name, figure in figures.out_of_fold.items()}
    for name, (low, high) in figures.holdout.intervals.items():
        named |= {f"holdout_{name}_low": low, f"holdout_{name}_high": high}
    for name, figure in (figures.uncalibrated or {}).items():
        named[f"uncalibrated_{name}"] = figure
    for name, figure in (figures.own_values or {}).items():
        named[f"own_values_{name}"] = figure
    for baseline, measured in figures.baselines.items():
        prefix = baseline.replace(" ", "_")
        named |= {f"baseline_{prefix}_{name}": measured[name] for name in headline}
        named |= {f"beats_{prefix}_by{end}": figure for end, figure in _ends(figures, baseline)}
    return {**named, **output.fitted, "leaks": sum(alarm.leak for alarm in figures.alarms)}


def _ends(figures: HoldoutEvaluation, baseline: str) -> list[tuple[str, float]]:
    difference = figures.differences[baseline]
    return [("", difference.value), ("_low", difference.low), ("_high", difference.high)]


def _write_artifacts(
    scratch: Path, use_case: UseCase, outcome: TrainingOutcome, trials: list[Trial], card: str, holdout: pa.Table
) -> None:
    """Write the report, the plots and the holdout rows, each into a folder of its own."""
    report, plots = scratch / REPORT_FOLDER, scratch / "plots"
    report.mkdir()
    (report / "card.md").write_text(card, "utf-8")
    (report / "data.json").write_text(
        json.dumps(describe(outcome.source, _computed(outcome.prepared.schema)), indent=2), "utf-8"
    )
    slices = [each._asdict() | {"others": dict(each.others)} for each in outcome.figures.slices]
    alarms = [alarm._asdict() for alarm in outcome.figures.alarms]
    (report / "findings.json").write_text(json.dumps({"alarms": alarms, "slices": slices}, indent=2), "utf-8")
    plots.mkdir()
    prepared = outcome.prepared
    write_plots(plots, use_case, prepared.holdout, outcome.model, outcome.figures, prepared.schema.names)
    write_search_plots(plots, trials, use_case.metric.value)
    write_table(holdout, scratch / HOLDOUT_FOLDER / "holdout.parquet")


def _computed(schema: FeatureSchema) -> list[Feature]:
    return [feature for feature in schema.features if feature.is_computed]


def describe(source: TrainingTable, computed: Sequence[Feature] = ()) -> dict[str, Any]:
    """Describe the table that the model learned from: files with sizes, rows, column types and fingerprint.

    URLs are without the credentials that they may carry: who sees the model sees this. `computed` are the features that
    are no columns of the files.
    """
    names = {feature.name for feature in computed}
    return {
        "path": named(source.path),
        "files": {named(file.path): file_size(file.path) for file in table_files(source.path).files},
        "rows": source.rows,
        "columns": {field.name: str(field.type) for field in source.table.schema if field.name not in names},
        "fingerprint": source.fingerprint,
    }
