"""Decides the next step of a rollout once a second: raise the weight, go on watching, or roll the version back.

A plain state machine. The rules in force say which step a rollout is in, so that a restarted Control finds its place;
evidence about the running step is then gathered from the start, with a share of alpha of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ray_app.rollout.slo_judge import SloFinding, SloJudge
from ray_app.rollout.version_stats import VersionStats
from tune.registry.rollout_spec import Rollout, RolloutAction, RolloutOrder, RolloutState
from tune.registry.traffic_rules import Challenger, Mode, TrafficRules

_LONGEST_TICK_S = 5.0
"""A late tick counts for no more than this: a clock that jumps, or a stopped process, must not complete a step."""
_IN_DOUBT = 0.5
"""With this evidence against it or more, a version gets no more traffic."""
_NONE = VersionStats()

Reports = Mapping[str, Mapping[str, VersionStats]]
"""Cumulative statistics by replica and version."""

_Pair = tuple[VersionStats, VersionStats]
"""Statistics of the champion and of the version."""


class RolloutDecision(NamedTuple):
    """The outcome of a tick: the rollout's new state, the rules to put in force (None for no change), and why."""

    rollout: Rollout
    rules: TrafficRules | None = None
    why: str = ""


@dataclass
class _Watch:
    """One step under watch."""

    judge: SloJudge
    before: dict[str, _Pair]
    """Statistics by replica at the end of the last block, or at the replica's first report."""
    alone: bool
    held_s: float = 0.0


