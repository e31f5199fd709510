"""How a rollout decides, second by second, on a clock and with counts of the test's own."""

from __future__ import annotations

import numpy as np
import pytest

from ray_app.rollout.rollout_controller import RolloutController
from ray_app.rollout.version_stats import VersionStats
from tests.support.serving.rollout import World, good, quick
from tests.support.serving.version_stats import drawn
from tune.registry.rollout_spec import RolloutState, Slo


def test_good_version_gets_all_traffic():
    """A good version goes step by step to 100 %, each step held for its time, and is done after the last."""
    world = World(quick())
    weights = []
    world.until(lambda: weights.append(world.weight) or world.rollout.state.over)
    assert world.rollout.state is RolloutState.DONE
    assert list(dict.fromkeys(weights)) == [0, 5, 25, 100]
    assert all(weights.count(weight) >= 20 for weight in (5, 25, 100))
    assert len(world.rollout.began) == 3
    assert "kept to its objectives" in world.rollout.reason
    world.second()
    assert world.weight == 100, "it keeps its traffic"


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (dict(errors=0.02), "errors"),
        (dict(slow=0.05), "latency"),
        (dict(shift=1.5), "score drift"),
        (dict(shift=-2), "score drift"),
        (dict(refused=0.1), "refused"),
    ],
    ids=["errors", "slow", "higher scores", "lower scores", "refuses"],
)
def test_bad_version_is_taken_back(bad, named):
    """A version that errs, is slow, drifts or refuses is rolled back by itself, and the paragraph says why."""
    world = World(quick(hold_s=300), version=lambda rng, n: drawn(rng, n, **bad))
    world.until(lambda: world.rollout.state.over)
    assert world.rollout.state is RolloutState.ROLLED_BACK
    assert world.weight == 0
    assert world.rules.versions == ("1",)
    assert named in world.rollout.reason
    assert "champion's" in world.rollout.reason
    assert "All traffic goes to version 1 again" in world.rollout.reason
    assert "\n" not in world.rollout.reason
    world.second()
    assert world.rollout.settled


def test_most_good_versions_are_left_alone():
    """Looked at each second, of twelve good rollouts at most two are rolled back (alpha is 5 %)."""
    ends = []
    for seed in range(12):
        world = World(quick(steps=(5, 50)), seed=seed)
        world.until(lambda world=world: world.rollout.state.over)
        ends.append(world.rollout.state)
    assert ends.count(RolloutState.ROLLED_BACK) <= 2
    assert set(ends) <= {RolloutState.DONE, RolloutState.ROLLED_BACK}


def test_trouble_of_both_is_no_reason():
    """While the store is down both fail alike: nobody is rolled back, and nothing is raised while it is in doubt."""

    def ill(rng: np.random.Generator, requests: int) -> VersionStats:
        return drawn(rng, requests, errors=0.3, slow=0.4)

    world = World(quick(steps=(25, 50), hold_s=60), version=ill, champion=ill)
    world.until(lambda: len(world.rollout.began) == 2)
    assert world.rollout.state is RolloutState.RUNNING


def test_version_that_fails_alone_at_the_top_is_taken_back():
    """At 100 % there is no champion beside it: the limits alone decide."""
    world = World(quick(hold_s=60))
    world.until(lambda: world.weight == 100)
    world.version = lambda rng, n: drawn(rng, n, errors=0.02)
    world.until(lambda: world.rollout.state.over, 60)
    assert world.rollout.state is RolloutState.ROLLED_BACK
    assert "alone" in world.rollout.reason


def test_a_step_waits_for_its_requests():
    """However long it is held, a step with too few requests is not left; what it waits for is said."""
    world = World(quick(min_requests=100), rate=4)
    world.until(lambda: world.weight == 5)
    for _ in range(60):
        world.second()
    assert world.weight == 5
    assert "of 100 requests" in world.controller.progress(world.rollout)


