"""What the benchmark of served windows says of what gateways saw, and the bodies that it compares."""

from __future__ import annotations

from benchmarks.workloads.window_checks import Seen
from benchmarks.workloads.windows import as_sent, swipes


def test_swipes_that_were_lost_or_doubled_are_told():
    """One lost of fifty at once and a number seen twice show up; so does a swipe in turn that saw too few."""
    whole = Seen([0.001], 1, [*range(50)], [*range(50)], 50)
    assert (whole.swipes, whole.lost, whole.numbers) == ("0, 1, ..., 49", 0, 50)
    faulty = Seen([0.001], 0, [0, 1, 1, *range(3, 50)], [0, *range(49)], 49)
    assert faulty.swipes.startswith("0, 1, 1, 3, ")
    assert (faulty.lost, faulty.numbers) == (1, 49)


def test_windows_take_the_place_of_entities_in_what_is_sent():
    """The peer gets the values of the windows, none for one without a value, and no column of an entity."""
    (body,) = swipes("c1", [12.5])
    assert as_sent(body, {"card_count_1d": 0.0, "card_mean_1d": None}) == {
        "amount": 12.5,
        "foreign": False,
        "card_count_1d": 0.0,
    }