class RolloutController:
    """Controls one rollout. In memory it has only the evidence about the running step."""

    def __init__(self) -> None:
        self._watch: _Watch | None = None
        self._at: float | None = None
        self._entered = False

    def tick(self, rollout: Rollout, rules: TrafficRules, reports: Reports, now: float, wall: float) -> RolloutDecision:
        """Judge the statistics so far, and decide the next step.

        Args:
            rollout: as it stands.
            rules: those in force.
            reports: cumulative statistics of every gateway; gateways may come and go between ticks.
            now: monotonic seconds.
            wall: seconds since 1970, for the record.
        """
        passed = min(max(now - self._at, 0.0), _LONGEST_TICK_S) if self._at is not None else 0.0
        self._at = now
        if rollout.state.over:
            return _settle(rollout, rules)
        if rules.champion != rollout.champion:
            return _champion_moved(rollout, rules, wall)
        if (move := self._place(rollout, rules, wall)) is not None:
            return move
        watch = self._watch
        if watch is None or watch.alone != _alone(rules):
            return self._begin(rollout, rules, reports, wall)
        watch.held_s += passed if rollout.state is RolloutState.RUNNING else 0.0
        self._look(watch, rollout, reports)
        return self._decide(watch, rollout, rules, wall)

    def findings(self) -> list[SloFinding]:
        """One finding for each objective of the running step."""
        return self._watch.judge.findings() if self._watch else []

    def progress(self, rollout: Rollout) -> str:
        """What the running step waits for, in words."""
        if rollout.state.over or self._watch is None:
            return ""
        return "; ".join(self._waits(self._watch, rollout)) or "nothing"

    def _place(self, rollout: Rollout, rules: TrafficRules, wall: float) -> RolloutDecision | None:
        """Find the step by the weight in force; None when it is the one that the rollout is in."""
        weight = _weight(rules, rollout.version)
        if rollout.step >= 0 and _equal(weight, rollout.weight):
            return None
        self._watch, self._entered = None, False
        found = [at for at, step in enumerate(rollout.steps) if _equal(weight, step)]
        if found:
            self._entered = True
            text = f"step {found[0] + 1} of {len(rollout.steps)}: {weight:g} % of the entities"
            began = (*rollout.began, round(wall, 3))[-len(rollout.steps) :]
            return RolloutDecision(rollout.noted(wall, text, step=found[0], began=began))
        if rollout.step < 0:
            return (
                self._raise(rollout, rules, 0, "begins", wall)
                if rollout.state is RolloutState.RUNNING
                else RolloutDecision(rollout)
            )
        if weight == 0:
            text = f"aborted: version {rollout.version} was taken out by somebody else"
            return RolloutDecision(rollout.noted(wall, text, state=RolloutState.ABORTED, settled=True))
        if rollout.state is RolloutState.PAUSED:
            return RolloutDecision(rollout)
        text = f"the weight was set to {weight:g} % by somebody else, step {rollout.step + 1} is {rollout.weight:g} %"
        return RolloutDecision(rollout.noted(wall, f"paused: {text}", state=RolloutState.PAUSED))

    def _begin(self, rollout: Rollout, rules: TrafficRules, reports: Reports, wall: float) -> RolloutDecision:
        """Begin to watch a step. The k-th watch gets 1/(k(k+1)) of alpha: that sums to alpha at most, however many."""
        again, self._entered = not self._entered, False
        k = rollout.judges + 1
        judge = SloJudge(rollout.slo, rollout.alpha / (k * (k + 1)), _alone(rules))
        self._watch = _Watch(judge, _pairs(rollout, reports), _alone(rules))
        text = "watched anew: what was seen of this step before is not known any more"
        return RolloutDecision(
            rollout.noted(wall, text, judges=k) if again else rollout.model_copy(update={"judges": k})
        )

    def _look(self, watch: _Watch, rollout: Rollout, reports: Reports) -> None:
        """Give the judge the counts since the last block, once both versions have had requests.

        Counts are differences by replica: what a replica counted before its first report here is in no block.
        """
        seen = _pairs(rollout, reports)
        watch.before = seen | watch.before
        champion, version = (
            sum((now[side].since(watch.before[replica][side]) for replica, now in seen.items()), _NONE)
            for side in (0, 1)
        )
        if version.requests and (watch.alone or champion.requests):
            watch.judge.update(champion, version)
            watch.before = seen

    def _decide(self, watch: _Watch, rollout: Rollout, rules: TrafficRules, wall: float) -> RolloutDecision:
        findings = watch.judge.findings()
        bad = [finding for finding in findings if finding.evidence >= 1]
        if bad:
            rollout = rollout.noted(wall, _why_back(rollout, watch, bad), state=RolloutState.ROLLED_BACK)
            return _settle(rollout, rules)
        if rollout.state is RolloutState.PAUSED or any(self._waits(watch, rollout)):
            return RolloutDecision(rollout)
        if rollout.last:
            text = f"done: version {rollout.version} has kept to its objectives in every step, and {rollout.weight:g} %"
            return RolloutDecision(
                rollout.noted(wall, f"{text} of the entities", state=RolloutState.DONE, settled=True)
            )
        return self._raise(rollout, rules, rollout.step + 1, "kept to its objectives", wall)

    def _raise(self, rollout: Rollout, rules: TrafficRules, step: int, why: str, wall: float) -> RolloutDecision:
        weight = rollout.steps[step]
        others = sum(c.weight for c in rules.challengers if c.mode is Mode.LIVE and c.version != rollout.version)
        if others + weight > 100:
            text = f"cannot be given {weight:g} %: other live challengers have {others:g} %"
            return RolloutDecision(
                rollout.noted(wall, f"aborted: version {rollout.version} {text}", state=RolloutState.ABORTED)
            )
        return RolloutDecision(
            rollout, with_weight(rules, rollout.version, weight), f"version {rollout.version} {why}: {weight:g} %"
        )

    def _waits(self, watch: _Watch, rollout: Rollout) -> list[str]:
        waits = []
        if watch.held_s < rollout.hold_s:
            waits.append(f"held {watch.held_s:.0f} of {rollout.hold_s:g} s")
        if (seen := watch.judge.version.requests) < rollout.min_requests:
            waits.append(f"{seen:,} of {rollout.min_requests:,} requests")
        doubts = [finding.name for finding in watch.judge.findings() if finding.evidence >= _IN_DOUBT]
        return waits + [f"doubt about {name}" for name in doubts]


def obey(rollout: Rollout | None, order: RolloutOrder, rules: TrafficRules, wall: float) -> RolloutDecision | None:
    """Carry out an order; if it is refused, the rollout's `answer` says why. None when there is no rollout.

    Refused are a start while another rollout runs, and what the state does not allow.
    """
    started = order.rollout
    if started is not None and (rollout is None or rollout.state.over):
        return RolloutDecision(_started(started, rules, wall).model_copy(update={"order": order.id}))
    if rollout is None:
        return None
    if started is not None:
        answer = f"a rollout of version {rollout.version} is {rollout.state.value}: abort it first"
        return RolloutDecision(rollout.model_copy(update={"order": order.id, "answer": answer}))
    rollout = rollout.model_copy(update={"order": order.id, "answer": ""})
    allowed, state, text = _ORDERS[order.action]
    if rollout.state not in allowed:
        return RolloutDecision(rollout.model_copy(update={"answer": f"the rollout is {rollout.state.value}"}))
    rollout = rollout.noted(wall, text.format(version=rollout.version), state=state, settled=False)
    if order.action is RolloutAction.ROLLBACK:
        return RolloutDecision(rollout, without(rules, rollout.version, rollout.champion), rollout.reason)
    if order.action is RolloutAction.RESUME and rollout.step >= 0:
        return RolloutDecision(rollout, with_weight(rules, rollout.version, rollout.weight), rollout.reason)
    return _settle(rollout, rules) if state.over else RolloutDecision(rollout)


