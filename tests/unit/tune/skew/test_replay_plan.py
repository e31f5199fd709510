"""The plan of a replay: disturbed arrivals, of which none changes what is known when a row is asked."""

from __future__ import annotations

from datetime import timedelta

import pytest

from data.feature_views.events.event_tables import EventTables
from tests.support.serving.window_app import START, swipes_bundle, swipes_use_case
from tests.support.training.in_time import timed_reports, timed_swipes
from tune.skew.in_time_table import InTimeTable
from tune.skew.replay_plan import replay_plan

SINCE_US = int((START + timedelta(days=1)).timestamp() * 1e6)


def planned(seed: int, rows: int = 500) -> InTimeTable:
    """A table that is replayed."""
    swipes = timed_swipes(rows, seed)
    events = EventTables(None, {"reports": timed_reports(swipes)})
    return InTimeTable(swipes, swipes_use_case(), swipes_bundle().manifest, events, SINCE_US)


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_an_entity_stay_in_order(seed: int):
    """Each row is sent once, and repeats behind it; of two rows with an entity in common the earlier is first."""
    table = planned(seed)
    plan = replay_plan(table, seed)
    sent = [
        (row, at in request.repeated)
        for stage in plan.stages
        for request in stage.requests
        for at, row in enumerate(request.rows)
    ]
    first = [row for row, repeated in sent if not repeated]
    assert sorted(first) == list(range(table.count))
    assert len(sent) - len(first) == plan.repeated > 0
    assert plan.disordered > 0 and first != sorted(first)
    for name in ("card_id", "terminal_id"):
        of = table.rows.column(name).to_pylist()
        for entity in set(of):
            rows = [row for row in first if of[row] == entity]
            assert rows == sorted(rows)


@pytest.mark.parametrize("seed", range(5))
def test_an_event_comes_before_the_rows_that_count_it(seed: int):
    """However late, an event is there before any row of its entity at whose time it is known."""
    table = planned(seed)
    plan = replay_plan(table, seed)
    assert sum(arrivals.late for arrivals in plan.arrivals) > 0
    for arrivals in plan.arrivals:
        events, source = table.events[arrivals.source], table.manifest.events[arrivals.source]
        assert (arrivals.before[1:] >= arrivals.before[:-1]).all()
        earliest: dict[int, int] = {}
        for number, before in zip(arrivals.number.tolist(), arrivals.before.tolist(), strict=True):
            earliest.setdefault(number, before)
        for entity, keys in zip(source.entities, events.entities, strict=True):
            rows = table.entity_keys(entity)
            for number, before in earliest.items():
                known_us, key = events.known_us[number], keys[number].as_py()
                counting = [at for at, of in enumerate(rows) if of == key and table.time_us[at] >= known_us]
                assert not counting or before <= counting[0]


def test_same_seed_same_plan():
    """A proof is repeated by its seed."""
    table = planned(1)
    one, other = replay_plan(table, 3), replay_plan(table, 3)
    assert one.stages == other.stages != replay_plan(table, 4).stages
