"""Frames: every cut of the stream gives the same frames, and nothing that is not one is taken for one."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.transport.framing import BadFrame, Frame, FrameKind, FrameReader, encode

FRAMES = st.lists(
    st.builds(
        Frame,
        st.sampled_from(list(FrameKind)),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=200),
    ),
    max_size=8,
)


def _bytes(frames: list[Frame]) -> bytes:
    return b"".join(encode(FrameKind(f.kind), f.call_id, f.payload, f.budget_ms) for f in frames)


@given(FRAMES, st.data())
def test_frames_survive_any_cut_of_the_stream(frames: list[Frame], data: st.DataObject) -> None:
    """However the network cuts the bytes, the same frames come out in order."""
    stream = _bytes(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader = FrameReader()

    found = [f for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) for f in reader.feed(stream[a:b])]

    assert frames == found


def test_a_large_frame_in_many_chunks_is_copied_a_few_times() -> None:
    """What reading a frame allocates grows with its size, not with its size times the number of chunks."""
    size, chunk = 4 << 20, 16 << 10
    stream = encode(FrameKind.ANSWER, 1, bytes(size))
    chunks = [stream[at : at + chunk] for at in range(0, len(stream), chunk)]
    reader = FrameReader()
    frames: list[Frame] = []
    allocated = 0
    tracemalloc.start()
    try:
        for each in chunks:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            frames += reader.feed(each)
            allocated += tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert [len(frame.payload) for frame in frames] == [size]
    assert allocated < 8 * size


@given(FRAMES.filter(bool))
def test_a_truncated_frame_is_waited_for(frames: list[Frame]) -> None:
    """Without its last byte the last frame does not come out, and with it does."""
    stream = _bytes(frames)
    reader = FrameReader()

    assert frames[:-1] == reader.feed(stream[:-1])
    assert frames[-1:] == reader.feed(stream[-1:])


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_waited_for(garbage: bytes) -> None:
    """Any bytes give frames of known kinds, a refusal, or nothing yet; never another error."""
    try:
        frames = FrameReader().feed(garbage)
    except BadFrame:
        return
    assert all(frame.kind in list(FrameKind) for frame in frames)


def test_an_oversized_frame_is_refused_by_its_header_alone() -> None:
    """A length over the limit is refused before any of the payload is held."""
    header = encode(FrameKind.CALL, 1, b"x" * 101)[:13]

    with pytest.raises(BadFrame, match="at most 100"):
        FrameReader(max_payload=100).feed(header)


def test_too_large_a_payload_is_not_sent() -> None:
    """A payload that the peer would refuse is refused here."""
    with pytest.raises(BadFrame, match="16,777,216"):
        encode(FrameKind.CALL, 1, bytes(16 * 1024 * 1024 + 1))
