"""Adaptive micro-batching: a batch forms when a slot frees, from all that is queued. No timer, no fixed wait."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from data.errors import DeadlineExceeded, Overloaded
from ray_app.inference.queue_limit import QueueLimit

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Waiting(NamedTuple):
    item: Any
    future: asyncio.Future[Any]
    deadline: float


class MicroBatcher(Generic[Item, Result]):
    """Runs `run` on batches of what callers submit, `slots` at once. Belongs to one event loop."""

    def __init__(
        self,
        run: Callable[[list[Item], float], Awaitable[Sequence[Result]]],
        *,
        max_batch: int,
        slots: Callable[[], int],
        limit: QueueLimit,
        on_batch: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """Set up without starting anything.

        Args:
            run: scores a batch within so many seconds, the most that any of its callers has left; must return
                one result an item, in order.
            max_batch: most items handed to one call of `run`.
            slots: returns the most calls of `run` under way at once; asked for every batch, as replicas come and go.
            limit: counts the items that wait, here and in the other batchers that share it; beyond it `submit` raises
                Overloaded.
            on_batch: called with the size of every batch.
        """
        self._run = run
        self._max_batch = max_batch
        self._slots = slots
        self._under_way = 0
        self._limit = limit
        self._on_batch = on_batch
        self._queue: deque[_Waiting] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Items queued here, those of callers that have left included."""
        return len(self._queue)

    async def submit(self, items: Sequence[Item], timeout_s: float) -> list[Result]:
        """Return the results of `items`, in order.

        Raises:
            Overloaded: the queue is full; nothing was queued.
            DeadlineExceeded: `timeout_s` passed first.
        """
        self._limit.require_room(len(items))
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in items]
        deadline = loop.time() + timeout_s
        self._queue.extend(_Waiting(item, future, deadline) for item, future in zip(items, futures, strict=True))
        self._limit.waiting += len(items)
        self._pump()
        timer = loop.call_later(timeout_s, _expire, futures)
        try:
            return [await future for future in futures]
        finally:
            timer.cancel()
            for future in futures:
                # Retrieves the exceptions of later items, so that none is reported as never retrieved.
                if not future.cancel() and not future.cancelled():
                    future.exception()

    async def close(self) -> None:
        """Wait for the batches under way and fail what is still queued with Overloaded."""
        while self._queue:
            future = self._take().future
            if not future.done():
                future.set_exception(Overloaded("the server is shutting down; try again"))
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _pump(self) -> None:
        while self._queue and self._under_way < self._slots():
            batch: list[_Waiting] = []
            while self._queue and len(batch) < self._max_batch:
                waiting = self._take()
                if not waiting.future.done():
                    batch.append(waiting)
            if not batch:
                return
            self._under_way += 1
            # An empty context: the batch must not carry the request context of the caller that happened to
            # start it, or that caller's disconnect would cancel everybody's work.
            task = contextvars.Context().run(asyncio.get_running_loop().create_task, self._run_batch(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self) -> _Waiting:
        self._limit.waiting -= 1
        return self._queue.popleft()

    async def _run_batch(self, batch: list[_Waiting]) -> None:
        self._on_batch(len(batch))
        try:
            budget_s = max(waiting.deadline for waiting in batch) - asyncio.get_running_loop().time()
            results = await self._run([waiting.item for waiting in batch], budget_s)
            if len(results) != len(batch):
                raise RuntimeError(f"a batch of {len(batch)} items was given {len(results)} results")
            for waiting, result in zip(batch, results, strict=True):
                if not waiting.future.done():
                    waiting.future.set_result(result)
        except asyncio.CancelledError:
            _fail(batch, Overloaded("the server is shutting down; try again"))
            raise
        except Exception as exc:  # noqa: BLE001  whatever it is, it belongs to the callers that wait
            _fail(batch, exc)
        finally:
            self._under_way -= 1
            self._pump()


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.future.done():
            waiting.future.set_exception(error)


def _expire(futures: list[asyncio.Future[Any]]) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(DeadlineExceeded("the time allowed for the request is spent"))
