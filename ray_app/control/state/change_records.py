"""What became of changes: the latest refusals, for whoever asks, and an audit entry for each change that is over."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from ray_app.control.rule_change import UNSHOWN, Outcome, RuleChange
from tune.registry.traffic_rules import TrafficRules

_MOST_REFUSALS = 20


class Refusal(NamedTuple):
    """Something that was asked for and refused, with the reason. `at` is seconds since 1970."""

    at: float
    who: str
    what: str
    reason: str


class ChangeRecords:
    """Ends changes and records how they ended. Belongs to one event loop.

    Args:
        audit: called with an entry for every change that was committed or refused.
        wall: seconds since 1970, for records only.
    """

    def __init__(
        self, audit: Callable[[dict[str, Any]], None] = lambda entry: None, wall: Callable[[], float] = time.time
    ) -> None:
        self.refusals: deque[Refusal] = deque(maxlen=_MOST_REFUSALS)
        """The latest ones, the newest last."""
        self._audit = audit
        self._wall = wall

    def note(self, who: str, what: str, reason: str) -> None:
        """Record a refusal of something that is no change of the rules, or did not become one."""
        self.refusals.append(Refusal(self._wall(), who, what, reason))

    def refuse(self, change: RuleChange, reason: str, rules: TrafficRules) -> None:
        """End a change as refused; `rules` are those that stay in force."""
        change.outcome, change.reason = Outcome.REFUSED, reason
        self.note(change.origin.who, "traffic rules", reason)
        self._record(change, rules)

    def commit(self, change: RuleChange, before: TrafficRules, epoch: int) -> None:
        """End a change as committed: its rules took the place of those before, in this epoch."""
        change.outcome, change.epoch = Outcome.COMMITTED, epoch
        self._record(change, before)

    def plain(self) -> list[dict[str, Any]]:
        """The refusals as plain JSON."""
        return [refusal._asdict() for refusal in self.refusals]

    def _record(self, change: RuleChange, before: TrafficRules) -> None:
        self._audit({"at": self._wall(), **change.plain(), "before": before.model_dump(mode="json", exclude=UNSHOWN)})
