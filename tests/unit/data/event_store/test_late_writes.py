"""Sending the steps of a write."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Any

from data.event_store.cassandra.late_writes import Steps, send_steps


def test_the_steps_of_a_write_have_one_deadline():
    """Each is given what those before it have left, and what the last one found."""
    taken: list[float] = []
    answers: list[Any] = []

    def steps() -> Steps:
        for at in range(4):
            answers.append((yield [at]))

    async def ask(statements: Sequence[Any], timeout_s: float) -> list[Any]:
        taken.append(timeout_s)
        await asyncio.sleep(0.01)
        return [[each] for each in statements] if statements != [2] else [None]

    asyncio.run(send_steps(steps(), ask, time.monotonic() + 9.0))
    assert all(later <= earlier - 0.009 for earlier, later in itertools.pairwise(taken))
    assert 8.0 < taken[0] <= 9.0
    assert answers == [[0], [1], [], [3]]
