"""Runs a rollout on Control: reads it and its orders from the registry's tags, proposes rules, writes its state."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from data.errors import ConfigError
from ray_app.control.controller import Controller
from ray_app.control.rule_change import ChangeConflict, ChangeRefused, Origin, Outcome, Refusal, RuleChange
from ray_app.rollout.rollout_controller import RolloutController, RolloutDecision, obey
from ray_app.rollout.shadow_comparison import SHADOWS, ShadowVerdict, compared
from ray_app.rollout.slo_judge import SloFinding
from ray_app.rollout.version_stats import TALLIES, VersionStats, merged
from tune.registry.rollout_spec import ORDER_TAG, ROLLOUT_TAG, Rollout, RolloutState, parse_order, parse_rollout
from tune.registry.traffic_rules import TrafficRules


class RolloutDriver:
    """Drives the rollout of one Control; called with every tick as `Controller.steer`.

    Args:
        wall: seconds since 1970, for the record.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._conductor = RolloutController()
        self._read = False
        self._rollout: Rollout | None = None
        self._order = ""
        self._change: RuleChange | None = None

    @property
    def rollout(self) -> Rollout | None:
        """The rollout as it stands, None when there never was one."""
        return self._rollout

    def join(self, control: Controller) -> None:
        """Register with a Control: its ticks, and what its status shows."""
        control.steer = self
        control.shown |= {
            "rollout": self.plain,
            "shadows": lambda control: [verdict.plain() for verdict in self.verdicts(control)],
            "versions_seen": lambda control: {v: tally.plain() for v, tally in self.tallies(control).items()},
        }

    def __call__(self, control: Controller, now: float) -> None:
        """Look at orders and statistics, and propose what follows; called about once a second."""
        if control.truth.registered is None:
            # Nothing is known of a rollout before the registry has been read.
            return
        if not self._read:
            self._rollout, self._read = self._recall(control), True
        self._obey(control, now)
        if self._rollout is None or not self._ended_well(control):
            return
        reports = control.replicas.extras(TALLIES)
        move = self._conductor.tick(self._rollout, control.rules, reports, now, self._wall())
        self._follow(control, move, now)

    def plain(self, control: Controller) -> dict[str, Any] | None:
        """The rollout with its findings and what it waits for, as plain JSON; None without one."""
        if self._rollout is None:
            return None
        return {
            **self._rollout.model_dump(mode="json"),
            "weight": self._rollout.weight,
            "findings": [finding._asdict() for finding in self._conductor.findings()],
            "waits_for": self._conductor.progress(self._rollout),
        }

    def findings(self) -> list[SloFinding]:
        """One finding for each objective of the running step."""
        return self._conductor.findings()

    def verdicts(self, control: Controller) -> list[ShadowVerdict]:
        """One verdict for each shadow, over all gateways."""
        found = compared(control.replicas.extras(SHADOWS).values(), control.rules.champion)
        return [comparison.verdict(version) for version, comparison in sorted(found.items())]

    def tallies(self, control: Controller) -> dict[str, VersionStats]:
        """The statistics of each version, over all gateways."""
        return merged(control.replicas.extras(TALLIES).values())

    def _recall(self, control: Controller) -> Rollout | None:
        text = control.truth.tags.get(ROLLOUT_TAG)
        try:
            return parse_rollout(text) if text else None
        except ConfigError as exc:
            self._refuse(control, str(exc))
            return None

    def _obey(self, control: Controller, now: float) -> None:
        """Carry out the order in the registry, unless it was answered already."""
        text = control.truth.tags.get(ORDER_TAG)
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
        move = obey(self._rollout, order, control.rules, self._wall())
        if move is None:
            self._refuse(control, f"order '{order.action.value}': there is no rollout")
            return
        if move.rollout.id != (self._rollout.id if self._rollout else ""):
            self._conductor, self._change = RolloutController(), None
        if move.rollout.answer:
            self._refuse(control, f"order '{order.action.value}': {move.rollout.answer}")
        self._follow(control, move, now)

    def _ended_well(self, control: Controller) -> bool:
        """False while a change of the rollout is under way; one that was refused ends the rollout."""
        change, self._change = self._change, None
        if change is None or self._rollout is None:
            return True
        if not change.over:
            self._change = change
        elif change.outcome is Outcome.REFUSED and not self._rollout.state.over:
            self._abort(control, change.reason)
        return change.over

    def _follow(self, control: Controller, move: RolloutDecision, now: float) -> None:
        """Keep what came of a tick or an order: the rollout in its tag, the rules by way of a change."""
        self._keep(control, move.rollout)
        if move.rules is not None:
            self._propose(control, move.rules, move.why, now)

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
        self._keep(control, self._rollout.noted(self._wall(), f"aborted: {reason}", state=RolloutState.ABORTED))

    def _keep(self, control: Controller, rollout: Rollout) -> None:
        if rollout != self._rollout:
            self._rollout = rollout
            control.truth.owe({ROLLOUT_TAG: rollout.model_dump_json()})

    def _refuse(self, control: Controller, reason: str) -> None:
        control.refusals.append(Refusal(self._wall(), "rollout", "rollout", reason))
