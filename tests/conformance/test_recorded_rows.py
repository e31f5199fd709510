"""The conformance suite of the event stores: rows that are recorded, each seeing those before it."""

from __future__ import annotations

from data.event_store import EventOutcome, OwnEvent
from data.feature_views.events.event import event_key
from tests.support.services.event_stores import NOW, Open, fetch, row, seen, swipe, swiped


def test_rows_of_one_call_see_those_before_them(open_: Open):
    """Many recorded rows in one call are taken in their order, and each sees those before it and itself."""
    answers = fetch(open_(), *(swiped(at) for at in range(40)))
    assert [len(each.events[0]) for each in answers] == list(range(1, 41))
    times = [each.time_us for each in answers]
    assert times == sorted(set(times))
    assert {each.outcomes for each in answers} == {(EventOutcome.TAKEN,)}


def test_a_row_recorded_again_has_the_time_it_had(open_: Open, looks: bool):
    """Sent again without a time, by whatever way, it is one event at its first time and sees what it saw."""
    store = open_()
    first = fetch(store, swiped("a"))[0]
    fetch(store, swiped("b"))
    again = fetch(open_(), swiped("a"))[0]
    assert again == first._replace(outcomes=(EventOutcome.REPEATED,))
    later = fetch(store, row("?", None, "c"))[0].events[0]
    assert [event.key for event in later] == [event_key("a"), event_key("b")]


def test_a_row_with_a_time_keeps_it(open_: Open):
    """A recorded row that comes with its time is an event at that time, and sees none that are later."""
    store = open_()
    store.append("swipes", [swipe("late", NOW + 5), swipe("early", NOW - 5)])
    answer = fetch(store, swiped("a", time_us=NOW))[0]
    assert (answer.time_us, answer.outcomes) == (NOW, (EventOutcome.TAKEN,))
    assert [event.key for event in answer.events[0]] == [event_key("early"), event_key("a")]


def test_an_event_that_is_not_to_be_recorded_is_not(open_: Open):
    """The own event of a row counts in the row's windows by `WindowPlan` alone."""
    store = open_()
    own = OwnEvent("swipes", swipe("a", NOW), False)
    answer = fetch(store, row("a", NOW, "c", own=[own]))[0]
    assert (answer.outcomes, answer.events) == ((), ([],))
    assert seen(store, NOW, "c") == [[]]


def test_what_one_store_records_another_sees(open_: Open):
    """The next row, at whichever store of whichever process, sees the one before: 0, 1, ..., 19."""
    stores = [open_(), open_()]
    before = [len(fetch(stores[at % 2], swiped(at))[0].events[0]) - 1 for at in range(20)]
    assert before == list(range(20))
