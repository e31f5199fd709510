"""Rollouts on real processes: one at a time, taken back at once, and held through a Control that dies or sleeps."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support.environment.waiting import wait_for
from tests.support.load.checked_load import checking
from tests.support.services.model_swaps import (
    BODIES,
    GOOD,
    away,
    first_step,
    kill_one,
    load,
    moved_on,
    replicas,
    swap,
    unharmed,
)
from tune.registry.rollout_spec import RolloutAction

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("champion_alone")]


def test_of_two_rollouts_at_once_the_second_is_refused(versions, expected):
    """By the command, and by Control when both orders were written at the same time; the first goes on as it was."""
    start = ("tune", "rollout", "start", GOOD, "--hold", "1h", "--steps")
    first = versions.place.run(*start, "10,100")
    assert first.returncode == 0, first.stdout + first.stderr
    second = versions.place.run(*start, "50,100")
    assert second.returncode == 2
    assert "abort it first" in second.stderr
    versions.order(RolloutAction.START, "0000beef", steps=(50,), hold_s=3600)
    wait_for(lambda: "abort it first" in str(versions.look()["refusals"][-1:]), "the second order to be refused")
    assert versions.look()["rollout"]["steps"] == [10, 100]
    assert versions.weight() == 10
    assert versions.ask(BODIES[0]).status_code == 200


def test_rollback_by_the_admin_api_takes_no_registry(versions, expected):
    """One command takes the challenger out while the registry is away; another token is refused."""
    swap(versions, 40)
    versions.wait_settled()
    command = ("tune", "rollout", "rollback", "--url", versions.place.url)
    environment = versions.place.environment
    versions.place.environment = {**environment, "RAYSCORE_ADMIN_TOKEN": "a-token-of-somebody-else"}
    wrong = versions.place.run(*command)
    versions.place.environment = environment
    assert wrong.returncode == 2
    assert "401 Not authorized" in wrong.stderr
    assert versions.weight() == 40
    with away(versions.database):
        done = versions.place.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "version 1 answers everybody" in done.stdout
        assert versions.weight() == 0


def test_control_killed_in_mid_canary_finds_its_step(versions, expected):
    """kill -9 of Control in a rollout: the step stays in force, is held anew by the next one, and then goes on."""
    with checking(load(versions, expected, 14)) as future:
        versions.order(RolloutAction.START, "00000001", steps=(10, 50), hold_s=6)
        first_step(versions)
        rules = versions.look("rules")
        victim = kill_one(versions, "Control")
        wait_for(lambda: bool(set(replicas(versions, "Control")) - {victim}), "another Control")
        versions.wait_settled()
        seen = future.result()
    unharmed(seen)
    assert max(seen.epochs) >= rules["epoch"]
    wait_for(lambda: moved_on(versions, 50), "the second step")
    told = [event["text"] for event in versions.look()["rollout"]["history"]]
    assert any("watched anew" in text for text in told)


def test_a_clock_that_jumps_holds_no_step(versions, expected):
    """A Control that is stopped for longer than a step's hold has left finds its clock ahead: 5 s of that count."""
    hold_s, away_s = 9.0, 7.0
    versions.order(RolloutAction.START, "00000002", steps=(10, 50), hold_s=hold_s)
    first_step(versions)
    (control,) = replicas(versions, "Control")
    with checking(load(versions, expected, away_s)) as future:
        os.kill(control, signal.SIGSTOP)
        try:
            time.sleep(away_s)
        finally:
            os.kill(control, signal.SIGCONT)
        seen = future.result()
    unharmed(seen)
    versions.wait_settled()
    wait_for(lambda: moved_on(versions, 50), "the second step")
    wait_for(lambda: len(versions.look()["rollout"]["began"]) == 2, "the second step to be noted")
    first, second = versions.look()["rollout"]["began"]
    assert second - first >= hold_s + away_s - 5
