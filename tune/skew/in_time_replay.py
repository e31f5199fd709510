"""The skew proof in time: what happened is sent through a running service in order, and each answer compared.

A row waits for those before it whose events it may count; all others go side by side. What fails because a part of the
service is gone is sent again, under the same keys.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import numpy as np

from data.errors import ServiceUnreachable
from data.transform.list_codes import list_codes
from tune.registry.bundle import Bundle
from tune.skew.http_replay import served_row
from tune.skew.in_time_comparison import InTimeComparer, InTimeProof
from tune.skew.in_time_table import InTimeTable
from tune.skew.replay_plan import ReplayPlan, Request, replay_plan
from tune.skew.row_comparison import SentRow
from tune.skew.scratch_stores import ScratchStores
from tune.skew.service_client import ServiceClient
from tune.tasks.kinds import learning_task

PATIENCE_S = 60.0
"""How long a request that finds no service, or no store, is sent again."""
_AT_ONCE = 4
_LONGEST_PAUSE_S = 2.0


class _Answered(NamedTuple):
    """The answers to some rows of a request, by their places in it; None of a row that no store could answer."""

    request: Request
    answers: dict[int, dict[str, Any] | None]


def prove_in_time(
    bundle: Bundle,
    table: InTimeTable,
    labels: np.ndarray,
    service: ServiceClient,
    stores: ScratchStores,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> InTimeProof:
    """Replay a table through a service's scratch stores and compare every answer with the table.

    Args:
        bundle: of the version that is asked.
        table: the n rows, and what happened before and beside them.
        labels: of the rows, of shape (n,).
        service: client that asks that version from its scratch stores.
        stores: the scratch stores, empty.
        seed: of the disturbances.
        advance: called with the number of rows that were answered since its last call, repeated ones left out.

    Raises:
        ServiceUnreachable: the service did not answer for a minute.
        ServiceError: it refuses a request, or another version answers.
        StoreError: a scratch store does not take what is written.
    """
    plan = replay_plan(table, seed)
    comparer = InTimeComparer(bundle, service.version or "", table)
    _count(plan, comparer.proof)
    _Replay(table, plan, service, stores, comparer, advance).run()
    use_case = table.use_case
    return comparer.finish(labels, learning_task(use_case), list_codes(table.rows, use_case))


def _count(plan: ReplayPlan, proof: InTimeProof) -> None:
    proof.repeated, proof.disordered = plan.repeated, plan.disordered
    proof.repeated_events = sum(each.repeated for each in plan.arrivals)
    proof.events = sum(len(each.number) for each in plan.arrivals) - proof.repeated_events
    proof.late_events = sum(each.late for each in plan.arrivals)


class _Replay:
    """One run of a plan."""

    def __init__(
        self,
        table: InTimeTable,
        plan: ReplayPlan,
        service: ServiceClient,
        stores: ScratchStores,
        comparer: InTimeComparer,
        advance: Callable[[int], None],
    ) -> None:
        self._table, self._plan, self._stores = table, plan, stores
        self._comparer, self._advance = comparer, advance
        self._sender = _Sender(table.sent, service)
        self._stored = dict.fromkeys(range(len(plan.arrivals)), 0)
        self._under_way: dict[Future[_Answered], Request] = {}

    def run(self) -> None:
        """Send everything, and compare what comes back."""
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            stored_until_us = None
            for stage in self._plan.stages:
                while self._under_way:
                    self._receive()
                self._stores.materialize(self._table.all_rows, stored_until_us, stage.stored_until_us)
                stored_until_us = stage.stored_until_us
                for request in stage.requests:
                    self._send(pool, request)
            while self._under_way:
                self._receive()
        finally:
            self._sender.stop()
            pool.shutdown(cancel_futures=True)

    def _send(self, pool: ThreadPoolExecutor, request: Request) -> None:
        while len(self._under_way) >= _AT_ONCE or any(
            request.entities & other.entities for other in self._under_way.values()
        ):
            self._receive()
        self._append(max(request.rows))
        self._under_way[pool.submit(self._sender.send, request)] = request

    def _append(self, row: int) -> None:
        """Store the events that have to be there before a row."""
        for at, arrivals in enumerate(self._plan.arrivals):
            first, end = self._stored[at], int(np.searchsorted(arrivals.before, row, "right"))
            if end > first:
                events = self._table.events[arrivals.source]
                self._stores.append(arrivals.source, events, arrivals.number[first:end])
                self._stored[at] = end

    def _receive(self) -> None:
        """Compare the answers of the requests that are first to have them."""
        done, _ = wait(self._under_way, return_when=FIRST_COMPLETED)
        for future in done:
            del self._under_way[future]
            self._compare(future.result())

    def _compare(self, answered: _Answered) -> None:
        request, proof, first = answered.request, self._comparer.proof, 0
        for place, row in enumerate(request.rows):
            repeated = place in request.repeated
            answer = answered.answers.get(place)
            first += not repeated
            if answer is None:
                if not repeated:
                    self._not_answered(row)
            elif "error" in answer:
                if not repeated:
                    proof.refuse(int(self._table.numbers[row]), _refusal(answer))
            else:
                self._comparer.compare(row, served_row(answer, self._comparer.output), repeated)
        self._advance(first)

    def _not_answered(self, row: int) -> None:
        proof, sent = self._comparer.proof, self._table.sent[row]
        if sent.body is None:
            proof.refuse(sent.row, "holds an infinity, which no JSON can carry")
        else:
            proof.degraded += 1


class _Sender:
    """Sends requests until each row has an answer, from several threads."""

    def __init__(self, sent: Sequence[SentRow], service: ServiceClient) -> None:
        self._sent = sent
        self._service = service
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Send nothing again from now on."""
        self._stopped.set()

    def send(self, request: Request) -> _Answered:
        """Send the rows of a request, those without an answer again."""
        answers: dict[int, dict[str, Any] | None] = {}
        left = [at for at, row in enumerate(request.rows) if self._sent[row].body is not None]
        deadline, size, pause_s = time.monotonic() + PATIENCE_S, len(left), 0.05
        while left:
            part = left[:size]
            got = self._ask([request.rows[at] for at in part], deadline)
            answers.update(zip(part, got, strict=False))
            left = left[len(got) :]
            if len(got) == len(part):
                continue
            if self._stopped.is_set() or time.monotonic() >= deadline:
                break
            # Fewer at once: it may be the number of rows that a store could not answer in time.
            size, pause_s = max(size // 2, 1), min(2 * pause_s, _LONGEST_PAUSE_S)
            self._stopped.wait(pause_s * random.uniform(0.5, 1.0))
        return _Answered(request, answers)

    def _ask(self, rows: Sequence[int], deadline: float) -> list[dict[str, Any]]:
        """Return the answers to the first of some rows: up to one that no store could answer.

        A row behind it may count its event, which is not there for certain.
        """
        bodies, request_id = [self._sent[row].body or {} for row in rows], f"in-time-{rows[0]}"
        try:
            alone = len(bodies) == 1
            answers = [self._service.ask_one(bodies[0], request_id)] if alone else self._service.ask(bodies, request_id)
        except ServiceUnreachable:
            if self._stopped.is_set() or time.monotonic() >= deadline:
                raise
            return []
        whole = [not answer.get("degraded") for answer in answers]
        return answers[: whole.index(False)] if False in whole else answers


def _refusal(answer: dict[str, Any]) -> str:
    error = answer["error"] or {}
    fields = [f"{each['field']}: {each['reason']}" for each in error.get("errors", [])]
    return "; ".join(fields) or str(error.get("detail", error))
