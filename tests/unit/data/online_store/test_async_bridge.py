"""How the answers of several requests become one: every order in which they may come."""

from __future__ import annotations

import asyncio
import itertools
import threading

import pytest

from data.errors import StoreUnavailable
from data.online_store.cassandra.async_bridge import Gathering, InFlight

ROWS = [("a", b"1"), ("b", b"2")]


async def gathering(*requests: tuple[list[tuple[str, bytes]] | Exception, list[str]]) -> dict[str, bytes]:
    """Count all requests as sent, let them end in order on another thread, and wait for keys a, b and c."""
    made = Gathering(asyncio.get_running_loop(), ["a", "b", "c"])
    for _ in requests:
        made.sent()

    def end() -> None:
        for outcome, keys in requests:
            if isinstance(outcome, Exception):
                made.fail(outcome)
            else:
                made.answer(outcome, keys)

    thread = threading.Thread(target=end)
    thread.start()
    found = await asyncio.wait_for(made.future, 20)
    thread.join()
    return found


def test_all_answers_in_any_order():
    """The wait ends with the last key's answer; a key without a row is answered too."""
    parts = [([("a", b"1")], ["a"]), ([("b", b"2")], ["b"]), ([], ["c"])]
    for order in itertools.permutations(parts):
        assert asyncio.run(gathering(*order)) == dict(ROWS)


def test_second_answer_for_the_same_keys_stands_for_no_other():
    """Two nodes that answer for the same keys do not end the wait for a third's."""
    twice = (ROWS[:1], ["a"])
    late = ([*ROWS[1:], ("c", b"3")], ["b", "c"])
    assert asyncio.run(gathering(twice, twice, late)) == {"a": b"1", "b": b"2", "c": b"3"}


def test_error_is_made_up_for_by_another_request():
    """An error counts only when nobody is left who may answer for its keys, before or after it."""
    failed = (RuntimeError("lost"), ["a"])
    answer = (ROWS, ["a", "b", "c"])
    assert asyncio.run(gathering(failed, answer)) == dict(ROWS)
    assert asyncio.run(gathering(answer, failed)) == dict(ROWS)


def test_error_of_keys_that_nobody_answers():
    """The error reaches the caller whether it comes first or last."""
    requests = [(RuntimeError("lost"), ["a"]), (ROWS[1:], ["b", "c"])]
    for order in itertools.permutations(requests):
        with pytest.raises(RuntimeError, match="lost"):
            asyncio.run(gathering(*order))


def test_nobody_waits_any_more():
    """Answers for a cancelled caller, and for one whose loop has been closed, are dropped."""

    async def abandoned() -> Gathering:
        made = Gathering(asyncio.get_running_loop(), ["a"])
        made.sent()
        made.sent()
        made.future.cancel()
        assert not made.lacks(["a"])
        made.answer(ROWS[:1], ["a"])
        await asyncio.sleep(0)
        return made

    asyncio.run(abandoned()).fail(RuntimeError("too late"))


def test_bound_on_requests_under_way():
    """Requests beyond the bound are refused whole; those given back make room."""
    bound = InFlight(3)
    bound.enter(2)
    with pytest.raises(StoreUnavailable, match="2 store requests are under way"):
        bound.enter(2)
    bound.leave()
    bound.enter(2)
    assert bound.count == 3
