"""Spans of time, and which of them tiles take: what the tiles of every store have in common."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from data.feature_views.online.tiles import Tile, TilePlan

NEVER_US = -(2**63)
"""When an event became known of a tile that has none."""


class Span(NamedTuple):
    """A span of time, [start_us, end_us)."""

    start_us: int
    end_us: int


class FoldedTile(NamedTuple):
    """A tile as a store holds it."""

    start_us: int
    end_us: int
    last_us: int | None
    known_us: int
    """When the last of its events became known; before any time when it has none."""
    payload: bytes


def gaps(span: Span, tiles: Sequence[Tile] | Sequence[Span] | Sequence[FoldedTile]) -> Iterator[Span]:
    """Yield what tiles, in order, leave of a span."""
    at = span.start_us
    for tile in tiles:
        if at < tile.start_us:
            yield Span(at, tile.start_us)
        at = max(at, tile.end_us)
    if at < span.end_us:
        yield Span(at, span.end_us)


def inside(span: Span, others: Sequence[Span]) -> list[Span]:
    """Return what of a span lies in others, which are in order and may overlap."""
    found: list[Span] = []
    for start_us, end_us in others:
        start_us = max(start_us, found[-1].end_us if found else span.start_us)
        if start_us < (end_us := min(end_us, span.end_us)):
            found.append(Span(start_us, end_us))
    return found


def merged_us(parts: Sequence[FoldedTile]) -> tuple[int | None, int]:
    """Return `last_us` and `known_us` of the tile that some are made one of."""
    last_us = max((part.last_us for part in parts if part.last_us is not None), default=None)
    return last_us, max(part.known_us for part in parts)


def divided(plan: TilePlan, reach_us: int, time_us: int, instants: Collection[int]) -> list[Span]:
    """Return the spans that a slice has between the ends of its windows; each of some instants is one by itself.

    Args:
        plan: what the tiles of the slice hold.
        reach_us: how far back the slice reaches, in microseconds.
        time_us: the row's time.
        instants: times whose events are looked at one by one.
    """
    first, end = time_us - reach_us + 1, time_us + 1
    ends = {time_us + cut for cut in plan.cuts} | {*instants} | {instant + 1 for instant in instants}
    inside = sorted(each for each in ends if first < each < end)
    return [Span(*each) for each in pairwise([first, *inside, end])]


def joined(spans: Sequence[Span]) -> list[Span]:
    """Return spans, in order, with those that adjoin made one."""
    found: list[Span] = []
    for span in spans:
        if found and found[-1].end_us == span.start_us:
            found[-1] = Span(found[-1].start_us, span.end_us)
        else:
            found.append(span)
    return found


def tile_groups(parts: Sequence[Span], made: Sequence[Span], fan_out: int) -> Iterator[Span]:
    """Yield the spans of the tiles that are to be made of adjoining tiles which are in none yet.

    Those before a tile that is there are all taken, at most twice `fan_out` together; of those at the end only as many
    as fill a tile, since further ones are to come.

    Args:
        parts: tiles of the level below, in order.
        made: tiles that are there, in order.
        fan_out: how many tiles make one.
    """
    for run, closed in _runs(parts, made):
        at = 0
        while len(run) - at >= (2 * fan_out if closed else fan_out):
            yield Span(run[at].start_us, run[at + fan_out - 1].end_us)
            at += fan_out
        if closed and at < len(run):
            yield Span(run[at].start_us, run[-1].end_us)


def _runs(parts: Sequence[Span], made: Sequence[Span]) -> Iterator[tuple[list[Span], bool]]:
    """Yield the tiles in none yet, in runs that adjoin, each with whether one that is made adjoins its end."""
    starts, run = [span.start_us for span in made], []
    for part in parts:
        at = bisect_right(starts, part.start_us) - 1
        inside = at >= 0 and made[at].end_us >= part.end_us
        adjoins = bool(run) and run[-1].end_us == part.start_us
        if run and (inside or not adjoins):
            yield run, inside and adjoins
            run = []
        if not inside:
            run.append(part)
    if run:
        yield run, False
