"""The events of an entity in some spans of time, page by page: a query for very many would be too much for a node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from data.event_store.cassandra.event_rows import EventRows
from data.event_store.cassandra.late_marks import EntityPlace
from data.event_store.tile_spans import Span

if TYPE_CHECKING:
    from cassandra.query import Statement


class EventPages:
    """Asks for events in rounds.

    Args:
        rows: makes the statements.
        place: whose events.
        spans: the spans of time.
        size: most events that a query may find.
    """

    def __init__(self, rows: EventRows, place: EntityPlace, spans: Iterable[Span], size: int) -> None:
        self.found: list[Sequence[Any]] = []
        """The rows of each answer so far."""
        self._rows = rows
        self._place = place
        self._size = size
        self._next: list[_Page] = []
        self.want(spans)

    @property
    def statements(self) -> list[Statement]:
        """What has to be asked next; nothing when all is read."""
        return [self._statement(page) for page in self._next]

    def want(self, spans: Iterable[Span]) -> None:
        """Ask for further spans, too."""
        self._next += [_Page(buckets, span, None) for span in spans for buckets in self._rows.parts(span)]

    def take(self, answers: Iterable[Sequence[Any]]) -> bool:
        """Take in the answers to the statements; return whether each of them was less than a page."""
        asked, self._next = self._next, []
        for page, rows in zip(asked, answers, strict=True):
            if len(rows) >= self._size and len(page.buckets) > 1:
                # Of several partitions it is not said whose events were left out: each by itself, from its beginning.
                self._next += [_Page([bucket], page.span, (page.span.start_us, b"")) for bucket in page.buckets]
                continue
            self.found.append(rows)
            if len(rows) >= self._size:
                self._next.append(page._replace(after=(rows[-1][0], rows[-1][1])))
        return not self._next

    def _statement(self, page: _Page) -> Statement:
        if page.after is None:
            return self._rows.read(self._place, page.buckets, page.span, self._size)
        return self._rows.page(self._place, page.buckets[0], page.after, page.span.end_us, self._size)


class _Page(NamedTuple):
    buckets: Sequence[int]
    span: Span
    after: tuple[int, bytes] | None
    """Time and key of the last event that was found; None before the first page."""
