"""Adaptive micro-batching: whenever a slot is free, all queued items become one batch. There is no timer."""

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


class _QueuedItem(NamedTuple):
    item: Any
    future: asyncio.Future[Any]
    deadline: float


class MicroBatcher(Generic[Item, Result]):
    """Collects items of concurrent callers and runs them in batches. Belongs to one event loop."""

    def __init__(
        self,
        run: Callable[[list[Item], float], Awaitable[Sequence[Result]]],
        *,
        max_batch: int,
        slots: Callable[[], int],
        limit: QueueLimit,
        on_batch: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """Create an idle batcher.

        Args:
            run: processes a batch; gets the items and the time allowed in seconds, which is the longest that any of the
                batch's callers has left; returns one result per item, in order.
            max_batch: largest number of items in one batch.
            slots: returns how many batches may run at once. Called before each batch: the number follows the replicas.
            limit: limit of queued items; batchers may share one.
            on_batch: called with the size of every batch.
        """
        self._run = run
        self._max_batch = max_batch
        self._slots = slots
        self._running = 0
        self._limit = limit
        self._on_batch = on_batch
        self._queue: deque[_QueuedItem] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Number of queued items, including those whose callers were cancelled."""
        return len(self._queue)

    async def submit(self, items: Sequence[Item], timeout_s: float) -> list[Result]:
        """Return the results of `items`, in order. An exception of `run` is raised to every caller in its batch.

        Raises:
            Overloaded: the queue has no room for all of them (then none is queued), or the batcher was closed.
            DeadlineExceeded: there were no results within `timeout_s` seconds.
        """
        self._limit.require_room(len(items))
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in items]
        deadline = loop.time() + timeout_s
        self._queue.extend(_QueuedItem(item, future, deadline) for item, future in zip(items, futures, strict=True))
        self._limit.waiting += len(items)
        self._start_batches()
        timer = loop.call_later(timeout_s, _expire, futures)
        try:
            return [await future for future in futures]
        finally:
            timer.cancel()
            for future in futures:
                # After the first failed item the others' exceptions are never awaited; asyncio would log each as never
                # retrieved.
                if not future.cancel() and not future.cancelled():
                    future.exception()

    async def close(self) -> None:
        """Fail the queued items with Overloaded, and wait for the running batches."""
        while self._queue:
            future = self._take().future
            if not future.done():
                future.set_exception(Overloaded("the server is shutting down; try again"))
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start_batches(self) -> None:
        while self._queue and self._running < self._slots():
            batch: list[_QueuedItem] = []
            while self._queue and len(batch) < self._max_batch:
                queued = self._take()
                # Done already: its caller was cancelled or its deadline has passed.
                if not queued.future.done():
                    batch.append(queued)
            if not batch:
                return
            self._running += 1
            # In an empty context. The task would otherwise inherit the request context of the caller that happens to
            # start it, and Serve cancels the calls made in a request's context when its client disconnects.
            task = contextvars.Context().run(asyncio.get_running_loop().create_task, self._run_batch(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self) -> _QueuedItem:
        self._limit.waiting -= 1
        return self._queue.popleft()

    async def _run_batch(self, batch: list[_QueuedItem]) -> None:
        self._on_batch(len(batch))
        try:
            budget_s = max(queued.deadline for queued in batch) - asyncio.get_running_loop().time()
            results = await self._run([queued.item for queued in batch], budget_s)
            if len(results) != len(batch):
                raise RuntimeError(f"a batch of {len(batch)} items was given {len(results)} results")
            for queued, result in zip(batch, results, strict=True):
                if not queued.future.done():
                    queued.future.set_result(result)
        except asyncio.CancelledError:
            _fail(batch, Overloaded("the server is shutting down; try again"))
            raise
        except Exception as exc:  # noqa: BLE001  any error is raised to the callers of the batch
            _fail(batch, exc)
        finally:
            self._running -= 1
            self._start_batches()


def _fail(batch: list[_QueuedItem], error: Exception) -> None:
    for queued in batch:
        if not queued.future.done():
            queued.future.set_exception(error)


def _expire(futures: list[asyncio.Future[Any]]) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(DeadlineExceeded("the time allowed for the request is spent"))
