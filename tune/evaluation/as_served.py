"""What a model card says of time: which values the service would have had of a row, and what that costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from data.schema.duration import format_duration
from data.schema.events.event_source import EventSource
from data.schema.features.window_feature import WindowFeature
from data.schema.use_case import UseCase
from tune.dataset.training_table import TrainingTable
from tune.evaluation.holdout_evaluation import HoldoutEvaluation
from tune.evaluation.markdown_table import markdown_table
from tune.tasks.kinds import learning_task

_NOT_MEASURED = "The rows' own values are not measured of a large table."


def as_served_section(use_case: UseCase, source: TrainingTable, figures: HoldoutEvaluation) -> str:
    """Return the section on stored features and windows as Markdown; empty for a use case with neither."""
    parts = [_stored(use_case, source, figures), _windows(use_case, source)]
    said = [part for part in parts if part]
    return "## As served\n\n" + "\n\n".join(said) if said else ""


def _stored(use_case: UseCase, source: TrainingTable, figures: HoldoutEvaluation) -> str:
    online = ", ".join(f"`{feature.name}`" for feature in use_case.schema_.online)
    if not online:
        return ""
    schedule, own = use_case.materialized, figures.own_values
    assert schedule is not None, "online features have a schedule"
    ttl = use_case.entity.ttl if use_case.entity is not None else None
    said = (
        f"{online}: what the online store would have held at each row's time, materialized every {schedule.every} and "
        f"there {schedule.takes} later{f', for at most {ttl}' if ttl else ''}. Training, all figures of this card and "
        "the gates go by it."
    )
    if own is None:
        known = "The table came with it, so that the rows' own values are not known."
        return f"{said} {known if source.holds_stored else _NOT_MEASURED}"
    served = figures.holdout.metrics
    compared = [name for name in learning_task(use_case).headline if name in own]
    rows = [
        ("**as served**", *(f"{served[name]:.4f}" for name in compared)),
        ("the row's own values", *(f"{own[name]:.4f}" for name in compared)),
        ("difference", *(f"{served[name] - own[name]:+.4f}" for name in compared)),
    ]
    return f"{said} The same model on the holdout:\n\n" + markdown_table(("values of online features", *compared), rows)


def _windows(use_case: UseCase, source: TrainingTable) -> str:
    if not use_case.windows:
        return ""
    by_source: dict[str, list[WindowFeature]] = {}
    for feature in use_case.windows:
        by_source.setdefault(feature.source, []).append(feature)
    said = [_of_source(name, use_case.events[name], features) for name, features in by_source.items()]
    return (
        f"Windows: {'; '.join(said)}. They are as served: an event counts when it is known at the row's time. "
        f"Events left out: {_left_out(source.left_out)}."
    )


def _of_source(name: str, source: EventSource, features: list[WindowFeature]) -> str:
    known = f"`{source.known_at}`" if source.known_at else f"{source.delay} after" if source.delay else "at once"
    return f"{', '.join(map(_named, features))} over events.{name} (known {'from ' if source.known_at else ''}{known})"


def _named(feature: WindowFeature) -> str:
    delay = f" ending {format_duration(feature.delay_us / 1e6)} before the row" if feature.delay_us else ""
    return f"`{feature.name}`{delay}"


def _left_out(left_out: Mapping[str, Counter[str]]) -> str:
    if not left_out:
        return "told when the table was written with its windows"
    found = [
        f"{counts.total():,} of events.{name} ({', '.join(f'{count:,} {why}' for why, count in counts.most_common())})"
        for name, counts in left_out.items()
        if counts
    ]
    return "; ".join(found) or "none"
