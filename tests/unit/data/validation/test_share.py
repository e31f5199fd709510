"""Shares: how they are shown, and when two of them differ."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.validation.share import Share


@pytest.mark.parametrize(
    ("count", "rows", "shown"),
    [
        (0, 7, "0.00 %"),
        (1, 1_000_000, "<0.01 %"),
        (1, 3, "33.33 %"),
        (999_999, 1_000_000, ">99.99 %"),
        (7, 7, "100.00 %"),
        (0, 0, "0.00 %"),
    ],
)
def test_share_is_shown_in_percent(count, rows, shown):
    """Few are not shown as none, nor nearly all as all."""
    assert str(Share(count, rows)) == shown


@pytest.mark.parametrize(
    ("then", "now", "differs"),
    [
        ((0, 12_000), (100, 20_000), True),  # never missing then, half a percent now
        ((0, 12_000), (1, 20_000), False),
        ((0, 12_000), (1, 1), True),  # a single row lacks what 12,000 had
        ((5_000, 12_000), (3, 3), False),
        ((600, 12_000), (1_060, 20_000), False),  # 5 % and 5.3 %
        ((600, 12_000), (2_000, 20_000), True),
        ((12_000, 12_000), (0, 20_000), True),
        ((0, 0), (5, 10), False),  # nothing is known of then
    ],
)
def test_shares_differ_when_chance_does_not_explain_it(then, now, differs):
    """Two shares differ by their distance and by how many rows each is of, whichever comes first."""
    assert Share(*then).differs(Share(*now)) is differs
    assert Share(*now).differs(Share(*then)) is differs


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 50))
def test_equal_shares_do_not_differ(count, more, times):
    """A share differs neither from itself nor from the same share of more rows."""
    share = Share(count, count + more)
    assert not share.differs(Share(count * times, (count + more) * times))
