"""A loop that goes on after whatever its rounds raise, and says so to who asks after its health."""

from __future__ import annotations

import asyncio

import pytest

from ray_app.control.supervised_loop import SupervisedLoop
from tests.support.serving.predict_app import run, until


class Rounds:
    """Rounds that fail while there is an error, and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.error: Exception | None = None
        self.done = 0
        self.loop = SupervisedLoop("the test", self.turn, lambda: self.now, pause_s=0.001, failing_s=60.0)

    async def turn(self) -> None:
        """One round."""
        if self.error is not None:
            raise self.error
        self.done += 1
        await asyncio.sleep(0)


async def failed(rounds: Rounds, error: Exception) -> None:
    """Have at least one more round fail with an error."""
    rounds.error, before = error, rounds.loop.failures
    await until(lambda: rounds.loop.failures > before)


def test_failures_are_counted_and_the_loop_goes_on():
    """Rounds fail, are counted, and succeed again when the cause is gone."""

    async def scenario() -> None:
        rounds = Rounds()
        rounds.loop.start()
        await until(lambda: rounds.done > 0)
        await failed(rounds, ZeroDivisionError("unforeseen"))
        rounds.error, done = None, rounds.done
        await until(lambda: rounds.done > done)
        await rounds.loop.stop()

    run(scenario())


def test_only_what_fails_for_long_is_unhealthy():
    """The check passes a blip, fails after a minute without one good round, and passes again after one."""

    async def scenario() -> None:
        rounds = Rounds()
        rounds.loop.start()
        await failed(rounds, ValueError("a broken part"))
        rounds.now += 59
        rounds.loop.check()
        await failed(rounds, ValueError("a broken part"))
        rounds.now += 2
        with pytest.raises(RuntimeError, match=r"the test has failed for 61 s: .*a broken part"):
            rounds.loop.check()
        rounds.error, done = None, rounds.done
        await until(lambda: rounds.done > done + 1)
        rounds.loop.check()
        await rounds.loop.stop()

    run(scenario())


def test_a_loop_that_is_no_more_is_unhealthy():
    """A loop that has ended, by whatever hand, does not pass for one that works."""

    async def scenario() -> None:
        rounds = Rounds()
        rounds.loop.check()
        rounds.loop.start()
        await until(lambda: rounds.done > 0)
        rounds.loop.check()
        await rounds.loop.stop()
        with pytest.raises(RuntimeError, match="has ended"):
            rounds.loop.check()

    run(scenario())


def test_the_same_failure_again_and_again_is_logged_once(caplog: pytest.LogCaptureFixture):
    """Each new kind of failure is in the log with its traceback; its repetitions are only counted."""

    async def scenario() -> None:
        rounds = Rounds()
        rounds.loop.start()
        for error in (ValueError("one"), ValueError("one"), KeyError("two")):
            await failed(rounds, error)
        await rounds.loop.stop()

    with caplog.at_level("ERROR", "ray.serve"):
        run(scenario())
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["one", "'two'"]
