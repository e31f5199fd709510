"""A change of the traffic rules on its way: proposed, prepared, then committed or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from data.errors import RayscoreError
from tune.registry.traffic_rules import TrafficRules

_PREPARE_S = 60.0
"""A change is refused when replicas have not loaded its versions in this time."""
_FETCH_S = 20.0
"""The limit while the registry is down: it may be for hours, and other changes wait for this one."""

REGISTRY = "registry"
"""`Origin.who` of a change that the registry's alias or tag asks for."""

UNSHOWN: Any = {"epoch": True, "challengers": {"__all__": {"buckets"}}}
"""Fields of the rules left out where a change is shown: it has its own epoch, and there are thousands of buckets."""


class ChangeRefused(RayscoreError):
    """A change of the rules is not possible; nothing changed. The text says why."""


class ChangeConflict(ChangeRefused):
    """Other rules are in force than those the change was made for, or another change is under way."""


class Outcome(str, Enum):
    """The states of a change."""

    PREPARING = "preparing"
    COMMITTED = "committed"
    REFUSED = "refused"
    SUPERSEDED = "superseded"


class Origin(NamedTuple):
    """Who asked for a change: `who` is "registry", "admin" or "rollout", `source` an address, `why` the reason."""

    who: str
    source: str = ""
    why: str = ""


@dataclass
class RuleChange:
    """One change of the traffic rules. `epoch` is None until it is committed, then that of the rules in force."""

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
        """The reason to refuse the change because it took too long, None while it has time.

        Args:
            missing: versions whose bundles the registry has not given yet.
            now: monotonic seconds.
        """
        waited = now - self.since
        if missing:
            return self.unavailable(missing, now) if waited > (_FETCH_S if self.unfetched else _PREPARE_S) else None
        return f"not every replica held its versions after {_PREPARE_S:g} s" if waited > _PREPARE_S else None

    def unavailable(self, missing: Sequence[str], now: float) -> str:
        """The reason to refuse the change because bundles could not be fetched."""
        which, why = ", ".join(missing), self.unfetched or "the fetch goes on"
        return f"registry unavailable: version {which} was not to be had in {now - self.since:.0f} s ({why})"

    @property
    def over(self) -> bool:
        """True once the change is committed, refused or superseded."""
        return self.outcome is not Outcome.PREPARING

    def plain(self) -> dict[str, Any]:
        """The change as plain JSON."""
        return {
            "rules": self.rules.model_dump(mode="json", exclude=UNSHOWN),
            "who": self.origin.who,
            "source": self.origin.source,
            "why": self.origin.why,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "epoch": self.epoch,
        }


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
