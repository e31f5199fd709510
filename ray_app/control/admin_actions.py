"""The actions of the admin API. Each is translated into a change of the traffic rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data.errors import ConfigError, faults
from ray_app.control.controller import Controller
from ray_app.control.rule_change import ChangeRefused, Origin, RuleChange
from ray_app.control.state.registry_state import PREVIOUS_TAG, with_champion
from tune.registry.traffic_rules import Challenger, Mode, TrafficRules, Version, parse_rules

_MOST_ATTEMPTS = 100


class _ActionBody(BaseModel):
    """Fields of every action's body: `epoch` of the rules that it was made for, `why`, and `attempt`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: Annotated[int, Field(ge=1)] | None = None
    why: Annotated[str, Field(max_length=1000)] = ""
    attempt: Annotated[str, Field(max_length=200)] = ""
    """Idempotency key: requests with the same key are one change; empty for none."""


class _Rules(_ActionBody):
    rules: dict[str, Any]


class _Weight(_ActionBody):
    version: Version
    weight: Annotated[float, Field(ge=0, le=100)] | None
    mode: Mode = Mode.LIVE


class _Promote(_ActionBody):
    version: Version


class _Rollback(_ActionBody):
    pass


class AdminActions:
    """Begins actions on one Control, each `attempt` once: HAProxy repeats a request whose gateway died."""

    def __init__(self, control: Controller) -> None:
        self._control = control
        self._begun: dict[str, RuleChange] = {}

    def begin(self, action: str, body: dict[str, Any], source: str, now: float) -> RuleChange:
        """As the function `begin`; for an `attempt` that was begun before, return its change."""
        attempt = str(body.get("attempt") or "")
        if attempt in self._begun:
            return self._begun[attempt]
        change = begin(self._control, action, body, source, now)
        if attempt:
            self._begun[attempt] = change
            if len(self._begun) > _MOST_ATTEMPTS:
                del self._begun[next(iter(self._begun))]
        return change


def begin(control: Controller, action: str, body: dict[str, Any], source: str, now: float) -> RuleChange:
    """Begin the change that an action asks for.

    Args:
        control: the Control to change.
        action: "rules", "weight", "promote" or "rollback".
        body: the decoded JSON body.
        source: address of the client.
        now: monotonic seconds.

    Raises:
        ConfigError: the body is not valid for the action; the text names the field.
        ChangeRefused, ChangeConflict: as `Controller.propose`.
    """
    kind, act = _ACTIONS[action]
    try:
        parsed = kind.model_validate(body)
    except ValidationError as exc:
        raise ConfigError(f"{action}: {faults(exc)[0]}") from exc
    origin = Origin("admin", source, parsed.why or action)
    return act(control, parsed, origin, now)


def _set_rules(control: Controller, body: _Rules, origin: Origin, now: float) -> RuleChange:
    complete = {"use_case": control.rules.use_case, "champion": control.rules.champion, **body.rules}
    return control.propose(parse_rules(complete, "rules"), origin, now, base=body.epoch)


def _set_weight(control: Controller, body: _Weight, origin: Origin, now: float) -> RuleChange:
    others = [each for each in control.rules.challengers if each.version != body.version]
    changed = [] if body.weight is None else [Challenger(version=body.version, weight=body.weight, mode=body.mode)]
    edited = control.rules.model_dump(mode="json") | {
        "challengers": [each.model_dump(mode="json") for each in (*others, *changed)]
    }
    return control.propose(parse_rules(edited, "weight"), origin, now, base=body.epoch)


def _promote(control: Controller, body: _Promote, origin: Origin, now: float) -> RuleChange:
    live = [each.version for each in control.rules.challengers if each.mode is Mode.LIVE]
    if body.version not in live:
        known = ", ".join(live) or "none"
        raise ChangeRefused(
            f"version {body.version} answers nobody yet: only a live challenger is promoted here (there are: {known}); "
            "`rayscore promote` promotes any version that passes the gates"
        )
    rules = with_champion(control.rules, body.version)
    return control.propose(rules, origin, now, base=body.epoch, moves_champion=True)


def _roll_back(control: Controller, body: _Rollback, origin: Origin, now: float) -> RuleChange:
    rules = rolled_back(control.rules, control.registry_state.tags.get(PREVIOUS_TAG))
    return control.propose(rules, origin, now, base=body.epoch, moves_champion=True, instead=True)


def rolled_back(rules: TrafficRules, previous: str | None) -> TrafficRules:
    """The rules after a rollback: without live challengers if there are any, else with the previous champion.

    Shadows stay in both cases.

    Raises:
        ChangeRefused: there is neither a live challenger nor a previous champion.
    """
    if any(each.mode is Mode.LIVE for each in rules.challengers):
        return rules.model_copy(update={"challengers": rules.shadows})
    if previous is None or previous == rules.champion:
        raise ChangeRefused("there is nothing to go back to: no live challenger, and no champion before this one")
    return with_champion(rules, previous)


_ACTIONS: dict[str, tuple[type[_ActionBody], Callable[[Controller, Any, Origin, float], RuleChange]]] = {
    "rules": (_Rules, _set_rules),
    "weight": (_Weight, _set_weight),
    "promote": (_Promote, _promote),
    "rollback": (_Rollback, _roll_back),
}