_ORDERS: dict[RolloutAction, tuple[tuple[RolloutState, ...], RolloutState, str]] = {
    RolloutAction.PAUSE: ((RolloutState.RUNNING,), RolloutState.PAUSED, "paused by hand"),
    RolloutAction.RESUME: ((RolloutState.PAUSED,), RolloutState.RUNNING, "resumed by hand"),
    RolloutAction.ABORT: (
        (RolloutState.RUNNING, RolloutState.PAUSED),
        RolloutState.ABORTED,
        "aborted by hand: version {version} gets no traffic",
    ),
    RolloutAction.ROLLBACK: (
        (RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.DONE),
        RolloutState.ROLLED_BACK,
        "rolled back by hand: version {version} gets no traffic",
    ),
}
"""By order: the states in which it is allowed, the state that it leads to, and the text noted."""


def with_weight(rules: TrafficRules, version: str, weight: float) -> TrafficRules:
    """The rules with a live weight, in percent, for a version, which keeps its place among the challengers."""
    challenger = Challenger(version=version, weight=weight)
    named = {each.version: each for each in rules.challengers}
    return rules.model_copy(update={"challengers": tuple({**named, version: challenger}.values())})


def without(rules: TrafficRules, version: str, champion: str) -> TrafficRules:
    """The rules without a version; where it is the champion, with `champion` in its place."""
    gone = {version, champion} if rules.champion == version else {version}
    kept = tuple(each for each in rules.challengers if each.version not in gone)
    return rules.model_copy(
        update={"champion": champion if rules.champion == version else rules.champion, "challengers": kept}
    )


def _started(rollout: Rollout, rules: TrafficRules, wall: float) -> Rollout:
    if rollout.use_case != rules.use_case:
        text = f"refused: version {rollout.version} is of '{rollout.use_case}', '{rules.use_case}' is served"
        return rollout.noted(wall, text, state=RolloutState.ABORTED, settled=True)
    if rollout.champion != rules.champion:
        text = f"refused: it was meant against champion {rollout.champion}, and {rules.champion} is the champion"
        return rollout.noted(wall, text, state=RolloutState.ABORTED, settled=True)
    return rollout.noted(wall, f"started against champion {rollout.champion}")


def _settle(rollout: Rollout, rules: TrafficRules) -> RolloutDecision:
    """After the end of a rollout: take the traffic from the version, once."""
    if rollout.settled or rollout.state is RolloutState.DONE:
        return RolloutDecision(rollout)
    live = any(each.version == rollout.version and each.mode is Mode.LIVE for each in rules.challengers)
    if not live and rules.champion != rollout.version:
        return RolloutDecision(rollout.model_copy(update={"settled": True}))
    return RolloutDecision(rollout, without(rules, rollout.version, rollout.champion), rollout.reason)


def _champion_moved(rollout: Rollout, rules: TrafficRules, wall: float) -> RolloutDecision:
    if rules.champion == rollout.version:
        text = f"done: version {rollout.version} was promoted and is the champion"
        return RolloutDecision(rollout.noted(wall, text, state=RolloutState.DONE, settled=True))
    text = (
        f"aborted: it was held against champion {rollout.champion}, and version {rules.champion} is the champion now; "
        f"version {rollout.version} gets no traffic"
    )
    return _settle(rollout.noted(wall, text, state=RolloutState.ABORTED), rules)


def _why_back(rollout: Rollout, watch: _Watch, bad: list[SloFinding]) -> str:
    beside = "alone" if watch.alone else f"beside champion {rollout.champion}"
    found = "; ".join(f"{finding.name} {finding.text}" for finding in bad)
    return (
        f"rolled back: version {rollout.version}, with {rollout.weight:g} % of the entities {beside}, did worse "
        f"than it may: {found}. It was seen in {watch.judge.version.requests:,} requests of this step, and a version "
        f"that keeps to its objectives is rolled back with a chance of {rollout.alpha:.3g} at most, however often one "
        f"looks. All traffic goes to version {rollout.champion} again."
    )


def _pairs(rollout: Rollout, reports: Reports) -> dict[str, _Pair]:
    return {
        replica: (by_version.get(rollout.champion, _NONE), by_version.get(rollout.version, _NONE))
        for replica, by_version in reports.items()
    }


def _weight(rules: TrafficRules, version: str) -> float:
    return sum(c.weight for c in rules.challengers if c.version == version and c.mode is Mode.LIVE)


def _alone(rules: TrafficRules) -> bool:
    return sum(c.weight for c in rules.challengers if c.mode is Mode.LIVE) >= 100 - 1e-9


def _equal(one: float, other: float) -> bool:
    return abs(one - other) < 1e-6
