"""What Control shows as metrics is what it wants and knows."""

from __future__ import annotations

import numpy as np
import pytest

from ray_app.control.messages import FUSED, ReplicaReport
from ray_app.deployments.metrics.control_metrics import ControlMetrics
from ray_app.rollout.shadow_comparison import SHADOWS, ScoredRow, ShadowComparison
from tests.support.serving.made_models import DIGITS
from tests.support.serving.metrics import samples, text
from tests.support.serving.rollout_driver import Place, quick
from tune.registry.rollout_spec import RolloutAction, RolloutState
from tune.registry.traffic_rules import Challenger, Mode


def shown(place: Place, lost: int = 0) -> dict[tuple[str, str], float]:
    """The board's samples."""
    return samples(text(ControlMetrics(place.control, place.rollout_driver, lambda: lost)))


def test_a_quiet_control():
    """Without a rollout the champion has all entities, nothing is owed, and the state is `none`."""
    place = Place()
    assert shown(place)["rayscore_control_settled", ""] == 0
    for _ in range(4):
        place.second()
    found = shown(place, lost=2)
    assert found["rayscore_control_settled", ""] == 1
    assert found["rayscore_control_epoch", ""] == 1
    assert found["rayscore_registry_problem", ""] == 0
    assert found["rayscore_traffic_weight_ratio", "role=champion,version=1"] == 1
    assert found["rayscore_version_replicas", "version=1"] == 1
    assert found["rayscore_champion_replicas", ""] == 1
    assert found["rayscore_audit_lost_total", ""] == 2
    assert {labels for (name, labels), value in found.items() if name == "rayscore_rollout_state" and value} == {
        "state=none"
    }


def test_a_registry_that_is_away_is_shown():
    """While the registry's word is not to be had the gauge is 1."""
    place = Place()
    place.second()
    place.control.registry_state.problem = "MLflow does not answer"
    assert shown(place)["rayscore_registry_problem", ""] == 1


def test_a_rollout_from_its_start_to_its_end():
    """State, step, share and evidence are those of the rollout; rolled back, that is shown with its time."""
    place = Place()
    place.order(RolloutAction.START, quick(hold_s=1000))
    for _ in range(10):
        place.second()
    found = shown(place)
    assert found["rayscore_rollout_state", "state=running"] == 1
    assert found["rayscore_rollout_step", ""] == 1
    assert found["rayscore_rollout_weight_ratio", ""] == pytest.approx(0.1)
    assert found["rayscore_traffic_weight_ratio", "role=live,version=2"] == pytest.approx(0.1)
    assert found["rayscore_traffic_weight_ratio", "role=champion,version=1"] == pytest.approx(0.9)
    assert 0 <= found["rayscore_rollout_evidence_ratio", "objective=score_drift"] < 1
    place.errors = 0.5
    place.until(RolloutState.ROLLED_BACK)
    place.second()
    found = shown(place)
    assert found["rayscore_rollout_state", "state=rolled_back"] == 1
    assert found["rayscore_rollout_state", "state=running"] == 0
    assert found["rayscore_rollout_weight_ratio", ""] == 0
    assert place.now - 5 <= found["rayscore_rollout_changed_timestamp_seconds", ""] <= place.now


def test_a_shadow_by_what_is_said_of_it():
    """PSI, KS and the share of changed decisions of a shadow are those of its verdict, and its share is a shadow's."""
    place = Place()
    place.second()
    challenger = Challenger(version="3", weight=40, mode=Mode.SHADOW)
    place.control.rules = place.control.rules.model_copy(update={"challengers": (challenger,)})
    comparison = ShadowComparison("1")
    rng = np.random.default_rng(1)
    for score in rng.random(200):
        comparison.add(DIGITS, ScoredRow([score], int(score > 0.5), 0.001), ScoredRow([score / 2], 0, 0.001))
    extras = {SHADOWS: {"3": comparison}}
    place.control.on_report(ReplicaReport("g2", FUSED, "contract", 1, -1, {}, place.rules, extras=extras), place.now)
    found, verdict = shown(place), comparison.verdict("3")
    assert found["rayscore_shadow_psi", "version=3"] == pytest.approx(verdict.psi)
    assert found["rayscore_shadow_ks_ratio", "version=3"] == pytest.approx(verdict.ks)
    assert found["rayscore_shadow_changed_ratio", "version=3"] == pytest.approx(verdict.changed)
    assert found["rayscore_traffic_weight_ratio", "role=shadow,version=3"] == pytest.approx(0.4)
    assert found["rayscore_traffic_weight_ratio", "role=champion,version=1"] == 1
    assert found["rayscore_version_replicas", "version=3"] == 0
