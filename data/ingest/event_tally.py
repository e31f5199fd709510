"""What became of the rows or messages of one source: every one of them is in exactly one count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from data.event_store import EventOutcome
from data.feature_views.events.event import Event, shown_key
from data.online_store.left_out import LeftOutRows

_NAMED = 3


@dataclass
class EventTally:
    """The counts of one source. `read` is the sum of the outcomes and of what was left out."""

    read: int = 0
    """Rows or messages."""
    under_way: int = 0
    """Events that were given to the store, which has not said what became of them."""
    outcomes: Counter[EventOutcome] = field(default_factory=Counter)
    """Events that came to the store, by what became of them."""
    left_out: dict[str, LeftOutRows] = field(default_factory=dict)
    """Rows or messages that are no event, by reason."""
    without: Counter[str] = field(default_factory=Counter)
    """By entity how many of the events name none."""
    conflicting: list[int | str] = field(default_factory=list)
    """The keys of the first events that were refused for another content of their key."""

    @property
    def left_out_count(self) -> int:
        """How many were left out for any reason."""
        return sum(rows.count for rows in self.left_out.values())

    def stored(self, events: Sequence[Event], outcomes: Iterable[EventOutcome]) -> None:
        """Count events that came to the store, with what became of each."""
        outcomes = list(outcomes)
        counts = Counter(outcomes)
        self.outcomes += counts
        if counts[EventOutcome.CONFLICT] and len(self.conflicting) < _NAMED:
            refused = [e for e, what in zip(events, outcomes, strict=True) if what is EventOutcome.CONFLICT]
            self.conflicting += [shown_key(each.key) for each in refused[: _NAMED - len(self.conflicting)]]

    def leave_out(self, reason: str, rows: LeftOutRows) -> None:
        """Count rows or messages that are no event."""
        self.left_out[reason] = self.left_out.get(reason, LeftOutRows()) + rows
