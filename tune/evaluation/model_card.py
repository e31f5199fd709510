"""The model card: a Markdown report on a model (after Mitchell et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.schema.features.feature import Feature
from data.schema.use_case import UseCase
from data.sources.filesystems import base_name
from data.transform.encoding import named_column
from data.transform.event_time import NO_TIME, event_us, moment
from tune.dataset.encoded_examples import PreparedDataset
from tune.dataset.folds import Folds
from tune.dataset.training_table import TrainingTable
from tune.evaluation.as_served import as_served_section
from tune.evaluation.holdout_evaluation import HoldoutEvaluation
from tune.evaluation.markdown_table import markdown_table
from tune.evaluation.slices import LEAST_OF_A_LABEL, LEAST_ROWS, SliceFigures
from tune.metrics.cluster_bootstrap import LEAST_ENTITIES, entity_codes, resampling_units
from tune.search.trial import Trial
from tune.training.final_model import FinalModel

_COLUMNS = ("auc", "pr_auc", "f1", "precision", "recall", "brier", "ece")


class TrainingOutcome(NamedTuple):
    """Everything that the model card reports."""

    source: TrainingTable
    prepared: PreparedDataset
    model: FinalModel
    figures: HoldoutEvaluation
    best: Trial
    trials: int
    importance: Sequence[tuple[str, float]]


def write_card(use_case: UseCase, outcome: TrainingOutcome) -> str:
    """Return the model card as Markdown."""
    sections = [
        f"# {use_case.name}\n\n{use_case.description or 'Probability that the label is 1.'}",
        _alarms_section(outcome),
        _figures_section(use_case, outcome),
        as_served_section(use_case, outcome.source, outcome.figures),
        _optimism_section(use_case, outcome),
        _decision_section(use_case, outcome),
        _calibration_section(use_case, outcome),
        _slices_section(use_case, outcome),
        _data_section(use_case, outcome),
        _features_section(use_case, outcome),
        _making_section(use_case, outcome),
        _limits_section(use_case, outcome),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _alarms_section(outcome: TrainingOutcome) -> str:
    alarms = outcome.figures.alarms
    leaks = [f"- **{alarm.column}** {alarm.text}." for alarm in alarms if alarm.leak]
    others = [f"- **{alarm.column}** {alarm.text}." for alarm in alarms if not alarm.leak]
    parts = ["## Leaks\n\n" + ("\n".join(leaks) or "None was found.")]
    if others:
        parts.append("## Features to look at\n\n" + "\n".join(others))
    return "\n\n".join(parts)


def _figures_section(use_case: UseCase, outcome: TrainingOutcome) -> str:
    figures = outcome.figures
    names = [*_COLUMNS, *(["cost"] if "cost" in figures.holdout.metrics else [])]
    low = {name: f"{interval.low:.4f}" for name, interval in figures.holdout.intervals.items()}
    high = {name: f"{interval.high:.4f}" for name, interval in figures.holdout.intervals.items()}
    rows = [("**this model**", *_row(figures.holdout.metrics, names))]
    rows += [
        (f"95 % interval, {end}", *(ends.get(n, "") for n in names)) for end, ends in (("low", low), ("high", high))
    ]
    rows += [(name, *_row(each, names)) for name, each in figures.baselines.items()]
    metric = use_case.search.metric.value
    beaten = [
        (name, f"{each.value:+.4f}", f"{each.low:+.4f} to {each.high:+.4f}", each.verdict)
        for name, each in figures.differences.items()
    ]
    return (
        "## Figures on the holdout\n\nThey are of the *measured* model: the holdout took no part in its training, in "
        "the search or in the choice of threshold and calibration. What serves has the same parameters, calibration "
        "and threshold, and has learned from every row, the holdout's too.\n\n"
        + markdown_table(("model", *names), rows)
        + f"\n\nThis model's {metric} minus each baseline's, with the paired 95 % bootstrap interval"
        + f"{_resampled(use_case, outcome)}:\n\n"
        + markdown_table(("against", "difference", "95 % interval", "this model is"), beaten)
    )


def _resampled(use_case: UseCase, outcome: TrainingOutcome) -> str:
    """Return the remark on how intervals were resampled; empty when rows have no entities."""
    entities = entity_codes(outcome.source.table, use_case, outcome.prepared.parts.holdout)
    if entities is None or use_case.entity is None:
        return ""
    count, column = len(np.unique(entities)), use_case.entity.column
    if resampling_units(entities) is not None:
        return f" (all intervals resample the {count:,} different `{column}` of the holdout, each with all its rows)"
    few = count < LEAST_ENTITIES
    return f" (intervals resample rows: {count:,} different `{column}` are too few; they are too narrow)" if few else ""


def _row(metrics: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return [f"{metrics[name]:.4f}" for name in names]


def _optimism_section(use_case: UseCase, outcome: TrainingOutcome) -> str:
    figures, names = outcome.figures, ("auc", "pr_auc", "f1", "brier", "ece")
    rows = [
        ("out of fold", *_row(figures.out_of_fold, names)),
        ("holdout", *_row(figures.holdout.metrics, names)),
        ("difference", *(f"{figures.optimism[name]:+.4f}" for name in names)),
    ]
    later = "; with a split by time, drift is part of it" if use_case.strategy == "time" else ""
    return (
        f"## Out of fold and holdout\n\nTrial, rounds, threshold and calibration were chosen by scores of rows that "
        f"their fold's fit had not learned from ({_folds(outcome.prepared.folds)}), so figures there are "
        f"optimistic{later}. Go by the holdout.\n\n" + markdown_table(("rows", *names), rows)
    )


def _folds(folds: Folds) -> str:
    if folds.count == 1:
        return "one split into train and validation rows"
    return f"{folds.count} folds" + (", each learned from earlier rows" if folds.forward else "")


def _decision_section(use_case: UseCase, outcome: TrainingOutcome) -> str:
    metrics, decision = outcome.figures.holdout.metrics, use_case.decision
    if decision.cost is not None:
        cost = decision.cost
        why = (
            f"has the smallest cost out of fold, at {cost.false_positive:g} for a false positive and "
            f"{cost.false_negative:g} for a false negative"
        )
    else:
        why = f"has the best {decision.metric.value} out of fold"
    spent = f" The cost is {metrics['cost']:.4g} a row on the holdout." if "cost" in metrics else ""
    return (
        f"## Decision\n\nA row with a probability of {outcome.model.threshold:.4g} or more is labelled 1. "
        f"The threshold {why}. On the holdout it finds {metrics['recall']:.1%} of the rows with "
        f"`{use_case.label}` = 1, and {metrics['precision']:.1%} of what it marks is right.{spent}"
    )


def _calibration_section(use_case: UseCase, outcome: TrainingOutcome) -> str:
    figures, names = outcome.figures, ("ece", "brier", "log_loss", "auc", "pr_auc")
    rows = [("**as it answers**", *_row(figures.holdout.metrics, names))]
    if figures.uncalibrated is None:
        how = "The probability is the booster's own."
    else:
        ones, calibrator = int(outcome.model.judged.sum()), outcome.model.calibrator
        method = calibrator.method.value if calibrator else "no"
        how = (
            f"Corrected by {method} calibration inside the ONNX model, fitted on scores out of fold "
            f"({ones:,} rows with label 1)."
        )
        rows.append(("without calibration", *_row(figures.uncalibrated, names)))
    return f"## Calibration\n\n{how} On the holdout:\n\n" + markdown_table(("probability", *names), rows)


def _slices_section(use_case: UseCase, outcome: TrainingOutcome) -> str:
    if not outcome.figures.slices:
        return ""
    metric = use_case.search.metric.value
    rows = [_slice_row(each) for each in outcome.figures.slices]
    caution = (
        " PR-AUC rises with the share of label 1, so compare it within a slice only." if metric == "pr_auc" else ""
    )
    return (
        f"## Slices of the holdout\n\nWide intervals mean few rows. Slices of less than {LEAST_ROWS} rows, or of less "
        f"than {LEAST_OF_A_LABEL} rows of either label, are too small to judge.{caution}\n\n"
        + markdown_table(
            ("slice", "rows", "label 1", "mean probability", metric, "95 % interval", "precision", "recall"), rows
        )
    )


def _slice_row(each: SliceFigures) -> tuple[str, ...]:
    head = each.name.replace("|", "/"), f"{each.rows:,}", f"{each.share:.2%}", f"{each.mean:.2%}"
    if each.metric is None or each.interval is None:
        return (*head, "too few of a label", "", "", "")
    low, high = each.interval
    return (*head, f"{each.metric:.3f}", f"{low:.3f} to {high:.3f}", f"{each.precision:.3f}", f"{each.recall:.3f}")


def _data_section(use_case: UseCase, outcome: TrainingOutcome) -> str:
    rows = []
    for name, part in zip(outcome.prepared.parts._fields, outcome.prepared.parts, strict=True):
        labels = outcome.source.labels[part]
        period = _period(outcome.source.table, part, use_case)
        rows.append((name, f"{len(part):,}", f"{int(labels.sum()):,}", f"{labels.mean():.3%}", period))
    sampled = (
        f" A sample of {len(outcome.source.labels):,} rows was searched, judged and used by the baselines; the "
        "measured model learned from every train row, what serves from every row."
        if outcome.source.sampled_from is not None
        else ""
    )
    return (
        f"## Data\n\n`{base_name(outcome.source.path)}`, {outcome.source.rows:,} rows, fingerprint "
        f"`{outcome.source.fingerprint}`, split by {use_case.strategy}. Label: `{use_case.label}`.{sampled}\n\n"
        + markdown_table(("part", "rows", "with label 1", "share", "period"), rows)
    )


def _period(table: pa.Table, part: np.ndarray, use_case: UseCase) -> str:
    if use_case.event_time is None:
        return "no event time"
    times = event_us(named_column(table, use_case.event_time), use_case.event_time)[part]
    times = times[times != NO_TIME]
    return f"{moment(int(times.min()))} to {moment(int(times.max()))}" if len(times) else "no times"


def _features_section(use_case: UseCase, outcome: TrainingOutcome) -> str:
    features = {feature.name: feature for feature in outcome.prepared.schema.features}
    rows = [
        (f"`{name}`", features[name].type.value, features[name].source.value, f"{share:.1%}", _about(features[name]))
        for name, share in outcome.importance
    ]
    return "## Features\n\n" + markdown_table(("feature", "type", "from", "share of gain", "meaning"), rows)


def _about(feature: Feature) -> str:
    known = f" ({len(feature.vocabulary)} known words)" if feature.vocabulary else ""
    if feature.derived_from:
        known = f" ({feature.derived_from})"
    if feature.is_window:
        known = f" ({feature.window_text})"
    if feature.expression is not None:
        known = f" ({feature.expression})"
    if feature.monotone is not None:
        known += f" (monotone: the probability never {'falls' if feature.monotone == 1 else 'rises'} as it grows)"
    return f"{feature.description}{known}".replace("|", "/").strip()


def _making_section(use_case: UseCase, outcome: TrainingOutcome) -> str:
    params = "\n".join(f"- {name}: {value}" for name, value in sorted(outcome.best.params.items()))
    return (
        f"## Making\n\nXGBoost with native categories, best of {outcome.trials} trials by "
        f"{use_case.search.metric.value} over {_folds(outcome.prepared.folds)}, {outcome.best.rounds} rounds a fold, "
        f"{outcome.model.booster.num_boosted_rounds()} for every row, as more rows bear more; no row weighted.\n\n"
        f"{params}"
    )


def _limits_section(use_case: UseCase, outcome: TrainingOutcome) -> str:
    held = outcome.prepared.holdout.y
    ones = int(held.sum())
    limits = [
        f"The figures hold for data like the holdout's (split by {use_case.strategy}); watch for drift.",
        "Categories that only the holdout has, or none, are treated as missing, as are absent values without a "
        "default.",
    ]
    if ones < 100:
        limits.insert(
            0, f"The holdout has {ones:,} rows with label 1 only: every figure is uncertain, see the intervals."
        )
    if outcome.model.calibrator is None:
        limits.append(
            "The probability is not calibrated; the calibration plot shows how far it can be taken literally."
        )
    examined = ", ".join(f"`{each.column}`" for each in use_case.slices)
    limits.append(
        f"Groups were compared by {examined} only."
        if examined
        else "No groups were compared; declare `slices` to do so."
    )
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)
