"""How the events of one entity are read, in rounds of queries: all at once, or from its tiles and what they leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from data.event_store.cassandra.event_pages import EventPages
from data.event_store.cassandra.event_rows import EventRows, events_of
from data.event_store.cassandra.hot_entities import HotEntity
from data.event_store.cassandra.late_marks import MarkRows, Marks
from data.event_store.cassandra.tile_rows import HotPlace
from data.event_store.tile_spans import Span, divided, gaps, inside, joined
from data.feature_views.online.stored_events import NO_EVENTS
from data.feature_views.online.tiles import Tile, TilePlan

if TYPE_CHECKING:
    from cassandra.query import Statement


PAGE = 2048
"""Most events that a query may find."""


class SliceQuery(NamedTuple):
    """What is read of one entity for one row."""

    place: HotPlace
    plan: TilePlan | None
    """What its tiles hold; None: none are read."""
    reach_us: int
    time_us: int
    """The row's time."""
    own: tuple[bytes, ...]
    """Keys of the events of the source that the row itself is."""

    @property
    def span(self) -> Span:
        """The time that is read."""
        return Span(self.time_us - self.reach_us + 1, self.time_us + 1)


class PlainRead:
    """Reads all events.

    Args:
        rows: makes the statements.
        query: what is read.
        few: whether to end when there are more than a page of them: from tiles they are read sooner.
    """

    def __init__(self, rows: EventRows, query: SliceQuery, *, few: bool) -> None:
        self.query = query
        self.over = False
        """Whether there are too many events."""
        self.events = NO_EVENTS
        self.tiles: list[Tile] = []
        self.spans = 1
        self.long = not few
        """Whether pages of very many events are read, which is not done as soon as what an ordinary entity has."""
        self._few = few
        self._pages = EventPages(rows, query.place.entity, [query.span], PAGE)
        self.statements: Sequence[Statement] = self._pages.statements
        """What has to be asked next; nothing when all is read."""

    def take(self, answers: Sequence[Sequence[Any]]) -> None:
        """Take in the answers to the statements."""
        if self._pages.take(answers):
            self.events = events_of(self._pages.found)
        else:
            self.over = self._few
        self.statements = () if self.over else self._pages.statements


class TiledRead:
    """Reads tiles in place of events where they are valid.

    With the events that no tile has, the marks of days are asked for; where they have changed, those of their cells.
    What tiles turn out not to be valid, or have a key that an event has, too, is read from events in a further round.

    Args:
        rows: makes the statements for events.
        marks: makes those for marks.
        entity: the tiles.
        query: what is read.
    """

    def __init__(self, rows: EventRows, marks: MarkRows, entity: HotEntity, query: SliceQuery, plan: TilePlan) -> None:
        self.query = query
        self.over = False
        """Whether the tiles cannot be used: the entity is not registered as it was."""
        self.long = False
        """Whether pages of very many events are read."""
        self.events = NO_EVENTS
        """Those that are in no tile of `tiles`, ascending in time and key."""
        self.tiles: list[Tile] = []
        self._marks, self._entity = marks, entity
        self._spans = divided(plan, query.reach_us, query.time_us, (query.time_us,))
        self.spans = len(self._spans)
        self._avoid = {*entity.avoid, *entity.shelf.with_keys(query.own)}
        self._asked: list[Span] = []
        self._pages = EventPages(rows, query.place.entity, (), PAGE)
        self._checked: set[bytes] = set()
        self._present: Marks | None = None
        self._days: list[int] = []
        self._heads = 1
        self._cover()
        self.statements: Sequence[Statement] = [marks.read_days(query.place.entity), *self._pages.statements]

    def take(self, answers: Sequence[Sequence[Any]]) -> None:
        """Take in the answers to the statements."""
        days, found = self._marked(answers[: self._heads]), answers[self._heads :]
        if self.over:
            self.statements = ()
            return
        self.long = not self._pages.take(found)
        before = len(self._avoid)
        self._avoid.update(self._entity.avoid)
        self._avoid_shared_keys()
        cells = [self._marks.read_cells(self.query.place.entity, days)] if days else []
        self._days, self._heads = days, len(cells)
        if len(self._avoid) > before:
            self._cover()
        self.statements = [*cells, *self._pages.statements]
        if not self.statements:
            self.events = events_of(self._pages.found)

    def _avoid_shared_keys(self) -> None:
        """Avoid tiles with a key that an event outside of all tiles has; those that are avoided count as none."""
        shelf, before = self._entity.shelf, -1
        while before != (before := len(self._avoid)):
            rows = (row for rows in self._pages.found for row in rows)
            keys = {*shelf.unseen(rows, sorted(self._avoid))} - self._checked
            self._avoid.update(shelf.with_keys(keys))
            self._checked |= keys

    def _marked(self, heads: Sequence[Sequence[Any]]) -> list[int]:
        """Take in marks; return the days whose cells have to be looked at."""
        if self._present is None:
            self._present = Marks(heads[0])
            self.over = self._present.registration != self._entity.marks.registration
            return self._entity.changed_days(self._present)
        if heads:
            self._entity.note(self._days, self._present, Marks(heads[0]))
        return []

    def _cover(self) -> None:
        """Choose the tiles, and ask for what they leave and was not asked for yet."""
        time_us = self.query.time_us
        spans = [span for span in self._spans if span.start_us != time_us]
        self.tiles, left = self._entity.shelf.cover(spans, time_us, sorted(self._avoid))
        new = [
            gap for span in joined([*left, Span(time_us, time_us + 1)]) for gap in gaps(span, inside(span, self._asked))
        ]
        self._asked = joined(sorted([*self._asked, *new]))
        self._pages.want(new)
