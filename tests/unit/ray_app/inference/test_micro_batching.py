"""The micro-batcher: what forms a batch, and that nobody's fate is anybody else's."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from data.errors import DeadlineExceeded, Overloaded
from ray_app.inference.micro_batching import MicroBatcher
from ray_app.inference.queue_limit import QueueLimit
from tests.support.serving.predict_app import run, until

_LONG_S = 60.0


class Runner:
    """Doubles each item of a batch, once the gate is open; remembers the batches."""

    def __init__(self, opened: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.budgets: list[float] = []
        self.gate = asyncio.Event()
        if opened:
            self.gate.set()

    async def __call__(self, items: list[int], budget_s: float) -> list[int]:
        """Double the items; a negative one fails the batch."""
        self.batches.append(items)
        self.budgets.append(budget_s)
        await self.gate.wait()
        if min(items) < 0:
            raise ValueError("negative")
        return [2 * item for item in items]


def batcher(runner: Runner, max_batch: int = 8, slots: int = 1, queue_limit: int = 100) -> MicroBatcher[int, int]:
    """A batcher over the runner."""
    return MicroBatcher(runner, max_batch=max_batch, slots=lambda: slots, limit=QueueLimit(queue_limit))


def submitted(batch: MicroBatcher[int, int], *items: int) -> asyncio.Task[list[int]]:
    """A caller that waits for its items."""
    return asyncio.create_task(batch.submit(items, _LONG_S))


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_batch_forms_from_all_that_waited():
    """The first item goes at once; all that queued meanwhile go together when the slot frees."""

    async def scenario() -> None:
        runner = Runner(opened=False)
        batch = batcher(runner)
        callers = [submitted(batch, i) for i in range(6)]
        await settle()
        assert runner.batches == [[0]]
        assert batch.waiting == 5
        runner.gate.set()
        assert await asyncio.gather(*callers) == [[2 * i] for i in range(6)]
        assert runner.batches == [[0], [1, 2, 3, 4, 5]]

    run(scenario())


def test_slots_run_side_by_side():
    """No more batches than slots are under way at once."""

    async def scenario() -> None:
        runner = Runner(opened=False)
        batch = batcher(runner, slots=2)
        callers = [submitted(batch, i) for i in range(4)]
        await settle()
        assert runner.batches == [[0], [1]]
        runner.gate.set()
        await asyncio.gather(*callers)
        assert runner.batches == [[0], [1], [2, 3]]

    run(scenario())


def test_no_batch_is_larger_than_allowed():
    """A request of many items is cut into batches of at most `max_batch`, its results in order."""

    async def scenario() -> None:
        runner = Runner()
        results = await batcher(runner, max_batch=4).submit(range(10), _LONG_S)
        assert results == [2 * i for i in range(10)]
        assert [len(items) for items in runner.batches] == [4, 4, 2]

    run(scenario())


def test_batch_sizes_are_reported():
    """The observer is told the size of every batch."""

    async def scenario() -> None:
        sizes: list[int] = []
        batch = MicroBatcher(Runner(), max_batch=3, slots=lambda: 1, limit=QueueLimit(10), on_batch=sizes.append)
        await batch.submit(range(7), _LONG_S)
        assert sizes == [3, 3, 1]

    run(scenario())


@pytest.mark.parametrize("leaver", [0, 1, 2])
def test_leaving_caller_does_not_harm_its_batch(leaver: int):
    """When the first, a middle or the last caller of a running batch is cancelled, the others are answered."""

    async def scenario() -> None:
        runner = Runner(opened=False)
        batch = batcher(runner)
        first = submitted(batch, 99)
        callers = [submitted(batch, i) for i in range(3)]
        await settle()
        runner.gate.set()
        await first
        runner.gate.clear()
        await until(lambda: len(runner.batches) == 2)
        callers[leaver].cancel()
        await settle()
        runner.gate.set()
        results = await asyncio.gather(*callers, return_exceptions=True)
        assert runner.batches[1] == [0, 1, 2]
        assert isinstance(results.pop(leaver), asyncio.CancelledError)
        assert results == [[2 * i] for i in range(3) if i != leaver]

    run(scenario())


def test_callers_that_left_are_not_run():
    """Items whose callers left while queued are never handed to `run`."""

    async def scenario() -> None:
        runner = Runner(opened=False)
        batch = batcher(runner)
        first = submitted(batch, 0)
        leavers = [submitted(batch, i, i) for i in (1, 2)]
        await settle()
        for caller in leavers:
            caller.cancel()
        await settle()
        runner.gate.set()
        assert await first == [0]
        await settle()
        assert runner.batches == [[0]]
        assert await batch.submit([3], _LONG_S) == [6]
        assert batch.waiting == 0

    run(scenario())


def test_failing_run_fails_its_batch_alone():
    """Every caller of a failed batch gets the error; the next batch works."""

    async def scenario() -> None:
        runner = Runner()
        batch = batcher(runner)
        results = await asyncio.gather(*(batch.submit([i], _LONG_S) for i in (1, -2, 3)), return_exceptions=True)
        assert results[0] == [2]
        assert [str(error) for error in results[1:]] == ["negative", "negative"]
        assert await batch.submit([4], _LONG_S) == [8]

    run(scenario())


@pytest.mark.parametrize("given", [0, 1, 3])
def test_wrong_number_of_results_fails_all(given: int):
    """A run that returns too few or too many results answers nobody and leaves nobody hanging."""

    async def scenario() -> None:
        async def wrong(items: list[int], budget_s: float) -> list[int]:
            return [0] * given

        batch = MicroBatcher(wrong, max_batch=8, slots=lambda: 1, limit=QueueLimit(10))
        with pytest.raises(RuntimeError, match=f"2 items was given {given} results"):
            await batch.submit([1, 2], _LONG_S)

    run(scenario())


def test_full_queue_refuses_and_keeps_nothing():
    """Beyond the limit a request is refused in whole, and those queued are answered."""

    async def scenario() -> None:
        runner = Runner(opened=False)
        batch = batcher(runner, queue_limit=3)
        callers = [submitted(batch, 0), submitted(batch, 1, 2)]
        await settle()
        with pytest.raises(Overloaded, match="try again later"):
            await batch.submit([7, 8], _LONG_S)
        assert batch.waiting == 2
        runner.gate.set()
        assert await asyncio.gather(*callers) == [[0], [2, 4]]
        assert runner.batches == [[0], [1, 2]]

    run(scenario())


def test_batchers_that_share_a_limit_share_its_room():
    """Rows that wait in one batcher leave less room in another, and give it back when they are run or failed."""

    async def scenario() -> None:
        refused: list[int] = []
        limit = QueueLimit(3, refused.append)
        runners = Runner(opened=False), Runner(opened=False)
        first, second = (MicroBatcher(runner, max_batch=8, slots=lambda: 1, limit=limit) for runner in runners)
        running = [submitted(first, 0), submitted(second, 10)]
        await settle()
        assert limit.waiting == 0
        waiting = [submitted(first, 1, 2), submitted(second, 11)]
        await settle()
        assert limit.waiting == 3
        with pytest.raises(Overloaded):
            await second.submit([12], _LONG_S)
        assert refused == [1]
        runners[0].gate.set()
        await asyncio.gather(running[0], waiting[0])
        assert limit.waiting == 1
        runners[1].gate.set()
        await asyncio.gather(running[1], waiting[1])
        assert limit.waiting == 0

    run(scenario())


def test_deadline_ends_the_wait_and_a_late_result_is_dropped():
    """A caller whose time is up gets DeadlineExceeded; what comes later is ignored and the slot is free again."""

    async def scenario() -> None:
        runner = Runner(opened=False)
        batch = batcher(runner)
        with pytest.raises(DeadlineExceeded):
            await batch.submit([1], 0.01)
        with pytest.raises(DeadlineExceeded):
            await batch.submit([2], 0.01)
        runner.gate.set()
        assert await batch.submit([3], _LONG_S) == [6]
        assert runner.batches == [[1], [3]]

    run(scenario())


def test_batch_does_not_inherit_the_callers_context():
    """What a caller has in its context variables is not seen by the batch it started."""
    request = contextvars.ContextVar("request", default="none")

    async def scenario() -> None:
        async def seen(items: list[int], budget_s: float) -> list[str]:
            return [request.get() for _ in items]

        request.set("first client's")
        batch = MicroBatcher(seen, max_batch=2, slots=lambda: 1, limit=QueueLimit(10))
        assert await batch.submit([1, 2, 3], _LONG_S) == ["none"] * 3

    run(scenario())


def test_close_waits_for_the_running_and_fails_the_queued():
    """Closing lets the batch under way finish and refuses what still waits."""

    async def scenario() -> None:
        runner = Runner(opened=False)
        batch = batcher(runner)
        running, queued = submitted(batch, 1), submitted(batch, 2)
        await settle()
        closing = asyncio.create_task(batch.close())
        await settle()
        assert not closing.done()
        runner.gate.set()
        await closing
        assert await running == [2]
        with pytest.raises(Overloaded, match="shutting down"):
            await queued
        assert runner.batches == [[1]]

    run(scenario())


def test_cancelled_run_leaves_nobody_waiting():
    """When the batch's task itself is cancelled, its callers are told to try again."""

    async def scenario() -> None:
        async def ends(items: list[int], budget_s: float) -> list[int]:
            raise asyncio.CancelledError

        with pytest.raises(Overloaded):
            await MicroBatcher(ends, max_batch=2, slots=lambda: 1, limit=QueueLimit(10)).submit([1, 2], _LONG_S)

    run(scenario())


