"""A change of the traffic rules on its way: proposed, prepared, then committed or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from data.errors import RayscoreError
from tune.registry.traffic_rules import TrafficRules

_PREPARE_S = 60.0
"""A change that replicas have not prepared in this time is refused."""
_FETCH_S = 20.0
"""The same of one whose bundles the registry does not give: others wait meanwhile, and it may be down for hours."""

REGISTRY = "registry"
"""Who wants a change that the registry's alias or tag asks for."""

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
    unfetched: str = ""
    """Why the registry did not give what the change needs when it was last asked; empty while it does."""

    def overdue(self, missing: Sequence[str], now: float) -> str | None:
        """Why it is to be refused because its time is over, None while it is not.

        Args:
            missing: versions whose bundles the registry has not given yet.
            now: monotonic seconds.
        """
        waited = now - self.since
        if missing:
            return self.unavailable(missing, now) if waited > (_FETCH_S if self.unfetched else _PREPARE_S) else None
        return f"not every replica held its versions after {_PREPARE_S:g} s" if waited > _PREPARE_S else None

    def unavailable(self, missing: Sequence[str], now: float) -> str:
        """The reason to give it up for want of bundles."""
        which, why = ", ".join(missing), self.unfetched or "the fetch goes on"
        return f"registry unavailable: version {which} was not to be had in {now - self.since:.0f} s ({why})"

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


def require_servable(rules: TrafficRules, in_force: TrafficRules, most: int, moves_champion: bool) -> None:
    """Raise ChangeRefused when rules cannot follow those in force.

    Args:
        rules: those wanted.
        in_force: those that replicas answer by.
        most: versions that a replica may hold.
        moves_champion: the rules may name another champion.
    """
    if rules.use_case != in_force.use_case:
        raise ChangeRefused(f"the rules are of use case '{rules.use_case}', '{in_force.use_case}' is served")
    if len(rules.versions) > most:
        named = len(rules.versions)
        raise ChangeRefused(f"the rules name {named} versions, at most {most} are held (RAYSCORE_VERSIONS_HELD)")
    together = len({*rules.versions, *in_force.versions})
    if together > most:
        raise ChangeRefused(
            f"the old and the new rules name {together} versions together, at most {most} are held "
            "(RAYSCORE_VERSIONS_HELD): take one out first"
        )
    if rules.champion != in_force.champion and not moves_champion:
        raise ChangeRefused(f"the champion is version {in_force.champion}: promote version {rules.champion} first")
