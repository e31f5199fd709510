"""A Control with replicas, a registry and a clock, without an event loop or processes."""

from __future__ import annotations

from typing import Any

from ray_app.control.controller import Controller
from ray_app.control.messages import GATEWAY, MODEL, ReplicaReport
from ray_app.control.rule_change import Origin, RuleChange
from ray_app.control.state.registry_state import TRAFFIC_TAG, RegistrySnapshot
from ray_app.control.state.replica_states import GRAPH_KINDS, ReplicaStates
from ray_app.control.state.version_set import PackedBundle, VersionLimits, VersionSet
from tune.registry.traffic_rules import Challenger, Mode, TrafficRules

ADMIN = Origin("admin", "10.0.0.1", "test")
GRACE_S = 10.0


def rules(champion: str = "1", *others: tuple[str, float], epoch: int = 1, shadow: str | None = None) -> TrafficRules:
    """Rules with live challengers, and at most one shadow."""
    challengers = [Challenger(version=version, weight=weight) for version, weight in others]
    if shadow:
        challengers.append(Challenger(version=shadow, weight=100, mode=Mode.SHADOW))
    return TrafficRules(use_case="card", champion=champion, challengers=tuple(challengers), epoch=epoch)


def packed_bundle(version: str) -> PackedBundle:
    """The bundle of a version."""
    return PackedBundle(version, f"digest{version}", version.encode())


class Replica:
    """A replica's agent without an event loop: it acts on a directive when `act` is called."""

    def __init__(self, world: World, name: str, kind: str) -> None:
        self.world, self.name, self.kind = world, name, kind
        self.seq, self.count = -1, 0
        self.held = world.control.versions.digests(world.control.rules.versions)
        self.rules = world.control.rules
        self.refused: dict[str, str] = {}

    def act(self) -> None:
        """Report, act on the directive, and report again."""
        self.report()
        directive = self.world.control.directive()
        if directive is None:
            return
        if directive.rules.epoch > self.rules.epoch and set(directive.rules.versions) <= self.held.keys():
            self.rules = directive.rules
        self.held = {version: digest for version, digest in directive.wanted.items() if digest not in self.refused} | {
            version: digest for version, digest in self.held.items() if version in self.rules.versions
        }
        self.seq = directive.seq
        self.report()

    def report(self) -> None:
        """Report the replica's state."""
        self.count += 1
        report = ReplicaReport(
            self.name, self.kind, "contract", self.count, self.seq, dict(self.held), self.rules, dict(self.refused)
        )
        self.world.control.on_report(report, self.world.now)


class World:
    """A Control with two gateways and two model replicas, a registry, and a clock."""

    def __init__(self, first: TrafficRules | None = None, most: int = 4) -> None:
        self.now = 100.0
        self.audit: list[dict[str, Any]] = []
        self.registry: dict[str, Any] = {"champion": (first or rules()).champion, "tags": {}}
        self.there = {str(version): packed_bundle(str(version)) for version in range(1, 10)}
        self.slow = False
        """Fetches of bundles do not end."""
        self.no_files = False
        """The registry answers, but bundles cannot be fetched."""
        self.most = most
        self.control = self.start(first or rules())
        self.replicas = [Replica(self, f"{kind}{i}", kind) for kind in (GATEWAY, MODEL) for i in (1, 2)]
        self.settle()

    def start(self, first: TrafficRules) -> Controller:
        """A Control that has just started."""
        versions = VersionSet(
            {v: self.there[v] for v in first.versions}, first.versions, VersionLimits(self.most, GRACE_S)
        )
        return Controller("c", first, versions, ReplicaStates(GRAPH_KINDS), self.now, self.audit.append, lambda: 1.5e9)

    def settle(self) -> None:
        """Let time pass until Control has settled and all replicas have acted."""
        self.step()
        self.now += 2
        self.step(4)

    def step(self, times: int = 1) -> None:
        """A round: Control ticks and asks the registry, bundles are fetched, each replica acts."""
        for _ in range(times):
            self.now += 0.1
            self.control.tick(self.now)
            self.poll()
            for version in self.control.missing() if not self.slow else ():
                if self.registry["champion"] == "down" or self.no_files:
                    self.control.on_registry_unavailable("no answer")
                elif version in self.there:
                    self.control.on_bundle(self.there[version], self.now)
                else:
                    self.control.on_unfit(version, "is not in the registry")
            for replica in self.replicas:
                replica.act()

    def poll(self) -> None:
        """Read the registry, and do the pending writes."""
        if self.registry["champion"] == "down":
            self.control.on_registry_unavailable("down")
            return
        self.control.on_snapshot(RegistrySnapshot(self.registry["champion"], dict(self.registry["tags"])), self.now)
        if writes := self.control.pending_writes:
            self.registry["tags"] |= writes.tags
            self.registry["champion"] = writes.champion or self.registry["champion"]
            self.control.registry_state.mark_written(writes)

    def tag(self, wanted: TrafficRules | str) -> None:
        """Write the rules' tag, as an operator would."""
        self.registry["tags"][TRAFFIC_TAG] = wanted if isinstance(wanted, str) else wanted.model_dump_json()

    def propose(self, wanted: TrafficRules, **options: Any) -> RuleChange:
        """Propose rules as the admin API does."""
        return self.control.propose(wanted, ADMIN, self.now, **options)
