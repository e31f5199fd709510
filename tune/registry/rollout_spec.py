"""Rollouts: a version of a model gets more and more of the traffic while it meets its objectives.

`Rollout` holds the declaration (steps, hold, objectives) and the progress, and is kept as a tag in the registry, where
Control finds it again after a restart. `RolloutOrder` is a person's request to start, pause or end one.
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
    """State of a rollout."""

    RUNNING = "running"
    PAUSED = "paused"
    """The weights stay; a version that does worse is still rolled back."""
    ABORTED = "aborted"
    """Ended by a person, or because it could not go on; its version gets no traffic from it any more."""
    ROLLED_BACK = "rolled_back"
    """Ended because the version did worse; it has no traffic any more."""
    DONE = "done"
    """The last step was held."""

    @property
    def over(self) -> bool:
        """Whether the rollout has ended."""
        return self not in (RolloutState.RUNNING, RolloutState.PAUSED)


class Slo(BaseModel):
    """Service-level objectives of the new version. A share may exceed its limit while the champion's does too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    percentile: Annotated[float, Field(ge=50, lt=100)] = 99.0
    latency_s: Annotated[float, Field(ge=0.0001, le=9.9)] | None = 0.05
    """Latency within which `percentile` percent of the requests are answered, in seconds, rounded to two digits; None:
    not judged."""
    errors: Annotated[float, Field(gt=0, le=0.5)] = 0.001
    """Share of requests that fail (status 500 and above)."""
    drift: Annotated[float, Field(gt=0, lt=1)] | None = 0.1
    """Kolmogorov-Smirnov distance of the scores from the champion's; None: not judged."""
    decisions: Annotated[float, Field(gt=1, le=100)] | None = 2.0
    """Factor by which the share of rows labelled 1 may differ from the champion's; None: not judged."""

    @field_validator("latency_s")
    @classmethod
    def _two_digits(cls, value: float | None) -> float | None:
        # Latencies are counted in a histogram whose edges have two digits.
        return None if value is None else float(f"{value:.1e}")


class RolloutEvent(BaseModel):
    """One event in a rollout's history; `at` is in seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: float
    text: str


class Rollout(BaseModel):
    """One rollout: declaration and progress. Wall-clock times are for the record; no decision depends on them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    use_case: str
    version: Version
    champion: Version
    """The champion that the version is compared with."""
    steps: Annotated[tuple[float, ...], Field(min_length=1, max_length=20)] = (1, 5, 25, 100)
    """Percent of the entities in each step, ascending."""
    hold_s: Annotated[float, Field(ge=1, le=30 * 86_400)] = 600.0
    """Least duration of each step, in seconds."""
    min_requests: Annotated[int, Field(ge=1, le=10_000_000)] = 300
    """Least number of requests that the version answers in each step."""
    slo: Slo = Slo()
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.05
    """Probability that a version as good as the champion is rolled back, however often it is judged."""
    state: RolloutState = RolloutState.RUNNING
    step: Annotated[int, Field(ge=-1)] = -1
    """Index of the step in force, -1 before the first."""
    began: tuple[float, ...] = ()
    """When each step came into force, in seconds since 1970."""
    judges: Annotated[int, Field(ge=0)] = 0
    """How often evidence was collected from the start; each collection has its own share of `alpha`."""
    settled: bool = False
    """True when, after its end, the traffic has been taken from the version."""
    order: str = ""
    """Id of the last order that was answered."""
    answer: str = ""
    """Why that order was refused; empty when it was carried out."""
    reason: str = ""
    """Why the rollout is in its state, in one paragraph."""
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
        """Percent of the entities that the version gets in the current step."""
        return self.steps[self.step] if self.step >= 0 else 0.0

    @property
    def last(self) -> bool:
        """Whether the current step is the last."""
        return self.step == len(self.steps) - 1

    def noted(self, at: float, text: str, **changes: Any) -> Rollout:
        """Return a copy with changes and an event at `at` (seconds since 1970); `reason` becomes the text."""
        event = RolloutEvent(at=round(at, 3), text=_cut(text, _LONGEST_EVENT))
        history = (*self.history, event)[-_MOST_EVENTS:]
        return self.model_copy(update={"reason": _cut(text, _LONGEST_REASON), "history": history, **changes})


class RolloutAction(str, Enum):
    """Action that an order asks for."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    ROLLBACK = "rollback"


class RolloutOrder(BaseModel):
    """A person's order to Control; `rollout` is given with the action `start` only."""

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
    """Parse a rollout from the registry's tag; raises ConfigError that names the wrong key."""
    return _parse(Rollout, text, ROLLOUT_TAG)


def parse_order(text: str) -> RolloutOrder:
    """Parse an order from the registry's tag; raises ConfigError that names the wrong key."""
    return _parse(RolloutOrder, text, ORDER_TAG)


def new_rollout(**fields: Any) -> Rollout:
    """Make a rollout from its declared fields; raises ConfigError that names the wrong one."""
    try:
        return Rollout(**fields)
    except ValidationError as exc:
        raise ConfigError(str(faults(exc)[0])) from exc


def parse_steps(text: str) -> tuple[float, ...]:
    """Parse percentages such as `1,5,25,100`; raises ConfigError."""
    try:
        return tuple(float(part.strip().removesuffix("%")) for part in text.split(","))
    except ValueError as exc:
        raise ConfigError(f"--steps {text}: expected percentages separated by commas, e.g. 1,5,25,100") from exc


def parse_slo(text: str) -> Slo:
    """Parse objectives such as `p99=5ms,errors=0.1%,drift=0.1,decisions=2x`; the others keep their defaults.

    The value `off` switches an objective off. Raises ConfigError that names the wrong term.
    """
    fields: dict[str, Any] = {}
    for term in parse_terms(text, _TAKES, _EXAMPLE) if text.strip() else ():
        value = None if term.kind is ValueKind.OFF else term.value
        if term.name in _TAKES:
            fields[term.name] = value
        elif "latency_s" in fields:
            raise ConfigError(f"--slo {text}: give one percentile, a rollout is judged by one")
        else:
            fields |= (
                {"latency_s": value} if value is None else {"percentile": float(term.name[1:]), "latency_s": value}
            )
    try:
        return Slo(**fields)
    except ValidationError as exc:
        raise ConfigError(f"--slo {text}: {faults(exc)[0]}") from exc


def percents(steps: tuple[float, ...]) -> str:
    """Format steps as `parse_steps` reads them."""
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
