"""Which events a decision did not see: those without which its windows have the values that were logged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from data.feature_views.events.event import shown_key
from data.feature_views.online.explaining_events import SeenWindows
from data.feature_views.online.online_windows import Slice, WindowPlan
from data.feature_views.online.stored_events import StoredEvent
from data.schema.features.window_feature import WindowFeature
from ray_app.late_events.version_replay import LateDecision, same_value

_Keys = tuple[int | str, ...]


class MissingEvents(NamedTuple):
    """What a decision did not see of one entity of one source."""

    source: str
    entity: str
    """The entity's columns, joined by +."""
    entity_key: str
    keys: _Keys
    """Keys of the events that were not there; empty when several would explain it, or nothing does."""
    number: int
    """How many events were not there; 0 when leaving out no such run explains what was logged."""


def missing_events(late: LateDecision) -> list[MissingEvents]:
    """Return what a decision did not see, for each entity that a window with another value counts."""
    plan = WindowPlan(late.manifest.windows, late.manifest.events)
    changed = {each.name for each in late.changed}
    runs: dict[int, list[_Keys]] = {}
    for number, part in enumerate(plan.slices):
        windows = [each for each in late.windows if (each.source, each.by) == (part.source, part.entity)]
        if not changed.isdisjoint(each.name for each in windows):
            found = _explaining(late, windows, late.events[number])
            runs[number] = [tuple(shown_key(event.key) for event in run) for run in found]
    told = {(plan.slices[number].source, keys[0]) for number, keys in runs.items() if len(keys) == 1}
    return [
        _missing(plan.slices[number], late.query.entities[number] or "", found, told) for number, found in runs.items()
    ]


def _missing(part: Slice, entity_key: str, runs: list[_Keys], told: set[tuple[str, _Keys]]) -> MissingEvents:
    """What was missing of one entity. Of several runs that explain it, the one that explains another entity, too."""
    likely = [run for run in runs if (part.source, run) in told]
    keys = likely[0] if len(likely) == 1 else ()
    return MissingEvents(part.source, part.entity, entity_key, keys, len(runs[0]) if runs else 0)


def _explaining(
    late: LateDecision, windows: Sequence[WindowFeature], events: Sequence[StoredEvent]
) -> list[Sequence[StoredEvent]]:
    """Return the shortest runs of events without which windows of one entity have the values that were logged."""
    served, query = late.logged.served, late.query
    seen = SeenWindows(
        windows,
        late.manifest.events,
        late.logged.time_us,
        query.key,
        lambda name, value: same_value(served[name], value),
        query.own,
    )
    return seen.missing_runs(events)
