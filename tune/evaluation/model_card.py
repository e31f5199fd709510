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
from tune.evaluation.kind_report import KindReport
from tune.evaluation.markdown_table import markdown_table
from tune.evaluation.reports import report_of
from tune.evaluation.slices import LEAST_ROWS, SliceFigures
from tune.metrics.cluster_bootstrap import LEAST_ENTITIES, entity_codes, resampling_units
from tune.search.trial import Trial
from tune.tasks.kinds import learning_task
from tune.training.final_model import FinalModel


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
        f"# {use_case.name}\n\n{use_case.description or report_of(use_case).answers}",
        _alarms_section(outcome),
        _figures_section(use_case, outcome),
        as_served_section(use_case, outcome.source, outcome.figures),
        _optimism_section(use_case, outcome),
        report_of(use_case).decision(use_case, outcome.model, outcome.figures),
        report_of(use_case).calibration(outcome.model, outcome.figures, learning_task(use_case).of_scores),
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
    names = [*learning_task(use_case).shown, *(["cost"] if "cost" in figures.holdout.metrics else [])]
    low = {name: f"{interval.low:.4f}" for name, interval in figures.holdout.intervals.items()}
    high = {name: f"{interval.high:.4f}" for name, interval in figures.holdout.intervals.items()}
    rows = [("**this model**", *_row(figures.holdout.metrics, names))]
    rows += [
        (f"95 % interval, {end}", *(ends.get(n, "") for n in names)) for end, ends in (("low", low), ("high", high))
    ]
    rows += [(name, *_row(each, names)) for name, each in figures.baselines.items()]
    metric = use_case.metric.value
    beaten = [
        (name, f"{each.value:+.4f}", f"{each.low:+.4f} to {each.high:+.4f}", each.verdict)
        for name, each in figures.differences.items()
    ]
    return (
        "## Figures on the holdout\n\nThey are of the *measured* model: the holdout took no part in its training, in "
        "the search or in what is chosen behind the trees. What serves has the same parameters, calibration and "
        "threshold or interval, and has learned from every row, the holdout's too.\n\n"
        + markdown_table(("model", *names), rows)
        + f"\n\nThis model's {metric} minus each baseline's, with the paired 95 % bootstrap interval"
        + f"{_resampled(use_case, outcome)}:\n\n"
        + markdown_table(("against", "difference", "95 % interval", "this model is"), beaten)
    )


def _resampled(use_case: UseCase, outcome: TrainingOutcome) -> str:
    """Return the remark on how intervals were resampled; empty when rows have neither entities nor lists."""
    entities = entity_codes(outcome.source.table, use_case, outcome.prepared.parts.holdout)
    if entities is None:
        return ""
    count, lists = len(np.unique(entities)), outcome.prepared.holdout.lists
    by_list = lists is not None and count == len(np.unique(lists))
    column = use_case.task.list_column if by_list or use_case.entity is None else use_case.entity.column
    if resampling_units(entities) is not None:
        return f" (all intervals resample the {count:,} different `{column}` of the holdout, each with all its rows)"
    few = count < LEAST_ENTITIES
    return f" (intervals resample rows: {count:,} different `{column}` are too few; they are too narrow)" if few else ""


def _row(metrics: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return [f"{metrics[name]:.4f}" for name in names]


def _optimism_section(use_case: UseCase, outcome: TrainingOutcome) -> str:
    figures, names = outcome.figures, learning_task(use_case).shown
    rows = [
        ("out of fold", *_row(figures.out_of_fold, names)),
        ("holdout", *_row(figures.holdout.metrics, names)),
        ("difference", *(f"{figures.optimism[name]:+.4f}" for name in names)),
    ]
    later = "; with a split by time, drift is part of it" if use_case.strategy == "time" else ""
    return (
        f"## Out of fold and holdout\n\nTrial, rounds and what stands behind the trees were chosen by scores of rows "
        f"that their fold's fit had not learned from ({_folds(outcome.prepared.folds)}), so figures there are "
        f"optimistic{later}. Go by the holdout.\n\n" + markdown_table(("rows", *names), rows)
    )


def _folds(folds: Folds) -> str:
    if folds.count == 1:
        return "one split into train and validation rows"
    return f"{folds.count} folds" + (", each learned from earlier rows" if folds.forward else "")


def _slices_section(use_case: UseCase, outcome: TrainingOutcome) -> str:
    if not outcome.figures.slices:
        return ""
    metric = use_case.metric.value
    report, others = (
        report_of(use_case),
        next((list(each.others) for each in outcome.figures.slices if each.others), []),
    )
    rows = [_slice_row(each, report, others) for each in outcome.figures.slices]
    caution = (
        " PR-AUC rises with the share of label 1, so compare it within a slice only." if metric == "pr_auc" else ""
    )
    return (
        f"## Slices of the holdout\n\nWide intervals mean few rows. Slices of less than {LEAST_ROWS} rows, or of too "
        f"few of a label, are too small to judge.{caution}\n\n"
        + markdown_table(("slice", "rows", report.observed, report.predicted, metric, "95 % interval", *others), rows)
    )


def _slice_row(each: SliceFigures, report: KindReport, others: Sequence[str]) -> tuple[str, ...]:
    rates = report.rate(each.observed), report.rate(each.predicted)
    head = each.name.replace("|", "/"), f"{each.rows:,}", *rates
    if each.metric is None or each.interval is None:
        return (*head, "too few of a label", *[""] * (1 + len(others)))
    low, high = each.interval
    return (*head, f"{each.metric:.3f}", f"{low:.3f} to {high:.3f}", *(f"{each.others[name]:.3f}" for name in others))


def _data_section(use_case: UseCase, outcome: TrainingOutcome) -> str:
    rows = []
    for name, part in zip(outcome.prepared.parts._fields, outcome.prepared.parts, strict=True):
        described = learning_task(use_case).describe(outcome.source.labels[part])
        rows.append((name, f"{len(part):,}", described, _period(outcome.source.table, part, use_case)))
    sampled = (
        f" A sample of {len(outcome.source.labels):,} rows was searched, judged and used by the baselines; the "
        "measured model learned from every train row, what serves from every row."
        if outcome.source.sampled_from is not None
        else ""
    )
    return (
        f"## Data\n\n`{base_name(outcome.source.path)}`, {outcome.source.rows:,} rows, fingerprint "
        f"`{outcome.source.fingerprint}`, split by {use_case.strategy}. Label: `{use_case.label}`.{sampled}\n\n"
        + markdown_table(("part", "rows", "label", "period"), rows)
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
        f"{use_case.metric.value} over {_folds(outcome.prepared.folds)}, {outcome.best.rounds} rounds a fold, "
        f"{outcome.model.booster.num_boosted_rounds()} for every row, as more rows bear more; no row weighted.\n\n"
        f"{params}"
    )


def _limits_section(use_case: UseCase, outcome: TrainingOutcome) -> str:
    limits = [
        *report_of(use_case).limits(outcome.prepared.holdout.y, outcome.model),
        f"The figures hold for data like the holdout's (split by {use_case.strategy}); watch for drift.",
        "Categories that only the holdout has, or none, are treated as missing, as are absent values without a "
        "default.",
    ]
    examined = ", ".join(f"`{each.column}`" for each in use_case.slices)
    limits.append(
        f"Groups were compared by {examined} only."
        if examined
        else "No groups were compared; declare `slices` to do so."
    )
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)
