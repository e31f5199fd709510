"""A rollout: one version of a model given more and more of the traffic, as long as it keeps to what was promised.

What is declared (steps, hold, objectives) and where it stands, in one object that the registry keeps: whoever carries
it out can be started over and finds it again. `RolloutOrder` is what a person wants of it.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from data.errors import ConfigError, faults
from data.schema.slo_terms import ANY_PERCENTILE, ValueKind, parse_terms
from tune.registry.traffic_rules import Version

ROLLOUT_TAG = "rayscore.rollout"
"""Tag of the registered model: the rollout as JSON. Control alone writes it."""
ORDER_TAG = "rayscore.order"
"""Tag of the registered model: the last order as JSON. Control only reads it."""

_TAKES = {
    ANY_PERCENTILE: (ValueKind.TIME, ValueKind.OFF),
    "errors": (ValueKind.NUMBER, ValueKind.PERCENT),
    "drift": (ValueKind.NUMBER, ValueKind.OFF),
    "decisions": (ValueKind.NUMBER, ValueKind.FACTOR, ValueKind.OFF),
}
_EXAMPLE = "p99=5ms,errors=0.1%,drift=0.1,decisions=2x"
_MOST_EVENTS = 16
_LONGEST_EVENT = 120
_LONGEST_REASON = 900
# Together they keep a rollout below the 5,000 characters that MLflow takes as a tag.


class RolloutState(str, Enum):
    """How a rollout stands."""

    RUNNING = "running"
    PAUSED = "paused"
    """Weights stay; what goes wrong is still rolled back."""
    ABORTED = "aborted"
    """Ended by hand, or because it could not go on; the version has no traffic of it any more."""
    ROLLED_BACK = "rolled_back"
    """Ended because the version did worse; it has no traffic any more."""
    DONE = "done"
    """The last step was held."""

    @property
    def over(self) -> bool:
        """True when nothing more is raised."""
        return self not in (RolloutState.RUNNING, RolloutState.PAUSED)


class Slo(BaseModel):
    """What the version must keep to. A share may be above its limit where the champion's is, at the same time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    percentile: Annotated[float, Field(ge=50, lt=100)] = 99.0
    latency_s: Annotated[float, Field(ge=0.0001, le=9.9)] | None = 0.05
    """The percentile of the requests that are answered within `latency_s`, two digits of it; None: not judged."""
    errors: Annotated[float, Field(gt=0, le=0.5)] = 0.001
    """Share of requests that fail (status 500 and above)."""
    drift: Annotated[float, Field(gt=0, lt=1)] | None = 0.1
    """Kolmogorov-Smirnov distance of the scores from the champion's; None: not judged."""
    decisions: Annotated[float, Field(gt=1, le=100)] | None = 2.0
    """Factor by which the share of rows labelled 1 may differ from the champion's; None: not judged."""

    @field_validator("latency_s")
    @classmethod
    def _two_digits(cls, value: float | None) -> float | None:
        # Latencies are counted by edges of two digits.
        return None if value is None else float(f"{value:.1e}")