def test_batch_has_the_time_of_its_most_patient_caller() -> None:
    """A batch may take as long as the caller with the most time left, and no longer than that caller asked for."""

    async def scenario() -> list[float]:
        runner = Runner(opened=False)
        batch = batcher(runner)
        first = asyncio.ensure_future(batch.submit([1], 5.0))
        await until(lambda: len(runner.batches) == 1)
        others = [asyncio.ensure_future(batch.submit([2], seconds)) for seconds in (10.0, 30.0)]
        await asyncio.sleep(0)
        runner.gate.set()
        await asyncio.gather(first, *others)
        return runner.budgets

    alone, together = run(scenario())
    assert 4 < alone <= 5
    assert 29 < together <= 30


def test_slots_follow_the_replicas() -> None:
    """When a replica is added, the next batch that is handed in runs beside those under way."""

    async def scenario() -> int:
        runner, replicas = Runner(opened=False), [1]
        batch = MicroBatcher(runner, max_batch=1, slots=lambda: len(replicas), limit=QueueLimit(10))
        tasks = [asyncio.ensure_future(batch.submit([item], 10)) for item in (1, 2)]
        await until(lambda: batch.waiting == 1)
        assert len(runner.batches) == 1
        replicas.append(2)
        tasks.append(asyncio.ensure_future(batch.submit([3], 10)))
        await until(lambda: len(runner.batches) == 2)
        under_way = len(runner.batches)
        runner.gate.set()
        await asyncio.gather(*tasks)
        return under_way

    assert run(scenario()) == 2
