"""Decides which versions replicas load and which traffic rules are in force. Plain logic, without Ray or MLflow.

A change of the rules is prepared first: the bundles that it needs are fetched, checked and loaded by every replica
beside the old ones. Only when all replicas hold them it is committed, with the next epoch; versions that no rule names
any more are dropped after a grace period. The registry is the durable record (the champion's alias, the rules in a
tag), from which a restarted Control recovers; a committed change stays queued until it is written there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ray_app.control.messages import Directive, ReplicaReport
from ray_app.control.rule_change import (
    REGISTRY,
    ChangeConflict,
    ChangeRefused,
    Origin,
    Outcome,
    RuleChange,
    require_servable,
)
from ray_app.control.state.change_records import ChangeRecords
from ray_app.control.state.registry_state import (
    PREVIOUS_TAG,
    PendingWrites,
    RegistrySnapshot,
    RegistryState,
    same_rules,
)
from ray_app.control.state.replica_states import ReplicaStates
from ray_app.control.state.version_set import PackedBundle, VersionSet
from tune.registry.traffic_rules import TRAFFIC_TAG, TrafficRules

_SETTLE_S = 1.5
"""A new Control listens to the replicas' reports for so long before it gives directives."""
_SETTLE_ALONE_S = 10.0
"""The same while a kind of replica has not reported at all."""
_RETRY_S = 60.0
"""A change that the registry asked for, and whose bundles could not be fetched, is tried again after so long."""


