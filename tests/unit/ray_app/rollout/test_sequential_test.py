"""The sequential test: looking after every request deceives nobody, and what is really worse is found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ray_app.rollout.sequential_test import Boundary, SequentialTest, log_mean

ALPHA = 0.05
RUNS = 1500


def refuted(boundary: Boundary, one, other, sizes: tuple[int, int], blocks: int, alpha=ALPHA, runs=RUNS) -> np.ndarray:
    """For each of many simulated rollouts, the block after which the version was refuted, or -1.

    Looked at after every block, which ends with the first request that completes it; `one` and `other` give the true
    shares at a block.
    """
    rng = np.random.default_rng(7)
    evidence, found = SequentialTest(boundary, runs), np.full(runs, -1)
    n1, n0 = (np.full(runs, size) for size in sizes)
    for block in range(blocks):
        evidence.update(rng.binomial(n1, one(block)), n1, rng.binomial(n0, other(block)), n0)
        crossed = evidence.log_e >= math.log(1 / alpha)
        found = np.where((found < 0) & crossed, block, found)
    return found


@pytest.mark.parametrize(
    ("boundary", "one", "other", "sizes"),
    [
        (Boundary(0, 1), 0.01, 0.01, (1, 19)),
        (Boundary(0, 1), 0.05, 0.05, (10, 10)),
        (Boundary(0, 1), 0.001, 0.001, (50, 50)),
        (Boundary(0.01, 0), 0.01, 0.3, (20, 20)),
        (Boundary(0.1, 1), 0.6, 0.5, (5, 95)),
        (Boundary(0, 2), 0.04, 0.02, (5, 95)),
    ],
    ids=["errors-5%", "errors-50%", "rare", "limit", "drift", "ratio"],
)
def test_looking_all_the_time_raises_no_false_alarm(boundary, one, other, sizes):
    """On the very edge of what is allowed, at most alpha of the rollouts are refuted at any of 400 looks."""
    found = refuted(boundary, lambda block: one, lambda block: other, sizes, 400, runs=800)
    assert (found >= 0).mean() <= ALPHA


def test_bad_hours_of_both_are_no_evidence():
    """When both fail forty times as often for a while, and the version's share of the traffic is raised in it: none."""
    rng, runs = np.random.default_rng(3), 800
    evidence, alarms = SequentialTest(Boundary(0, 1), runs), np.zeros(runs, bool)
    for block in range(600):
        rate = 0.2 if 250 <= block < 400 else 0.005
        n1 = np.full(runs, 5 if block < 300 else 60)
        n0 = np.full(runs, 95 if block < 300 else 40)
        evidence.update(rng.binomial(n1, rate), n1, rng.binomial(n0, rate), n0)
        alarms |= evidence.log_e >= math.log(1 / ALPHA)
    assert alarms.mean() <= ALPHA


@pytest.mark.parametrize(
    ("one", "requests"), [(0.01, 1100), (0.03, 350), (0.10, 110), (0.5, 60)], ids=["1%", "3%", "10%", "50%"]
)
def test_failing_versions_are_found(one, requests):
    """Beside a champion that fails for 0.05 %, nine of ten that fail for more are found within so many requests."""
    found = refuted(Boundary(0, 1), lambda b: one, lambda b: 0.0005, (5, 95), 400, alpha=0.005, runs=300)
    assert (found >= 0).all()
    assert np.quantile(found + 1, 0.9) * 5 <= requests


def test_what_goes_wrong_late_is_found():
    """An hour in which all was well does not have to be made up for: 10 % of failures after it are found in seconds."""
    found = refuted(Boundary(0, 1), lambda b: 0.1 if b >= 3000 else 0.0005, lambda b: 0.0005, (5, 95), 3200, runs=50)
    assert np.quantile(found[found >= 3000], 0.9) < 3060
    assert (found >= 0).all()


def test_one_bad_moment_decides_nothing():
    """However much fails within one block, a version is not refuted by it; by three such blocks it is."""
    evidence = SequentialTest(Boundary(0, 1))
    quiet = [np.array([float(n)]) for n in (0, 50, 0, 950)]
    storm = [np.array([float(n)]) for n in (50, 50, 0, 950)]
    evidence.update(*quiet)
    evidence.update(*storm)
    assert evidence.log_e[0] < math.log(1 / 0.05)
    for _ in range(3):
        evidence.update(*storm)
    assert evidence.log_e[0] > math.log(1 / 0.01)


def test_a_better_version_gathers_no_evidence():
    """Against a version that does better than the boundary the evidence shrinks."""
    found = refuted(Boundary(0, 1), lambda b: 0.01, lambda b: 0.05, (20, 80), 300, runs=300)
    assert (found >= 0).mean() <= 0.01


def test_empty_blocks_change_nothing():
    """Blocks without requests, or of one side only, are no evidence in a comparison."""
    evidence = SequentialTest(Boundary(0, 1))
    one = np.array([1.0])
    evidence.update(0 * one, 10 * one, 0 * one, 10 * one)
    before = evidence.log_e[0]
    for _ in range(20):
        evidence.update(0 * one, 0 * one, 0 * one, 0 * one)
    assert evidence.log_e[0] == before
    for _ in range(20):
        evidence.update(5 * one, 5 * one, 0 * one, 0 * one)
    assert evidence.log_e[0] == pytest.approx(0)
    assert log_mean(np.array([0.0, -np.inf])) == pytest.approx(math.log(0.5))


def test_a_boundary_without_room_is_no_evidence():
    """Where the allowed share is all there is, nothing can be worse."""
    found = refuted(Boundary(0, 2), lambda b: 1.0, lambda b: 0.9, (10, 10), 100, runs=20)
    assert (found < 0).all()
