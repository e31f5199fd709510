"""A change of the traffic rules on its way: proposed, prepared, then committed or refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from data.errors import RayscoreError
from tune.registry.traffic_rules import TrafficRules

UNSHOWN: Any = {"epoch": True, "challengers": {"__all__": {"buckets"}}}
"""What of rules is not shown where a change is: the change has its own epoch, and buckets are thousands."""


class ChangeRefused(RayscoreError):
    """A change of the rules is not possible; nothing changed. The text says why."""


class ChangeConflict(ChangeRefused):
    """The rules have changed since the change was thought of, or another change is under way."""


class Outcome(str, Enum):
    """What became of a change."""

    PREPARING = "preparing"
    COMMITTED = "committed"
    REFUSED = "refused"
    SUPERSEDED = "superseded"


class Origin(NamedTuple):
    """Who wants a change: "registry", "admin", "rollout"; from which address; what for."""

    who: str
    source: str = ""
    why: str = ""


@dataclass
class RuleChange:
    """One change. `epoch` is that of the rules once they are committed."""

    rules: TrafficRules
    origin: Origin
    since: float
    """Monotonic time of the proposal."""
    outcome: Outcome = Outcome.PREPARING
    reason: str = ""
    epoch: int | None = None

    @property
    def over(self) -> bool:
        """True when nothing more becomes of it."""
        return self.outcome is not Outcome.PREPARING

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "rules": self.rules.model_dump(mode="json", exclude=UNSHOWN),
            "who": self.origin.who,
            "source": self.origin.source,
            "why": self.origin.why,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "epoch": self.epoch,
        }


class Refusal(NamedTuple):
    """Why something that was asked for does not serve. `at` is seconds since 1970."""

    at: float
    who: str
    what: str
    reason: str