class Controller:
    """Decides which versions are loaded and which traffic rules are in force. Belongs to one event loop.

    Every `now` is monotonic seconds.

    Args:
        name: id of this Control; one that is started over has another.
        rules: the traffic rules that the application was built with.
        versions: the bundles at hand, and which versions are to be loaded.
        replicas: the replicas that load them.
        now: when it starts.
        audit: called with an entry for every change that was committed or refused.
        wall: seconds since 1970, for records only.
    """

    def __init__(
        self,
        name: str,
        rules: TrafficRules,
        versions: VersionSet,
        replicas: ReplicaStates,
        now: float,
        audit: Callable[[dict[str, Any]], None] = lambda entry: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.rules = rules
        self.versions = versions
        self.replicas = replicas
        self.registry_state = RegistryState()
        self.pending: RuleChange | None = None
        self.records = ChangeRecords(audit, wall)
        self.seq = 0
        self.settled = False
        self.on_tick: Callable[[Controller, float], None] = lambda control, now: None
        """Called with every tick; a rollout calls `propose` from it, and `registry_state.queue_write` for its tag."""
        self.shown: dict[str, Callable[[Controller], Any]] = {}
        """Further entries of `status` by name; each function returns plain JSON."""
        self._started = now
        self._wanted_seq = 0
        self._unfit: dict[str, str] = {}
        self._adopted = False

    def on_report(self, report: ReplicaReport, now: float) -> None:
        """Take a replica's report; adopt its rules where they are newer, as after a restart of Control."""
        self.replicas.record(report, now)
        newest = self.replicas.newest_rules()
        if newest is not None and newest[0].epoch > self.rules.epoch:
            self._adopt(*newest)
        self._advance(now)

    def on_snapshot(self, snapshot: RegistrySnapshot, now: float) -> None:
        """Take a reading of the registry, and begin the change that it asks for, if any."""
        self.registry_state.read(snapshot)
        if not self.settled:
            return
        origin = Origin(REGISTRY)
        if self.pending is None:
            self.registry_state.begin_retry(now)
        try:
            requested = self.registry_state.requested_rules(self.rules, now)
        except ChangeRefused as exc:
            self.records.note(origin.who, "traffic rules", str(exc))
            if isinstance(exc, ChangeConflict):
                self.registry_state.queue_write({TRAFFIC_TAG: self.rules.model_dump_json()})
            return
        if requested is not None and not self._is_pending(requested):
            # A refusal is recorded by `propose`; no caller waits for it here.
            with suppress(ChangeRefused):
                self.propose(requested, origin, now, moves_champion=True, instead=True)

    def on_bundle(self, bundle: PackedBundle, now: float) -> None:
        """Take a bundle that was fetched from the registry and checked."""
        self.versions.put(bundle)
        if self.pending is not None and not self._unfetched(self.pending):
            self.pending.unfetched = ""
        self._advance(now)

    def on_registry_unavailable(self, problem: str) -> None:
        """Record that the registry does not answer, or gives an error; `problem` is the text."""
        self.registry_state.problem = problem
        if self.pending is not None and self._unfetched(self.pending):
            self.pending.unfetched = problem

    def on_unfit(self, version: str, reason: str) -> None:
        """Record that a version cannot serve: a change that names it is refused, and it is not fetched again."""
        if self.pending is not None and version in self.pending.rules.versions:
            self._refuse(self.pending, f"version {version}: {reason}")
            return
        self._unfit[version] = reason
        self.records.note("control", f"version {version}", reason)

    def propose(
        self,
        rules: TrafficRules,
        origin: Origin,
        now: float,
        *,
        base: int | None = None,
        moves_champion: bool = False,
        instead: bool = False,
    ) -> RuleChange:
        """Begin a change; the buckets of `rules` are ignored, and assigned anew at the commit.

        Args:
            rules: those wanted.
            origin: who asks for them.
            now: monotonic seconds.
            base: epoch of the rules that the change was made for; None for whatever is in force.
            moves_champion: the rules may name another champion, whose alias is then moved too.
            instead: replace a change that is being prepared.

        Raises:
            ChangeConflict: other rules are in force than those of `base`, or another change is under way.
            ChangeRefused: the rules cannot be served.
        """
        change = RuleChange(rules, origin, now)
        try:
            self._check(rules, base, moves_champion, instead)
        except ChangeRefused as exc:
            self._refuse(change, str(exc))
            raise
        if self.pending is not None and not instead:
            self._give_up(self.pending, self.pending.unavailable(self._unfetched(self.pending), now), now)
        if self.pending is not None:
            self.pending.outcome, self.pending.reason = Outcome.SUPERSEDED, "another change took its place"
            self.pending = None
        if same_rules(rules, self.rules):
            change.outcome, change.epoch = Outcome.COMMITTED, self.rules.epoch
        else:
            self.pending = change
        self._advance(now)
        return change

    def tick(self, now: float) -> None:
        """Handle what depends on time: silent replicas, late changes, the rollout. Call it about once a second."""
        self.replicas.sweep(now)
        listened = now - self._started
        if not self.settled and listened >= (_SETTLE_S if self.replicas.complete else _SETTLE_ALONE_S):
            self._settle(now)
        if self.settled:
            self.on_tick(self, now)
        if self.pending is not None and (reason := self.pending.overdue(self._unfetched(self.pending), now)):
            self._give_up(self.pending, reason, now)
        self._advance(now)

    def directive(self) -> Directive | None:
        """The directive for all replicas; None until this Control has settled: it must know first what they serve."""
        return Directive(self.name, self.seq, dict(self.versions.wanted), self.rules) if self.settled else None

    @property
    def pending_writes(self) -> PendingWrites | None:
        """What is to be written to the registry; None for nothing, and until this Control has settled."""
        return self.registry_state.pending_writes if self.settled else None

    def missing(self) -> list[str]:
        """Versions whose bundles are to be fetched from the registry."""
        named = [*self.rules.versions, *(self.pending.rules.versions if self.pending else ())]
        return [version for version in self.versions.missing(named) if version not in self._unfit]

    def status(self, now: float) -> dict[str, Any]:
        """The whole state as plain JSON, for `/admin/status`."""
        return {
            "use_case": self.rules.use_case,
            "epoch": self.rules.epoch,
            "rules": self.rules.model_dump(mode="json"),
            "pending": self.pending.plain() if self.pending else None,
            "previous_champion": self.registry_state.tags.get(PREVIOUS_TAG),
            "versions": self.versions.wanted,
            "replicas": self.replicas.plain(now),
            "refusals": self.records.plain(),
            "registry": self.registry_state.plain(),
            "control": {"name": self.name, "seq": self.seq, "settled": self.settled},
            **{name: show(self) for name, show in self.shown.items()},
        }

    def _settle(self, now: float) -> None:
        self.settled = True
        self.seq += 1
        if self.registry_state.registered is not None:
            self.on_snapshot(self.registry_state.registered, now)
        if self._adopted and self.pending is None:
            self.registry_state.queue_write({TRAFFIC_TAG: self.rules.model_dump_json()})

    def _adopt(self, rules: TrafficRules, held: dict[str, str]) -> None:
        """Adopt rules that an earlier Control committed; it may have died before it wrote them to the registry."""
        self.rules = rules
        self.versions.add_digests(held)
        self.seq += 1
        self._adopted = True
        if self.pending is not None and self.pending.rules.epoch <= rules.epoch:
            # It was read from the registry before a replica reported newer rules.
            self.pending.outcome, self.pending.reason = Outcome.SUPERSEDED, "newer rules are in force"
            self.pending = None
        if self.settled:
            self.registry_state.queue_write({TRAFFIC_TAG: rules.model_dump_json()})

    def _is_pending(self, rules: TrafficRules) -> bool:
        return self.pending is not None and same_rules(rules, self.pending.rules)

    def _check(self, rules: TrafficRules, base: int | None, moves_champion: bool, instead: bool) -> None:
        if not self.settled:
            raise ChangeConflict("Control has just started; try again in a moment")
        if base is not None and base != self.rules.epoch:
            raise ChangeConflict(f"the change is for epoch {base}, and epoch {self.rules.epoch} is in force")
        if self.pending is not None and not instead and not self._may_overtake(rules, self.pending):
            raise ChangeConflict("another change is being prepared; try again when it is over")
        require_servable(rules, self.rules, self.versions.limits.versions, moves_champion)

    def _unfetched(self, change: RuleChange) -> list[str]:
        """Versions of a change whose bundles are not at hand."""
        return self.versions.missing(change.rules.versions)

    def _may_overtake(self, rules: TrafficRules, pending: RuleChange) -> bool:
        """True when the pending change waits for a registry that is down, and these rules need nothing from it."""
        return bool(pending.unfetched) and not self.versions.missing(rules.versions)

    def _give_up(self, change: RuleChange, reason: str, now: float) -> None:
        """Refuse a change for lack of time, or of a registry."""
        if self._unfetched(change) and change.origin.who == REGISTRY:
            # Alias and tag stay as they were set, so no later reading is news: without a retry, only a restart would
            # serve them.
            self.registry_state.retry_from(now + _RETRY_S)
        self._refuse(change, reason)

    def _advance(self, now: float) -> None:
        """Take the next possible steps: direct versions to be loaded or dropped, commit the pending change."""
        change = self.pending
        coming = change.rules.versions if change else ()
        if change is not None and (reason := self.replicas.refusal(frozenset(self.versions.digests(coming).values()))):
            self._refuse(change, reason)
            return
        may_go = self.replicas.answer_by(self.rules.epoch)
        if self.versions.choose(self.rules.versions, coming, now, may_go):
            self.seq += 1
            self._wanted_seq = self.seq
        if change is not None and not self.versions.missing(coming) and self._all_hold(coming):
            self._commit(change, now)

    def _all_hold(self, named: tuple[str, ...]) -> bool:
        wanted = {version: digest for version, digest in self.versions.wanted.items() if version in named}
        return len(wanted) == len(named) and self.replicas.all_hold(wanted, self._wanted_seq)

    def _commit(self, change: RuleChange, now: float) -> None:
        before = self.rules
        after = change.rules.after(before)
        # An epoch that somebody wrote into the tag is kept, so that the tag and the rules in force agree.
        self.rules = after.model_copy(update={"epoch": max(after.epoch, change.rules.epoch)})
        self.pending = None
        self.seq += 1
        self.versions.retire(set(before.versions) - set(self.rules.versions), now)
        self.registry_state.queue_change(before, self.rules)
        self.records.commit(change, before, self.rules.epoch)

    def _refuse(self, change: RuleChange, reason: str) -> None:
        if self.pending is change:
            self.pending = None
        self.records.refuse(change, reason, self.rules)
