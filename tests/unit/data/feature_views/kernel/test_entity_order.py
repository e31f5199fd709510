"""Events in order: sorting, counts before a moment, and blocks of whole entities."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from data.feature_views.kernel.entity_blocks import entity_blocks
from data.feature_views.kernel.entity_order import SearchKeys, earlier, entity_order, stable_order
from data.feature_views.kernel.event_arrays import Events, Moments

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_NUMBERS = st.integers(_LOWEST, _HIGHEST) | st.integers(-3, 3)


@given(st.lists(_NUMBERS))
@example([_HIGHEST, _LOWEST, 0, _HIGHEST])
def test_the_order_is_the_stable_one(values: list[int]) -> None:
    """Of numbers with more bits than are left beside a place too."""
    expected = sorted(range(len(values)), key=values.__getitem__)
    assert stable_order(np.array(values, np.int64)).tolist() == expected


@given(st.lists(st.tuples(st.integers(-1, 2), _NUMBERS, st.integers(0, 3))))
def test_entity_comes_before_time_and_time_before_key(rows: list[tuple[int, int, int]]) -> None:
    """Whatever order the events come in."""
    columns = np.array(rows, np.int64).reshape(-1, 3).T
    assert entity_order(*columns).tolist() == sorted(range(len(rows)), key=rows.__getitem__)


@given(
    st.lists(st.tuples(st.integers(0, 3), _NUMBERS)),
    st.lists(st.tuples(st.integers(-1, 4), _NUMBERS), min_size=1),
    st.sampled_from(["left", "right"]),
)
@example([(0, _LOWEST), (3, _HIGHEST)], [(0, _HIGHEST), (3, _LOWEST), (3, _HIGHEST)], "right")
def test_events_before_a_moment_are_counted(
    events: list[tuple[int, int]], rows: list[tuple[int, int]], side: str
) -> None:
    """Entities and times that are together far beyond 64 bits are counted like any others."""
    held, asked = np.array(sorted(events), np.int64).reshape(-1, 2).T, np.array(rows, np.int64).T
    expected = []
    for entity, time in rows:
        before = [each < (entity, time) or (side == "right" and each == (entity, time)) for each in events]
        expected.append(0 if entity < 0 else sum(before))
    assert SearchKeys(*held).count(*asked, side).tolist() == expected


def test_a_window_that_begins_before_all_time_begins_with_it():
    """Instead of in the far future, as a difference that runs over would have it."""
    moved = earlier(np.array([_LOWEST + 5, 0, _HIGHEST]), 10)
    assert moved.tolist() == [_LOWEST, -10, _HIGHEST - 10]
    assert earlier(np.array([0]), 10**30).tolist() == [-(2**62)]


@given(st.lists(st.integers(-1, 4)), st.lists(st.integers(-1, 6)), st.integers(1, 6))
def test_blocks_have_whole_entities_and_every_row_once(events: list[int], rows: list[int], size: int) -> None:
    """A block has all events of its rows' entities, and only its last entity goes beyond the size."""
    held, asked = np.array(events, np.int64), np.array(rows, np.int64)
    times = [np.zeros(len(each), np.int64) for each in (held, asked)]
    given_ = Events({"u": held}, times[0], np.arange(len(held)), {})
    blocks = entity_blocks(given_, Moments({"u": asked}, times[1], np.arange(len(asked))), "u", size)
    assert sorted(place for block in blocks for place in block.rows.tolist()) == list(range(len(rows)))
    for block in blocks:
        entities = set(asked[block.rows].tolist())
        wanted = {at for at, each in enumerate(events) if each in entities and each >= 0}
        assert wanted <= set(block.events.tolist())
        assert all(events[at] >= 0 for at in block.events.tolist())
        members = [*asked[block.rows].tolist(), *held[block.events].tolist()]
        assert sum(each < max(members) for each in members) < size
