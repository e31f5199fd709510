"""One link over real sockets: calls, refusals, hostile peers, calls that are lost, late or too large."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import Overloaded
from ray_app.transport.client import CallFailed, LinkLost, LinkRefused, open_link
from ray_app.transport.framing import MAX_HELLO, MAX_PAYLOAD, PROTOCOL, BadFrame, FrameKind, encode
from ray_app.transport.handshake import Handshake
from tests.support.serving.predict_app import until
from tests.support.serving.transport import HELLO, HOST, serving


def test_pipelined_calls_get_their_own_answers() -> None:
    """A hundred calls at once on one connection are each answered with theirs, whatever order they end in."""

    async def jittery(payload: bytes) -> bytes:
        await asyncio.sleep(0.001 * (payload[0] % 7))
        return payload

    async def run() -> list[bytes]:
        async with serving(jittery) as (server, port):
            link = await open_link(HOST, port, HELLO.encode(), 5)
            answers = await asyncio.gather(*(link.call(bytes([i]), 5) for i in range(100)))
            assert len(server.connections) == 1
            link.close()
            return answers

    assert [bytes([i]) for i in range(100)] == asyncio.run(run())


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (Handshake(b"other", "Model", "f1").encode(), "secret"),
        (Handshake(b"secret", "Model", "f2").encode(), "schema"),
        (Handshake(b"secret", "FeatureFetch", "f1").encode(), "schema"),
        (Handshake(b"secret", "Model", "f1").encode().replace(bytes([PROTOCOL]), bytes([PROTOCOL + 1]), 1), "protocol"),
        (b"not msgpack \xc1", "garbled"),
    ],
    ids=["secret", "fingerprint", "deployment", "protocol", "garbled"],
)
def test_a_peer_that_does_not_fit_is_refused_and_counted(
    hello: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong secret, version or fingerprint is refused by name, counted each time, logged once."""

    async def run() -> Counter[str]:
        async with serving() as (server, port):
            for _ in range(3):
                with pytest.raises(LinkRefused, match=reason):
                    await open_link(HOST, port, hello, 5)
            return server.refusals

    with caplog.at_level(logging.WARNING):
        assert Counter({reason: 3}) == asyncio.run(run())
    assert sum("refused" in record.message for record in caplog.records) == 1


def test_what_follows_a_refused_hello_is_not_looked_at() -> None:
    """A fitting hello and a call in the same chunk as a refused hello are not answered: one refusal, and the end."""
    called: list[bytes] = []

    def handler(payload: bytes) -> bytes:
        called.append(payload)
        return payload

    async def run() -> tuple[bytes, Counter[str]]:
        async with serving(handler) as (server, port):
            reader, writer = await asyncio.open_connection(HOST, port)
            refused = encode(FrameKind.HELLO, 0, Handshake(b"other", "Model", "f1").encode())
            fitting = encode(FrameKind.HELLO, 0, HELLO.encode())
            writer.write(refused + fitting + encode(FrameKind.CALL, 1, b"let me in", 1000))
            said = await asyncio.wait_for(reader.read(), 60)
            writer.close()
            return said, server.refusals

    assert asyncio.run(run()) == (encode(FrameKind.REFUSED, 0, b"secret"), Counter(secret=1))
    assert called == []