def test_restart_goes_on_where_it_was():
    """Another controller finds the step by the rules in force, holds it anew, and takes a share of alpha of its own."""
    world = World(quick())
    world.until(lambda: world.weight == 25)
    world.second()
    world.second()
    judges = world.rollout.judges
    world.controller = RolloutController()
    world.second()
    assert (world.weight, world.rollout.step, world.rollout.judges) == (25, 1, judges + 1)
    assert "anew" in world.rollout.history[-1].text
    assert world.until(lambda: world.weight == 100) >= 19
    world.until(lambda: world.rollout.state is RolloutState.DONE)


def test_restart_between_commit_and_note():
    """Rules that were committed, with the rollout not written yet, are taken for what they are."""
    world = World(quick())
    world.until(lambda: world.weight == 5)
    before = world.rollout
    world.until(lambda: world.weight == 25)
    world.rollout, world.controller = before, RolloutController()
    world.second()
    assert (world.rollout.step, world.weight) == (1, 25)


def test_the_past_of_a_gateway_that_is_heard_late_is_no_evidence():
    """A gateway that the watch did not begin with counts from when it was heard: its past holds no step, refutes none.

    So it is after a restart of Control in the middle, which the gateways find one after the other.
    """
    for past in (good(np.random.default_rng(1), 10_000), drawn(np.random.default_rng(1), 10_000, errors=0.5)):
        world = World(quick(min_requests=1000, hold_s=5))
        world.until(lambda world=world: world.weight == 5)
        for _ in range(3):
            world.second()
        world.others["gateway-2"] = {"1": good(world.rng, 190_000), "2": past}
        for _ in range(10):
            world.second()
        assert (world.weight, world.rollout.state) == (5, RolloutState.RUNNING)
        assert "of 1,000 requests" in world.controller.progress(world.rollout)
        world.others["gateway-2"] = {
            "1": world.others["gateway-2"]["1"] + good(world.rng, 19_000),
            "2": past + good(world.rng, 1000),
        }
        world.until(lambda world=world: world.weight == 25)


def test_a_gateway_that_is_forgotten_blinds_nobody():
    """When the counts of a gateway that is gone are forgotten, a version that fails from then on is still found."""
    world = World(quick(hold_s=600))
    world.others["gateway-0"] = {"1": good(world.rng, 500_000), "2": good(world.rng, 20_000)}
    world.until(lambda: world.weight == 5)
    for _ in range(3):
        world.second()
    world.others.clear()
    world.version = lambda rng, n: drawn(rng, n, errors=1.0)
    world.until(lambda: world.rollout.state is RolloutState.ROLLED_BACK, 60)


def test_counts_that_began_anew_blind_nobody():
    """When a gateway has counted anew, a version that fails from then on is still found."""
    world = World(quick(hold_s=600))
    world.until(lambda: world.weight == 5)
    world.version_stats = {"1": good(world.rng, 500_000), "2": good(world.rng, 20_000)}
    for _ in range(3):
        world.second()
    world.version_stats = {"1": VersionStats(), "2": VersionStats()}
    world.version = lambda rng, n: drawn(rng, n, errors=1.0)
    world.until(lambda: world.rollout.state is RolloutState.ROLLED_BACK, 60)


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 1e9])
def test_clock_jumps_hold_no_step(jump):
    """A clock that jumps neither ends a hold nor makes it longer by more than a tick."""
    world = World(quick())
    world.until(lambda: world.weight == 5)
    world.second()
    world.second()
    world.second(jump)
    assert world.weight == 5
    assert 12 <= world.until(lambda: world.weight == 25) <= 22


def test_what_is_off_is_not_judged():
    """Objectives that are switched off are neither shown nor decide anything."""
    slo = Slo(drift=None, decisions=None, latency_s=None)
    world = World(quick(slo=slo), version=lambda rng, n: drawn(rng, n, slow=0.3, shift=2))
    world.until(lambda: len(world.rollout.began) == 1)
    world.until(lambda: len(world.controller.findings()) > 0)
    assert {finding.name for finding in world.controller.findings()} == {"errors", "refused"}
    world.until(lambda: world.rollout.state is RolloutState.DONE)
