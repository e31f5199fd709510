"""Messages between gateway and feature-fetch replica: what is packed comes out again, to the bit."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from data.event_store import EventOutcome, OwnEvent, RowQuery
from data.feature_views.events.event import Event
from ray_app.inference.features import feature_messages
from ray_app.inference.stages import FetchedRows
from ray_app.prediction import RowWindows
from tests.support.serving.window_app import bits

_NUMBERS = st.one_of(st.floats(), st.integers(-(2**60), 2**60).map(float))
_EVENTS = st.builds(
    Event,
    st.binary(max_size=9),
    st.integers(-(2**60), 2**60),
    st.integers(-(2**60), 2**60),
    st.lists(st.none() | st.text(max_size=3), max_size=3).map(tuple),
    st.binary(max_size=9),
)
_QUERIES = st.lists(
    st.builds(
        RowQuery,
        st.binary(max_size=9),
        st.none() | st.integers(-(2**60), 2**60),
        st.lists(st.none() | st.text(max_size=3), max_size=3).map(tuple),
        st.lists(st.builds(OwnEvent, st.text(max_size=5), _EVENTS, st.booleans()), max_size=2).map(tuple),
    ),
    max_size=4,
)
_WINDOWS = st.lists(
    st.builds(
        RowWindows,
        st.integers(-(2**60), 2**60),
        st.lists(_NUMBERS | st.text(max_size=3), max_size=4),
        st.lists(st.integers(0, 2**40), max_size=4),
        st.none() | st.integers(-(2**60), 2**60),
        st.lists(st.sampled_from(EventOutcome), max_size=2),
        st.booleans(),
    ),
    max_size=4,
)


@given(_QUERIES, _WINDOWS, st.lists(st.none() | st.binary(max_size=5), max_size=4))
@settings(max_examples=50, deadline=None)
def test_messages_keep_every_bit(queries: list[RowQuery], windows: list[RowWindows], stored: list[bytes | None]):
    """What gateway and replica send each other arrives as it was sent, NaN and infinities included."""
    assert feature_messages.queries_of(feature_messages.unpack(feature_messages.pack(queries))) == queries
    packed = feature_messages.pack_fetched(FetchedRows(stored, windows))
    arrived = feature_messages.unpack_fetched(packed)
    assert feature_messages.pack_fetched(arrived) == packed
    assert arrived.stored == stored
    assert [bits(v) for each in arrived.windows for v in each.values] == [  # pyright: ignore
        bits(v) for each in windows for v in each.values
    ]