@given(st.binary(min_size=1, max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_hostile_peer_costs_only_its_own_connection(garbage: bytes) -> None:
    """Whatever a peer sends, before or after its hello, a well-behaved neighbour goes on being answered."""

    async def run() -> None:
        async with serving(hello_timeout_s=5) as (server, port):
            good = await open_link(HOST, port, HELLO.encode(), 5)
            for before in (b"", encode(FrameKind.HELLO, 0, HELLO.encode())):
                _, writer = await asyncio.open_connection(HOST, port)
                writer.write(before + garbage)
                await writer.drain()
                assert await good.call(b"abc", 5) == b"cba"
                writer.close()
            good.close()
            await until(lambda: not server.connections)

    asyncio.run(run())


def test_a_silent_peer_is_cut_off() -> None:
    """A peer that connects and says nothing, or half a hello, is closed and counted after the hello's time."""

    async def run() -> Counter[str]:
        async with serving(hello_timeout_s=0.05) as (server, port):
            for start in (b"", encode(FrameKind.HELLO, 0, HELLO.encode())[:-1]):
                reader, writer = await asyncio.open_connection(HOST, port)
                writer.write(start)
                assert await asyncio.wait_for(reader.read(), 5) == b""
                writer.close()
            return server.refusals

    assert Counter({"no hello in time": 2}) == asyncio.run(run())


def test_a_peer_that_does_not_read_gets_no_more_calls_taken() -> None:
    """Calls of a peer that never reads its answers stop being begun; memory stays bounded, neighbours are served."""

    welcome = encode(FrameKind.WELCOME, 0, b"")

    async def large(payload: bytes) -> bytes:
        return bytes(1_000_000)

    async def run() -> int:
        async with serving(large, max_in_flight=10_000) as (_, port):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(encode(FrameKind.HELLO, 0, HELLO.encode()))
            assert await reader.readexactly(len(welcome)) == welcome
            begun = 0

            async def pour() -> None:
                nonlocal begun
                while True:
                    writer.write(encode(FrameKind.CALL, begun, bytes(60_000), 10_000))
                    await writer.drain()
                    begun += 1

            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pour(), 0.5)
            good = await open_link(HOST, port, HELLO.encode(), 5)
            assert len(await good.call(b"x", 5)) == 1_000_000
            writer.transport.abort()
            good.close()
            return begun

    assert asyncio.run(run()) < 1000


def test_a_failed_call_says_so_and_the_link_goes_on() -> None:
    """A handler's exception comes back as CallFailed; the next call on the link is answered."""

    async def picky(payload: bytes) -> bytes:
        if payload == b"bad":
            raise ValueError("no such thing")
        return payload

    async def run() -> bytes:
        async with serving(picky) as (_, port):
            link = await open_link(HOST, port, HELLO.encode(), 5)
            with pytest.raises(CallFailed, match="no such thing"):
                await link.call(b"bad", 5)
            answer = await link.call(b"good", 5)
            link.close()
            return answer

    assert asyncio.run(run()) == b"good"


def test_an_answer_at_once_needs_no_task() -> None:
    """A handler may return its answer instead of a coroutine; what it raises then is the caller's too."""

    def picky(payload: bytes) -> bytes:
        if payload == b"bad":
            raise ValueError("no such thing")
        return payload[::-1]

    async def run() -> list[bytes]:
        async with serving(picky) as (server, port):
            link = await open_link(HOST, port, HELLO.encode(), 5)
            with pytest.raises(CallFailed, match="no such thing"):
                await link.call(b"bad", 5)
            answers = await asyncio.gather(*(link.call(bytes([i, 0]), 5) for i in range(100)))
            link.close()
            assert server.in_flight == 0
            return answers

    assert asyncio.run(run()) == [bytes([0, i]) for i in range(100)]


def test_too_many_calls_are_refused_at_once() -> None:
    """Past its limit a replica refuses a call instead of queueing it, and takes calls again when others end."""

    async def run() -> None:
        gate = asyncio.Event()

        async def wait(payload: bytes) -> bytes:
            await gate.wait()
            return payload

        async with serving(wait, max_in_flight=2) as (server, port):
            link = await open_link(HOST, port, HELLO.encode(), 5)
            held = [asyncio.ensure_future(link.call(b"held", 5)) for _ in range(2)]
            await until(lambda: server.in_flight == 2)
            with pytest.raises(Overloaded):
                await link.call(b"third", 5)
            gate.set()
            assert await asyncio.gather(*held) == [b"held"] * 2
            assert await link.call(b"more", 5) == b"more"
            link.close()

    asyncio.run(run())


def test_a_lost_connection_fails_its_calls_at_once() -> None:
    """Calls under way on a connection that ends raise LinkLost without waiting for their time."""

    async def run() -> None:
        async def never(payload: bytes) -> bytes:
            await asyncio.Event().wait()
            return payload

        async with serving(never) as (server, port):
            link = await open_link(HOST, port, HELLO.encode(), 5)
            call = asyncio.ensure_future(link.call(b"x", 60))
            await until(lambda: server.in_flight == 1)
            await server.close()
            with pytest.raises(LinkLost):
                await asyncio.wait_for(call, 5)
            await until(lambda: server.in_flight == 0)

    asyncio.run(run())


def test_a_call_whose_time_was_spent_makes_nobody_suspect() -> None:
    """A call that a busy replica no longer began is answered as such, and the replica goes on being asked."""
    began: list[bytes] = []

    async def slow(payload: bytes) -> bytes:
        began.append(payload)
        return payload

    def stalls(payload: bytes) -> Coroutine[Any, Any, bytes]:
        if payload == b"stall":
            time.sleep(0.03)  # the replica's loop is busy for longer than the call before may take
        return slow(payload)

    async def run() -> None:
        async with serving(stalls) as (_, port):
            link = await open_link(HOST, port, HELLO.encode(), 5)
            late, _ = await asyncio.gather(link.call(b"late", 0.005), link.call(b"stall", 5), return_exceptions=True)
            assert isinstance(late, asyncio.TimeoutError)
            await until(lambda: not link.suspect)
            assert await link.call(b"on time", 5) == b"on time"
            link.close()

    asyncio.run(run())
    assert began == [b"stall", b"on time"]


def test_a_peer_that_has_not_said_hello_is_held_to_little() -> None:
    """A first frame larger than any hello is cut off by its header; a welcomed peer may send large ones."""

    async def run() -> Counter[str]:
        async with serving() as (server, port):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(encode(FrameKind.HELLO, 0, bytes(MAX_HELLO + 1))[:13])
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
            link = await open_link(HOST, port, HELLO.encode(), 5)
            assert len(await link.call(bytes(1_000_000), 5)) == 1_000_000
            link.close()
            return server.refusals

    assert Counter({"bad frame": 1}) == asyncio.run(run())


def test_a_call_too_large_for_a_frame_leaves_nothing_behind() -> None:
    """It is refused before it counts as under way, and the link goes on."""

    async def run() -> None:
        async with serving() as (_, port):
            link = await open_link(HOST, port, HELLO.encode(), 5)
            with pytest.raises(BadFrame, match="bytes"):
                await link.call(bytes(MAX_PAYLOAD + 1), 5)
            assert link.in_flight == 0
            assert await link.call(b"ab", 5) == b"ba"
            link.close()

    asyncio.run(run())
