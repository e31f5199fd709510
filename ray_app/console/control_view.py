"""The console's view of Control. It is public, so it has no file paths, no addresses and no entities.

With the admin token, the rest is at `/admin/status` and `/admin/audit`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ray_app.console.redaction import redacted
from ray_app.control.admin_actions import rolled_back
from ray_app.control.controller import Controller
from ray_app.control.messages import METRICS_ONLY
from ray_app.control.replicas.autoscaling import BUSY
from ray_app.control.rule_change import ChangeRefused
from ray_app.control.state.registry_state import NO_CHAMPION, NOT_ASKED, PREVIOUS_TAG
from ray_app.control.state.replica_states import ReplicaStates
from ray_app.control.state.version_set import VersionFacts
from ray_app.monitoring.recent_events import RecentEvents
from ray_app.rollout.recent_history import RecentHistory
from ray_app.rollout.rollout_driver import RolloutDriver
from ray_app.rollout.version_stats import VersionStats, quantile_ms
from tune.registry.traffic_rules import Mode

_MOST_CHANGES = 20
_VIEWER_TIMEOUT_S, _LIST_INTERVAL_S = 30.0, 15.0
_HIDDEN_PROBLEM = "MLflow does not answer, or not as expected; /admin/status has its words"


class ControlView:
    """Makes the answer of `/console/data` from the state of Control.

    Args:
        control: the Control that is shown.
        bystanders: the states of replicas that no change waits for.
        rollout_driver: of its rollout; has the statistics and the shadows' verdicts too.
        history: the last minutes of each version.
        events: the last minutes of each source of events.
        changes: entries of the audit log, oldest first.
        now: monotonic seconds, when this Control started.
        wall: returns seconds since 1970.
    """

    def __init__(
        self,
        control: Controller,
        bystanders: ReplicaStates,
        rollout_driver: RolloutDriver,
        history: RecentHistory,
        events: RecentEvents,
        changes: Callable[[], Iterable[Any]],
        now: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.registered_versions: dict[str, VersionFacts] = {}
        """The registered versions as they were read last, set by Control's deployment."""
        self._control = control
        self._bystanders = bystanders
        self._rollout_driver = rollout_driver
        self._history = history
        self._events = events
        self._changes = changes
        self._began = now
        self._viewed_at = self._listed_at = -math.inf
        self._wall = wall

    def plain(self, now: float) -> dict[str, Any]:
        """Return the answer as plain JSON; also notes that somebody looks at the console."""
        control = self._control
        self._viewed_at = now
        seconds, minute = self._history.last_minute()
        return {
            "at": self._wall(),
            "use_case": control.rules.use_case,
            "epoch": control.rules.epoch,
            "champion": control.rules.champion,
            "challengers": [
                {"version": each.version, "weight": each.weight, "mode": each.mode.value}
                for each in control.rules.challengers
            ],
            "control": {"settled": control.settled, "watching_s": round(now - self._began, 1)},
            "registry": self._registry(),
            "pending": self._pending(now),
            "rollback": self._rollback(),
            "minute": _rates(sum(minute.values(), VersionStats()), seconds),
            "versions": self._versions(),
            "replicas": self._replicas(now),
            "shadows": [verdict.plain() for verdict in self._rollout_driver.verdicts(control)],
            "rollout": redacted(self._rollout_driver.plain(control)),
            "refusals": [redacted(refusal._asdict()) for refusal in control.records.refusals],
            "changes": [_plain_change(entry) for entry in list(self._changes())[-_MOST_CHANGES:] if _is_entry(entry)],
            "events": self._events.plain(),
            "history": self._history.plain(),
        }

    def wants_registered_versions(self, now: float) -> bool:
        """True every 15 s while somebody looks at the console: the registry's versions should be read anew."""
        wanted = now - self._viewed_at < _VIEWER_TIMEOUT_S and now - self._listed_at >= _LIST_INTERVAL_S
        if wanted:
            self._listed_at = now
        return wanted

    def _registry(self) -> dict[str, Any]:
        registry = self._control.registry_state
        problem, writes = registry.problem, registry.pending_writes
        return {
            "problem": problem if problem in (None, NOT_ASKED, NO_CHAMPION) else _HIDDEN_PROBLEM,
            "owed": [*writes.tags, *(["champion"] if writes.champion else [])] if writes else [],
        }

    def _pending(self, now: float) -> dict[str, Any] | None:
        change = self._control.pending
        return None if change is None else {**_plain_change(change.plain()), "for_s": round(now - change.since, 1)}

    def _rollback(self) -> dict[str, Any]:
        """What a rollback would do: the champion after it and the challengers that it removes, or why it is refused."""
        rules = self._control.rules
        try:
            after = rolled_back(rules, self._control.registry_state.tags.get(PREVIOUS_TAG))
        except ChangeRefused as exc:
            return {"refused": str(exc)}
        out = [each.version for each in rules.challengers if each.mode is Mode.LIVE and each not in after.challengers]
        return {"champion": after.champion, "out": out}

    def _versions(self) -> list[dict[str, Any]]:
        """The versions that the rules name, then other loaded or registered ones, newest first."""
        control = self._control
        facts = self.registered_versions | control.versions.facts()
        coming = control.pending.rules.versions if control.pending else ()
        others = sorted({*facts, *control.versions.wanted, *coming}, key=int, reverse=True)
        reports = [report for _, report in control.replicas.reports()]
        stats = self._rollout_driver.version_stats(control)
        seconds, minute = self._history.last_minute()
        return [
            {
                "version": version,
                **self._role(version),
                **_plain_facts(facts.get(version)),
                "held_by": sum(version in report.held for report in reports),
                "of": len(reports),
                "total": _counts(stats.get(version, VersionStats())),
                "minute": _rates(minute.get(version, VersionStats()), seconds),
            }
            for version in dict.fromkeys([*control.rules.versions, *others])
        ]

    def _role(self, version: str) -> dict[str, Any]:
        control = self._control
        if version == control.rules.champion:
            live = sum(each.weight for each in control.rules.challengers if each.mode is Mode.LIVE)
            return {"role": "champion", "weight": round(100 - live, 2)}
        for each in control.rules.challengers:
            if each.version == version:
                return {"role": each.mode.value, "weight": each.weight}
        if control.pending is not None and version in control.pending.rules.versions:
            return {"role": "coming", "weight": 0}
        return {"role": "held" if version in control.versions.wanted else "registered", "weight": 0}

    def _replicas(self, now: float) -> list[dict[str, Any]]:
        return [
            {
                "replica": report.replica,
                "kind": report.kind,
                "held": sorted(report.held, key=int),
                "epoch": None if report.kind == METRICS_ONLY else report.rules.epoch,
                "busy": report.extras.get(BUSY),
                "silent_s": round(now - at, 1),
                "refused": len(report.refused),
            }
            for at, report in (*self._control.replicas.reports(), *self._bystanders.reports())
        ]