class RolloutEvent(BaseModel):
    """Something that happened, at `at` seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: float
    text: str


class Rollout(BaseModel):
    """One rollout. Wall-clock times are for the record; nothing is decided by them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    use_case: str
    version: Version
    champion: Version
    """The champion that it is held against."""
    steps: Annotated[tuple[float, ...], Field(min_length=1, max_length=20)] = (1, 5, 25, 100)
    """Percent of the entities, one after the other."""
    hold_s: Annotated[float, Field(ge=1, le=30 * 86_400)] = 600.0
    """How long each step is held at least."""
    min_requests: Annotated[int, Field(ge=1, le=10_000_000)] = 300
    """Requests that the version answers in each step at least."""
    slo: Slo = Slo()
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.05
    """Chance that a version as good as the champion is rolled back, however often one looks."""
    state: RolloutState = RolloutState.RUNNING
    step: Annotated[int, Field(ge=-1)] = -1
    """Index of the step in force, -1 before the first."""
    began: tuple[float, ...] = ()
    """When each step came into force."""
    judges: Annotated[int, Field(ge=0)] = 0
    """How often evidence was gathered anew: each time has its own share of `alpha`."""
    settled: bool = False
    """After its end: the traffic was taken from the version."""
    order: str = ""
    """Id of the order that was answered last."""
    answer: str = ""
    """What was answered; empty when the order was carried out."""
    reason: str = ""
    """Why it stands as it does, in one paragraph."""
    history: tuple[RolloutEvent, ...] = ()

    @model_validator(mode="after")
    def _sound(self) -> Rollout:
        if any(not 0 < step <= 100 or round(step, 2) != step for step in self.steps):
            raise ValueError(f"steps {percents(self.steps)}: each must be above 0 and at most 100, to a hundredth")
        if any(later <= earlier for earlier, later in zip(self.steps, self.steps[1:], strict=False)):
            raise ValueError(f"steps {percents(self.steps)}: each must be above the one before it")
        if self.step >= len(self.steps):
            raise ValueError(f"step {self.step}: there are {len(self.steps)}")
        if self.version == self.champion:
            raise ValueError(f"version {self.version} is the champion: it has all traffic already")
        return self

    @property
    def weight(self) -> float:
        """Percent of the entities that the version has in the step in force."""
        return self.steps[self.step] if self.step >= 0 else 0.0

    @property
    def last(self) -> bool:
        """True in the last step."""
        return self.step == len(self.steps) - 1

    def noted(self, at: float, text: str, **changes: Any) -> Rollout:
        """The rollout with changes and an event that tells of them; `reason` is the whole text."""
        event = RolloutEvent(at=round(at, 3), text=_cut(text, _LONGEST_EVENT))
        history = (*self.history, event)[-_MOST_EVENTS:]
        return self.model_copy(update={"reason": _cut(text, _LONGEST_REASON), "history": history, **changes})


class RolloutAction(str, Enum):
    """What can be asked of a rollout."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    ROLLBACK = "rollback"


class RolloutOrder(BaseModel):
    """One thing that a person wants; `rollout` is the one to start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    action: RolloutAction
    rollout: Rollout | None = None

    @model_validator(mode="after")
    def _sound(self) -> RolloutOrder:
        if (self.rollout is not None) != (self.action is RolloutAction.START):
            raise ValueError("a rollout is given with 'start', and with nothing else")
        return self


_Model = TypeVar("_Model", Rollout, RolloutOrder)


def parse_rollout(text: str) -> Rollout:
    """Read a rollout from the registry's tag; raises ConfigError naming the key at fault."""
    return _parse(Rollout, text, ROLLOUT_TAG)


def parse_order(text: str) -> RolloutOrder:
    """Read an order from the registry's tag; raises ConfigError naming the key at fault."""
    return _parse(RolloutOrder, text, ORDER_TAG)


def new_rollout(**given: Any) -> Rollout:
    """Make a rollout from declared values; raises ConfigError saying which is wrong."""
    try:
        return Rollout(**given)
    except ValidationError as exc:
        raise ConfigError(str(faults(exc)[0])) from exc


def parse_steps(text: str) -> tuple[float, ...]:
    """Percentages such as `1,5,25,100`; raises ConfigError."""
    try:
        return tuple(float(part.strip().removesuffix("%")) for part in text.split(","))
    except ValueError as exc:
        raise ConfigError(f"--steps {text}: expected percentages separated by commas, e.g. 1,5,25,100") from exc


def parse_slo(text: str) -> Slo:
    """Objectives such as `p99=5ms,errors=0.1%,drift=0.1,decisions=2x`; what is left out keeps its default.

    `off` instead of a value: that one is not judged. Raises ConfigError naming the term.
    """
    given: dict[str, Any] = {}
    for term in parse_terms(text, _TAKES, _EXAMPLE) if text.strip() else ():
        value = None if term.kind is ValueKind.OFF else term.value
        if term.name in _TAKES:
            given[term.name] = value
        elif "latency_s" in given:
            raise ConfigError(f"--slo {text}: give one percentile, a rollout is judged by one")
        else:
            given |= {"latency_s": value} if value is None else {"percentile": float(term.name[1:]), "latency_s": value}
    try:
        return Slo(**given)
    except ValidationError as exc:
        raise ConfigError(f"--slo {text}: {faults(exc)[0]}") from exc


def percents(steps: tuple[float, ...]) -> str:
    """Steps as they are written."""
    return ",".join(f"{step:g}" for step in steps)


def _parse(model: type[_Model], text: str, tag: str) -> _Model:
    try:
        return model.model_validate(json.loads(text))
    except ValidationError as exc:
        raise ConfigError(f"tag {tag}: {faults(exc)[0]}") from exc
    except ValueError as exc:
        raise ConfigError(f"tag {tag} is not JSON: {exc}") from exc


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."
