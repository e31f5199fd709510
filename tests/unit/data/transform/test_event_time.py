"""Event times as text: a column that is read in parts is refused where the whole one is."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.transform.event_time import check_forms, event_us, time_forms

_TEXTS = [
    "2024-05-31T14:30:00",
    "2024-05-31 14:30:00.123456789",
    "2024-05-31T14:30:00Z",
    "2024-05-31 14:30:00.123456789+02:00",
    "2024-05-31",
    "3024-05-31",
    " ",
    None,
    "soon",
]


@given(st.lists(st.lists(st.sampled_from(_TEXTS), min_size=1, max_size=4), min_size=1, max_size=4))
def test_parts_are_refused_where_the_whole_is(parts: list[list[str | None]]):
    """With and without zones, more digits than a unit has, years beyond another's, blanks, and what is no time."""
    chunks = [pa.array(part, pa.string()) for part in parts]

    def apart() -> None:
        check_forms("t", [time_forms(pa.chunked_array([chunk]), "t") for chunk in chunks])

    def whole() -> None:
        event_us(pa.chunked_array(chunks), "t")

    assert _refused(apart) == _refused(whole)


def test_zones_that_differ_are_said_to():
    """Not as some value that is no time, which it is not."""
    with pytest.raises(DataError, match="column 't': some of its times name a zone and others none"):
        event_us(pa.chunked_array([pa.array(["2024-05-31T14:30:00+02:00", "2024-05-31"])]), "t")
    with pytest.raises(DataError, match=r"column 't': not ISO 8601 times: .*soon"):
        event_us(pa.chunked_array([pa.array(["soon"])]), "t")


def _refused(read) -> bool:
    try:
        read()
    except DataError:
        return True
    return False
