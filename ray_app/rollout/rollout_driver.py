"""Runs a rollout on Control: reads it and its orders from the registry's tags, proposes rules, writes its state."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from data.errors import ConfigError
from ray_app.control.controller import Controller
from ray_app.control.rule_change import ChangeConflict, ChangeRefused, Origin, Outcome, RuleChange
from ray_app.rollout.rollout_controller import RolloutController, RolloutDecision, obey
from ray_app.rollout.shadow_comparison import SHADOWS, ShadowVerdict, summed
from ray_app.rollout.slo_judge import SloFinding
from ray_app.rollout.version_stats import VERSION_STATS, VersionStats, merged
from tune.registry.rollout_spec import ORDER_TAG, ROLLOUT_TAG, Rollout, RolloutState, parse_order, parse_rollout
from tune.registry.traffic_rules import TrafficRules


class RolloutDriver:
    """Drives the rollout of one Control; called with every tick as `Controller.on_tick`.

    Args:
        wall: returns seconds since 1970, for the history.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._rollout_controller = RolloutController()
        self._loaded = False
        self._rollout: Rollout | None = None
        self._order = ""
        self._change: RuleChange | None = None

    @property
    def rollout(self) -> Rollout | None:
        """The current or last rollout, None when there never was one."""
        return self._rollout

    def join(self, control: Controller) -> None:
        """Register with a Control: for its ticks, and for entries of its status."""
        control.on_tick = self
        control.shown |= {
            "rollout": self.plain,
            "shadows": lambda control: [verdict.plain() for verdict in self.verdicts(control)],
            "versions_seen": lambda control: {v: stats.plain() for v, stats in self.version_stats(control).items()},
        }

    def __call__(self, control: Controller, now: float) -> None:
        """Carry out new orders, judge the statistics, and propose changes; called about once a second."""
        if control.registry_state.registered is None:
            # Whether there is a rollout is only known once the registry has been read.
            return
        if not self._loaded:
            self._rollout, self._loaded = self._load(control), True
        self._obey(control, now)
        if self._rollout is None or not self._change_settled(control):
            return
        reports = control.replicas.extras(VERSION_STATS)
        decision = self._rollout_controller.tick(self._rollout, control.rules, reports, now, self._wall())
        self._follow(control, decision, now)

    def plain(self, control: Controller) -> dict[str, Any] | None:
        """The rollout with its findings and what it waits for, as plain JSON; None without one."""
        if self._rollout is None:
            return None
        return {
            **self._rollout.model_dump(mode="json"),
            "weight": self._rollout.weight,
            "findings": [finding._asdict() for finding in self._rollout_controller.findings()],
            "waits_for": self._rollout_controller.progress(self._rollout),
        }

    def findings(self) -> list[SloFinding]:
        """One finding for each objective of the running step."""
        return self._rollout_controller.findings()

    def verdicts(self, control: Controller) -> list[ShadowVerdict]:
        """One verdict for each shadow, over all gateways."""
        comparisons = summed(control.replicas.extras(SHADOWS).values(), control.rules.champion)
        return [comparison.verdict(version) for version, comparison in sorted(comparisons.items())]

    def version_stats(self, control: Controller) -> dict[str, VersionStats]:
        """The statistics of each version, over all gateways."""
        return merged(control.replicas.extras(VERSION_STATS).values())

    def _load(self, control: Controller) -> Rollout | None:
        text = control.registry_state.tags.get(ROLLOUT_TAG)
        try:
            return parse_rollout(text) if text else None
        except ConfigError as exc:
            self._refuse(control, str(exc))
            return None

    def _obey(self, control: Controller, now: float) -> None:
        """Carry out the order in the registry, unless it was answered already."""
        text = control.registry_state.tags.get(ORDER_TAG)
        if not text or text == self._order:
            return
        self._order = text
        try:
            order = parse_order(text)
        except ConfigError as exc:
            self._refuse(control, str(exc))
            return
        if self._rollout is not None and self._rollout.order == order.id:
            return
        decision = obey(self._rollout, order, control.rules, self._wall())
        if decision is None:
            self._refuse(control, f"order '{order.action.value}': there is no rollout")
            return
        if decision.rollout.id != (self._rollout.id if self._rollout else ""):
            self._rollout_controller, self._change = RolloutController(), None
        if decision.rollout.answer:
            self._refuse(control, f"order '{order.action.value}': {decision.rollout.answer}")
        self._follow(control, decision, now)

    def _change_settled(self, control: Controller) -> bool:
        """False while a change of the rollout is under way; one that was refused ends the rollout."""
        change, self._change = self._change, None
        if change is None or self._rollout is None:
            return True
        if not change.over:
            self._change = change
        elif change.outcome is Outcome.REFUSED and not self._rollout.state.over:
            self._abort(control, change.reason)
        return change.over

    def _follow(self, control: Controller, decision: RolloutDecision, now: float) -> None:
        """Apply a decision: save the rollout in its tag, and propose a change to its rules."""
        self._save(control, decision.rollout)
        if decision.rules is not None:
            self._propose(control, decision.rules, decision.why, now)

    def _propose(self, control: Controller, rules: TrafficRules, why: str, now: float) -> None:
        assert self._rollout is not None
        back = self._rollout.state.over
        try:
            self._change = control.propose(
                rules,
                Origin("rollout", why=why),
                now,
                instead=back,
                moves_champion=self._rollout.state is RolloutState.ROLLED_BACK,
            )
        except ChangeConflict:
            # Another change is being prepared: the next tick asks again.
            self._change = None
        except ChangeRefused as exc:
            if not back:
                self._abort(control, str(exc))

    def _abort(self, control: Controller, reason: str) -> None:
        assert self._rollout is not None
        self._refuse(control, reason)
        self._save(control, self._rollout.noted(self._wall(), f"aborted: {reason}", state=RolloutState.ABORTED))

    def _save(self, control: Controller, rollout: Rollout) -> None:
        if rollout != self._rollout:
            self._rollout = rollout
            control.registry_state.queue_write({ROLLOUT_TAG: rollout.model_dump_json()})

    def _refuse(self, control: Controller, reason: str) -> None:
        control.records.note("rollout", "rollout", reason)
