"""The load test's client against a real server that answers, refuses, keeps silent, closes or stalls."""

from __future__ import annotations

import asyncio

import pytest

from ray_app.loadtest.arrival_schedule import Profile, arrivals
from ray_app.loadtest.generator import LoadPlan, Run, generate
from ray_app.loadtest.http_client.event_loop import run_on_time
from ray_app.loadtest.http_client.http_response import BadResponse, parse
from ray_app.loadtest.http_client.target import Target
from ray_app.loadtest.samples import Samples
from tests.support.environment.ports import free_port
from tests.support.load.loadtest import Answer, always, answer, closing, never, serving


def loaded(target: Target, count: int = 20, connections: int = 8, timeout_s: float = 5.0, rps: float = 200) -> Run:
    """The run of some requests, which must come to its end."""
    samples = Samples(arrivals(Profile.CONSTANT, rps, count / rps))
    plan = LoadPlan(target, [b"{}"], connections, timeout_s)

    async def bounded() -> Run:
        return await asyncio.wait_for(generate(plan, samples, lambda *_: None), 60)

    return run_on_time(bounded())


@pytest.mark.parametrize(
    ("behave", "timeout_s", "kind"),
    [
        (always(answer(200)), 5.0, "2xx"),
        (always(answer(503)), 5.0, "5xx"),
        (always(answer(422)), 5.0, "4xx"),
        (always(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), 5.0, "2xx"),
        (always(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"), 5.0, "2xx"),
        (always(b"SSH-2.0-x\r\n\r\n"), 5.0, "malformed"),
        (always(b""), 5.0, "reset"),
        (never, 0.2, "timeout"),
    ],
    ids=["ok", "503", "422", "chunked", "closing", "garbage", "closes", "silent"],
)
def test_outcomes_are_counted(behave: Answer, timeout_s: float, kind: str):
    """Every request has one outcome, of the kind that the server caused."""
    with serving(behave) as target:
        run = loaded(target, timeout_s=timeout_s)
    assert run.samples.measured().kinds() == {kind: 20}
    assert not run.interrupted


def test_refused():
    """Requests to a port where nobody listens are counted as refused."""
    assert loaded(Target("127.0.0.1", free_port()), timeout_s=30.0).samples.measured().kinds() == {"refused": 20}


def test_closed_when_accepted():
    """Requests to a server that closes each connection as soon as it has accepted it are counted, and the test ends."""
    with closing() as target:
        kinds = loaded(target, count=50, timeout_s=0.5).samples.measured().kinds()
    assert sum(kinds.values()) == 50
    assert set(kinds) <= {"reset", "timeout"}


def test_all_bodies_are_sent_in_turn():
    """Bodies go out round and round, whole."""
    seen: list[bytes] = []

    async def note(number: int, body: bytes) -> bytes:
        seen.append(body)
        return answer()

    with serving(note) as target:
        samples = Samples(arrivals(Profile.CONSTANT, 100, 0.06))
        run_on_time(generate(LoadPlan(target, [b'{"a":1}', b"[2]"], 1, 5.0), samples, lambda *_: None))
    assert seen == [b'{"a":1}', b"[2]"] * 3


def test_no_coordinated_omission():
    """A stall of half a second shows in every request that was due meanwhile, though one connection asks."""

    async def stall_once(number: int, body: bytes) -> bytes:
        if number == 20:
            await asyncio.sleep(0.5)
        return answer()

    with serving(stall_once) as target:
        seen = loaded(target, count=200, connections=1).samples.measured()
    assert len(seen.due) == 200
    stalled = seen.latency[20:120]
    # Request 20 + k was due k * 5 ms after the stall began and could not be sent before its end.
    for place, latency in enumerate(stalled.tolist()):
        assert latency >= 0.5 - place * 0.005 - 0.001


def test_answers_in_pieces():
    """An answer counts only when it is whole, however it is cut."""
    whole = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n"
    for content in (whole, answer(200, b"abc")):
        for cut in range(len(content)):
            assert parse(content[:cut]) is None
        found = parse(content)
        assert found is not None
        assert (found.status, found.end, found.keep_alive) == (200, len(content), True)


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
    ],
)
def test_garbage_is_refused(content: bytes):
    """What is no HTTP answer is told apart from one that is not yet whole."""
    with pytest.raises(BadResponse):
        parse(content)