def _is_entry(entry: Any) -> bool:
    """False for a line of the audit log that was not written by it, e.g. by hand."""
    return isinstance(entry, dict) and isinstance(entry.get("at"), (int, float))


def _plain_change(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A change without the client's address; the reason that an admin gave is not redacted."""
    kept = {key: entry.get(key) for key in ("at", "who", "outcome", "epoch", "rules", "before")}
    why = entry.get("why")
    return {
        **kept,
        "why": why if entry.get("who") == "admin" else redacted(why),
        "reason": redacted(entry.get("reason")),
    }


def _plain_facts(facts: VersionFacts | None) -> dict[str, Any]:
    if facts is None:
        return {"created_at": None, "answers": None, "metrics": {}}
    metrics = {name: value for name, value in facts.metrics.items() if math.isfinite(value)}
    return {"created_at": facts.created_at, "answers": facts.answers, "metrics": metrics}


def _counts(stats: VersionStats) -> dict[str, int]:
    return {"requests": stats.requests, "errors": stats.errors, "refused": stats.refused}


def _rates(stats: VersionStats, seconds: float) -> dict[str, Any]:
    return {
        **_counts(stats),
        "per_s": round(stats.requests / seconds, 2) if seconds else 0.0,
        "p50_ms": quantile_ms(stats.latencies, 0.5),
        "p99_ms": quantile_ms(stats.latencies, 0.99),
    }
