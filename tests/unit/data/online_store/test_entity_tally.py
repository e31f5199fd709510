"""The tally: what became of each entity does not depend on how its rows were cut into chunks."""

from __future__ import annotations

import itertools
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.online_store import Outcome, StoredRow, entity_tally, outcome
from data.online_store.entity_tally import EntityTally, EntityTotals

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([b"a", b"b"])), max_size=20)


def put(rows: list[StoredRow], stored: dict[str, StoredRow]) -> list[Outcome]:
    """Do what a store does with rows."""
    outcomes = []
    for row in rows:
        outcomes.append(outcome(row, stored.get(row.entity)))
        if outcomes[-1] in (Outcome.WRITTEN, Outcome.CORRECTED):
            stored[row.entity] = row
    return outcomes


def counted(rows: list[StoredRow], before: dict[str, StoredRow]) -> EntityTotals:
    """The totals, entity by entity."""
    written = unchanged = older = conflicting = 0
    for entity in {row.entity for row in rows}:
        theirs = [row for row in rows if row.entity == entity]
        held, latest = before.get(entity), max(row.event_us for row in theirs)
        if held is not None and held.event_us > latest:
            older += 1
            continue
        last = [row for row in theirs if row.event_us == latest]
        changes = sum(one != two for one, two in itertools.pairwise(last))
        conflicting += changes
        changed = held is None or held.event_us < latest or last[0] != held or changes
        written, unchanged = written + bool(changed), unchanged + (not changed)
    entities = written + unchanged + older
    return EntityTotals(written, unchanged, older, len(rows) - entities, conflicting)


@given(ROWS, ROWS, st.lists(st.integers(0, 20), max_size=3), st.sampled_from([0, 3, 1_000_000]))
def test_totals_are_those_of_the_entities(earlier, later, cuts, least_folded):
    """Entities written, unchanged and older, and conflicting rows, are as a count entity by entity has them.

    However often rows are folded into their entities on the way.
    """
    before, rows = (
        [StoredRow(f"k{entity}", event_us, payload) for entity, event_us, payload in drawn]
        for drawn in (earlier, later)
    )
    stored: dict[str, StoredRow] = {}
    put(before, stored)
    expected = counted(rows, dict(stored))
    tally = EntityTally()
    bounds = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    with patch.object(entity_tally, "_LEAST_FOLDED", least_folded):
        for start, end in itertools.pairwise(bounds):
            part = rows[start:end]
            tally.add(np.array([int(row.entity[1:]) for row in part], np.uint64), put(part, stored))
    assert tally.totals() == expected


def test_rows_that_had_expired_count_for_no_entity():
    """A row that the store refused for its age is counted apart, and its entity by its other rows."""
    tally = EntityTally()
    tally.add(np.array([1, 2, 2], np.uint64), [Outcome.EXPIRED, Outcome.EXPIRED, Outcome.WRITTEN])
    assert tally.totals() == EntityTotals(written=1, expired=2)
    assert EntityTally().totals() == EntityTotals()
