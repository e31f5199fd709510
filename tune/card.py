"""The model card: what the model is, in words and tables (after Mitchell et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.features import named_column
from data.schema import Feature
from data.times import NO_TIME, event_us
from data.usecase import UseCase
from tune.evaluate import Evaluation
from tune.examples import Prepared
from tune.table import TrainingTable
from tune.trial import Trial

_COLUMNS = ("auc", "pr_auc", "f1", "precision", "recall", "brier", "ece")


class Findings(NamedTuple):
    """Everything that a card tells."""

    source: TrainingTable
    prepared: Prepared
    evaluation: Evaluation
    baselines: Mapping[str, Mapping[str, float]]
    threshold: float
    best: Trial
    trials: int
    importance: Sequence[tuple[str, float]]


def write_card(use_case: UseCase, found: Findings) -> str:
    """Return the card as Markdown."""
    sections = [
        f"# {use_case.name}\n\n{use_case.description or 'Probability that the label is 1.'}",
        _data_section(use_case, found),
        _figures_section(found),
        _threshold_section(use_case, found),
        _features_section(use_case, found),
        _making_section(use_case, found),
        _LIMITS.format(strategy=use_case.strategy),
    ]
    return "\n\n".join(sections) + "\n"


def _data_section(use_case: UseCase, found: Findings) -> str:
    rows = []
    for name, part in zip(found.prepared.parts._fields, found.prepared.parts, strict=True):
        labels = found.source.labels[part]
        rows.append((name, f"{len(part):,}", f"{labels.mean():.3%}", _period(found.source.table, part, use_case)))
    return (
        f"## Data\n\n`{found.source.path.name}`, {len(found.source.labels):,} rows, fingerprint "
        f"`{found.source.fingerprint}`, split by {use_case.strategy}. Label: `{use_case.label}`.\n\n"
        + _table(("part", "rows", "share of label 1", "period"), rows)
    )


def _period(table: pa.Table, part: np.ndarray, use_case: UseCase) -> str:
    if use_case.event_time is None:
        return "no event time"
    times = event_us(named_column(table, use_case.event_time), use_case.event_time)[part]
    times = times[times != NO_TIME]
    return f"{_moment(int(times.min()))} to {_moment(int(times.max()))}" if len(times) else "no times"


def _moment(microseconds: int) -> str:
    try:
        return datetime.fromtimestamp(microseconds / 1e6, timezone.utc).isoformat(" ", "minutes")[:16]
    except (ValueError, OverflowError, OSError):
        return f"{microseconds} us"


def _figures_section(found: Findings) -> str:
    rows = [("**this model**", *_figures(found.evaluation.metrics))]
    rows += [(name, *_figures(figures)) for name, figures in found.baselines.items()]
    intervals = ", ".join(f"{name} {low:.3f} to {high:.3f}" for name, (low, high) in found.evaluation.intervals.items())
    return (
        "## Figures on the holdout\n\nThe holdout took no part in training, in the search or in the choice of the "
        "threshold.\n\n" + _table(("model", *_COLUMNS), rows) + f"\n\n95 % bootstrap intervals: {intervals}."
    )


def _figures(metrics: Mapping[str, float]) -> list[str]:
    return [f"{metrics[name]:.4f}" for name in _COLUMNS]


def _threshold_section(use_case: UseCase, found: Findings) -> str:
    metrics = found.evaluation.metrics
    return (
        f"## Decision\n\nA row with a probability of {found.threshold:.4g} or more is labelled 1. The threshold "
        f"has the best F1 on the validation rows. On the holdout it finds {metrics['recall']:.1%} of the rows with "
        f"`{use_case.label}` = 1, and {metrics['precision']:.1%} of what it marks is right."
    )


def _features_section(use_case: UseCase, found: Findings) -> str:
    features = {feature.name: feature for feature in found.prepared.schema.features}
    rows = [
        (f"`{name}`", features[name].type.value, features[name].source.value, f"{share:.1%}", _about(features[name]))
        for name, share in found.importance
    ]
    return "## Features\n\n" + _table(("feature", "type", "from", "share of gain", "meaning"), rows)


def _about(feature: Feature) -> str:
    known = f" ({len(feature.vocabulary)} known words)" if feature.vocabulary else ""
    return f"{feature.description}{known}".replace("|", "/").strip()


def _making_section(use_case: UseCase, found: Findings) -> str:
    params = "\n".join(f"- {name}: {value}" for name, value in sorted(found.best.params.items()))
    return (
        f"## Making\n\nXGBoost, best of {found.trials} trials by {use_case.search.metric.value} on the validation rows "
        f"({found.best.score:.4f}), {found.best.rounds} rounds, trained on the train rows alone.\n\n{params}"
    )


_LIMITS = """## Limits

- The figures hold for data like the holdout's (split by {strategy}); watch for drift.
- The probability is the model's own; the calibration plot shows how far it can be taken literally.
- Categories that were not in the train rows are treated as missing, as are absent values without a default.
- Fairness between groups was not examined."""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
