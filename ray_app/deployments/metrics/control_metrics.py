"""The Prometheus metrics of Control: the rules in force, the rollout, shadows, and the registry.

Their labels are the versions that the rules name or that replicas hold, which settings bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ray_app.control.controller import Controller
from ray_app.control.messages import FUSED, MODEL
from ray_app.rollout.rollout_driver import RolloutDriver
from tune.registry.rollout_spec import RolloutState
from tune.registry.traffic_rules import Mode

_NO_ROLLOUT = "none"


class ControlMetrics(Collector):
    """Collects the metrics of one Control at every scrape.

    Args:
        control: the Control to show.
        rollout_driver: the driver of its rollouts.
        audit_lost: returns the number of entries that the audit log could not write.
    """

    def __init__(self, control: Controller, rollout_driver: RolloutDriver, audit_lost: Callable[[], int]) -> None:
        self._control = control
        self._rollout_driver = rollout_driver
        self._audit_lost = audit_lost

    def collect(self) -> Iterable[Metric]:
        """Return the metric families with their values now."""
        yield from self._state()
        yield from self._traffic()
        yield from self._rollout()
        yield from self._shadows()

    def _state(self) -> Iterator[Metric]:
        control = self._control
        yield _gauge("rayscore_control_settled", "1 once Control has heard what replicas answer by.", control.settled)
        yield _gauge("rayscore_control_epoch", "Epoch of the traffic rules that Control wants.", control.rules.epoch)
        preparing = control.pending is not None
        yield _gauge("rayscore_control_change_pending", "1 while a change of the rules is being prepared.", preparing)
        problem = control.registry_state.problem is not None
        yield _gauge("rayscore_registry_problem", "1 when the registry's word is not to be had.", problem)
        pending_writes = control.registry_state.pending_writes is not None
        yield _gauge("rayscore_registry_owed", "1 when the registry is still owed what was changed.", pending_writes)
        yield CounterMetricFamily(
            "rayscore_audit_lost", "Entries that the audit log could not write.", float(self._audit_lost())
        )

    def _traffic(self) -> Iterator[Metric]:
        rules = self._control.rules
        weights = GaugeMetricFamily(
            "rayscore_traffic_weight_ratio", "Share of the entities by version.", labels=["version", "role"]
        )
        left = 100 - sum(each.weight for each in rules.challengers if each.mode is Mode.LIVE)
        weights.add_metric([rules.champion, "champion"], left / 100)
        for each in rules.challengers:
            weights.add_metric([each.version, each.mode.value], each.weight / 100)
        yield weights
        held = Counter[str]()
        for kind, versions in self._control.replicas.held():
            if kind in (MODEL, FUSED):
                held.update(versions)
        replicas = GaugeMetricFamily(
            "rayscore_version_replicas", "Replicas that score by a version.", labels=["version"]
        )
        for version in sorted({*held, *rules.versions}):
            replicas.add_metric([version], held[version])
        yield replicas
        champion = held[rules.champion]
        yield _gauge("rayscore_champion_replicas", "Replicas that score by the champion.", champion)

    def _rollout(self) -> Iterator[Metric]:
        rollout = self._rollout_driver.rollout
        current = rollout.state.value if rollout else _NO_ROLLOUT
        states = GaugeMetricFamily(
            "rayscore_rollout_state", "1 for the state that the last rollout is in.", labels=["state"]
        )
        for state in (_NO_ROLLOUT, *(each.value for each in RolloutState)):
            states.add_metric([state], state == current)
        yield states
        weight = rollout.weight if rollout and not rollout.state.over else 0.0
        yield _gauge("rayscore_rollout_weight_ratio", "Share of the entities of a rollout under way.", weight / 100)
        step = rollout.step + 1 if rollout else 0
        yield _gauge("rayscore_rollout_step", "Step that the last rollout is or ended in, from 1.", step)
        changed = rollout.history[-1].at if rollout and rollout.history else 0.0
        text = "When something last happened to a rollout, in seconds since 1970."
        yield _gauge("rayscore_rollout_changed_timestamp_seconds", text, changed)
        evidence = GaugeMetricFamily(
            "rayscore_rollout_evidence_ratio",
            "What speaks against the version under way, by objective; 1 takes it back.",
            labels=["objective"],
        )
        for finding in self._rollout_driver.findings():
            evidence.add_metric([finding.name.replace(" ", "_")], finding.evidence)
        yield evidence

    def _shadows(self) -> Iterator[Metric]:
        verdicts = self._rollout_driver.verdicts(self._control)
        for name, text, figure in (
            ("psi", "Population stability index of a shadow's scores.", "psi"),
            ("ks_ratio", "Kolmogorov-Smirnov distance of a shadow's scores from the champion's.", "ks"),
            ("changed_ratio", "Share of the rows that a shadow decides in another way.", "changed"),
        ):
            shown = GaugeMetricFamily(f"rayscore_shadow_{name}", text, labels=["version"])
            for verdict in verdicts:
                if (value := getattr(verdict, figure)) is not None:
                    shown.add_metric([verdict.version], value)
            yield shown


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))
