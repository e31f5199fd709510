"""The actions of the admin API: each becomes a change of the traffic rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data.errors import ConfigError, faults
from ray_app.control.controller import Controller
from ray_app.control.registry_state import PREVIOUS_TAG, following
from ray_app.control.rule_change import ChangeRefused, Origin, RuleChange
from tune.registry.traffic_rules import Challenger, Mode, TrafficRules, Version, parse_rules

_MOST_ATTEMPTS = 100


class _Told(BaseModel):
    """Fields that every action takes: `epoch` of the rules it was made for, `why`, and `attempt`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: Annotated[int, Field(ge=1)] | None = None
    why: Annotated[str, Field(max_length=1000)] = ""
    attempt: Annotated[str, Field(max_length=200)] = ""
    """Names the request: one that arrives a second time has the same, and is one change; empty for none."""


class _Rules(_Told):
    rules: dict[str, Any]


class _Weight(_Told):
    version: Version
    weight: Annotated[float, Field(ge=0, le=100)] | None
    mode: Mode = Mode.LIVE


class _Promote(_Told):
    version: Version


class _Rollback(_Told):
    pass


class AdminActions:
    """Begins actions on one Control, each attempt once: HAProxy sends a request again when its gateway died."""

    def __init__(self, control: Controller) -> None:
        self._control = control
        self._begun: dict[str, RuleChange] = {}

    def begin(self, action: str, told: dict[str, Any], source: str, now: float) -> RuleChange:
        """As the function `begin`; for an attempt that was begun before, return its change."""
        attempt = str(told.get("attempt") or "")
        if attempt in self._begun:
            return self._begun[attempt]
        change = begin(self._control, action, told, source, now)
        if attempt:
            self._begun[attempt] = change
            if len(self._begun) > _MOST_ATTEMPTS:
                del self._begun[next(iter(self._begun))]
        return change


def begin(control: Controller, action: str, told: dict[str, Any], source: str, now: float) -> RuleChange:
    """Begin the change that an action asks for.

    Args:
        control: the Control to change.
        action: "rules", "weight", "promote" or "rollback".
        told: the decoded body.
        source: the address that asks.
        now: monotonic seconds.

    Raises:
        ConfigError: the body is not what the action takes; the text names the key.
        ChangeRefused, ChangeConflict: as `Controller.propose`.
    """
    kind, act = _ACTIONS[action]
    try:
        read = kind.model_validate(told)
    except ValidationError as exc:
        raise ConfigError(f"{action}: {faults(exc)[0]}") from exc
    origin = Origin("admin", source, read.why or action)
    return act(control, read, origin, now)


def _set_rules(control: Controller, told: _Rules, origin: Origin, now: float) -> RuleChange:
    given = {"use_case": control.rules.use_case, "champion": control.rules.champion, **told.rules}
    return control.propose(parse_rules(given, "rules"), origin, now, base=told.epoch)


def _set_weight(control: Controller, told: _Weight, origin: Origin, now: float) -> RuleChange:
    others = [each for each in control.rules.challengers if each.version != told.version]
    weighed = [] if told.weight is None else [Challenger(version=told.version, weight=told.weight, mode=told.mode)]
    given = control.rules.model_dump(mode="json") | {
        "challengers": [each.model_dump(mode="json") for each in (*others, *weighed)]
    }
    return control.propose(parse_rules(given, "weight"), origin, now, base=told.epoch)


def _promote(control: Controller, told: _Promote, origin: Origin, now: float) -> RuleChange:
    live = [each.version for each in control.rules.challengers if each.mode is Mode.LIVE]
    if told.version not in live:
        known = ", ".join(live) or "none"
        raise ChangeRefused(
            f"version {told.version} answers nobody yet: only a live challenger is promoted here (there are: {known}); "
            "`rayscore promote` promotes any version that passes the gates"
        )
    rules = following(control.rules, told.version)
    return control.propose(rules, origin, now, base=told.epoch, moves_champion=True)


def _roll_back(control: Controller, told: _Rollback, origin: Origin, now: float) -> RuleChange:
    rules = rolled_back(control.rules, control.truth.tags.get(PREVIOUS_TAG))
    return control.propose(rules, origin, now, base=told.epoch, moves_champion=True, instead=True)


def rolled_back(rules: TrafficRules, previous: str | None) -> TrafficRules:
    """The rules of a rollback: without live challengers if there are some, else of the previous champion; shadows stay.

    Raises:
        ChangeRefused: there is neither.
    """
    if any(each.mode is Mode.LIVE for each in rules.challengers):
        return rules.model_copy(update={"challengers": rules.shadows})
    if previous is None or previous == rules.champion:
        raise ChangeRefused("there is nothing to go back to: no live challenger, and no champion before this one")
    return following(rules, previous)


_ACTIONS: dict[str, tuple[type[_Told], Callable[[Controller, Any, Origin, float], RuleChange]]] = {
    "rules": (_Rules, _set_rules),
    "weight": (_Weight, _set_weight),
    "promote": (_Promote, _promote),
    "rollback": (_Rollback, _roll_back),
}
