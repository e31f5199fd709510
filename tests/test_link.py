"""Links over real sockets: calls, refusals, hostile peers, lost and silent replicas, draining."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import Overloaded
from ray_app.link.client import CallFailed, Link, LinkLost, LinkRefused, open_link
from ray_app.link.framing import MAX_HELLO, MAX_PAYLOAD, PROTOCOL, BadFrame, Kind, encode
from ray_app.link.hello import Hello
from ray_app.link.membership import Address, LinkSet
from ray_app.link.server import Handler, LinkServer

HELLO = Hello(b"secret", "Model", "f1")
HOST = "127.0.0.1"


async def _echo(payload: bytes) -> bytes:
    return payload[::-1]


@asynccontextmanager
async def _serving(handler: Handler = _echo, **options) -> AsyncIterator[tuple]:
    server = LinkServer(handler, HELLO, **options)
    port = await server.start(HOST)
    try:
        yield server, port
    finally:
        await server.close()


async def _until(condition: Callable[[], bool]) -> None:
    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(poll(), 10)


async def _no_fallback(payload: bytes, timeout_s: float) -> bytes:
    raise AssertionError("the fallback was asked")


def test_pipelined_calls_get_their_own_answers() -> None:
    """A hundred calls at once on one connection are each answered with theirs, whatever order they end in."""

    async def jittery(payload: bytes) -> bytes:
        await asyncio.sleep(0.001 * (payload[0] % 7))
        return payload

    async def run() -> list[bytes]:
        async with _serving(jittery) as (server, port):
            link = await open_link(HOST, port, HELLO.encode(), 1)
            answers = await asyncio.gather(*(link.call(bytes([i]), 5) for i in range(100)))
            assert len(server.connections) == 1
            link.close()
            return answers

    assert [bytes([i]) for i in range(100)] == asyncio.run(run())


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (Hello(b"other", "Model", "f1").encode(), "secret"),
        (Hello(b"secret", "Model", "f2").encode(), "schema"),
        (Hello(b"secret", "FeatureFetch", "f1").encode(), "schema"),
        (Hello(b"secret", "Model", "f1").encode().replace(bytes([PROTOCOL]), bytes([PROTOCOL + 1]), 1), "protocol"),
        (b"not msgpack \xc1", "garbled"),
    ],
    ids=["secret", "fingerprint", "deployment", "protocol", "garbled"],
)
def test_a_peer_that_does_not_fit_is_refused_and_counted(
    hello: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong secret, version or fingerprint is refused by name, counted each time, logged once."""

    async def run() -> Counter[str]:
        async with _serving() as (server, port):
            for _ in range(3):
                with pytest.raises(LinkRefused, match=reason):
                    await open_link(HOST, port, hello, 1)
            return server.cut_off

    with caplog.at_level(logging.WARNING):
        assert Counter({reason: 3}) == asyncio.run(run())
    assert sum("refused" in record.message for record in caplog.records) == 1


@given(st.binary(min_size=1, max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_hostile_peer_costs_only_its_own_connection(garbage: bytes) -> None:
    """Whatever a peer sends, before or after its hello, a well-behaved neighbour goes on being answered."""

    async def run() -> None:
        async with _serving(hello_timeout_s=0.2) as (server, port):
            good = await open_link(HOST, port, HELLO.encode(), 1)
            for before in (b"", encode(Kind.HELLO, 0, HELLO.encode())):
                _, writer = await asyncio.open_connection(HOST, port)
                writer.write(before + garbage)
                await writer.drain()
                assert await good.call(b"abc", 5) == b"cba"
                writer.close()
            good.close()
            await _until(lambda: not server.connections)

    asyncio.run(run())


def test_a_silent_peer_is_cut_off() -> None:
    """A peer that connects and says nothing, or half a hello, is closed and counted after the hello's time."""

    async def run() -> Counter[str]:
        async with _serving(hello_timeout_s=0.05) as (server, port):
            for start in (b"", encode(Kind.HELLO, 0, HELLO.encode())[:-1]):
                reader, writer = await asyncio.open_connection(HOST, port)
                writer.write(start)
                assert await asyncio.wait_for(reader.read(), 5) == b""
                writer.close()
            return server.cut_off

    assert Counter({"no hello in time": 2}) == asyncio.run(run())


def test_a_peer_that_does_not_read_gets_no_more_calls_taken() -> None:
    """Calls of a peer that never reads its answers stop being begun; memory stays bounded, neighbours are served."""

    welcome = encode(Kind.WELCOME, 0, b"")

    async def large(payload: bytes) -> bytes:
        return bytes(1_000_000)

    async def run() -> int:
        async with _serving(large, max_in_flight=10_000) as (_, port):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(encode(Kind.HELLO, 0, HELLO.encode()))
            assert await reader.readexactly(len(welcome)) == welcome
            begun = 0

            async def pour() -> None:
                nonlocal begun
                while True:
                    writer.write(encode(Kind.CALL, begun, bytes(60_000), 10_000))
                    await writer.drain()
                    begun += 1

            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pour(), 0.5)
            good = await open_link(HOST, port, HELLO.encode(), 1)
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
        async with _serving(picky) as (_, port):
            link = await open_link(HOST, port, HELLO.encode(), 1)
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
        async with _serving(picky) as (server, port):
            link = await open_link(HOST, port, HELLO.encode(), 1)
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

        async with _serving(wait, max_in_flight=2) as (server, port):
            link = await open_link(HOST, port, HELLO.encode(), 1)
            held = [asyncio.ensure_future(link.call(b"held", 5)) for _ in range(2)]
            await _until(lambda: server.in_flight == 2)
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

        async with _serving(never) as (server, port):
            link = await open_link(HOST, port, HELLO.encode(), 1)
            call = asyncio.ensure_future(link.call(b"x", 60))
            await _until(lambda: server.in_flight == 1)
            await server.close()
            with pytest.raises(LinkLost):
                await asyncio.wait_for(call, 5)
            await _until(lambda: server.in_flight == 0)

    asyncio.run(run())


def test_a_call_goes_elsewhere_when_its_replica_is_lost_or_silent() -> None:
    """With two replicas, one of which hangs and is then closed, every call is answered in its time by the other."""

    async def run() -> None:
        async def hang(payload: bytes) -> bytes:
            await asyncio.Event().wait()
            return payload

        async with _serving(hang) as (hung, hung_port), _serving() as (_, port):
            ways: Counter[str] = Counter()
            links = LinkSet("Model", HELLO.encode(), _no_fallback, lambda way: ways.update([way]))
            links.update({"a": Address(HOST, hung_port), "b": Address(HOST, port)})
            await _until(lambda: links.open_links == 2)
            answers = [await links.call(b"ab", 0.2) for _ in range(20)]
            assert answers == [b"ba"] * 20
            # Once found silent, the replica is not asked again while there is another.
            assert ways["retry"] <= 1
            await hung.close()
            assert await asyncio.gather(*(links.call(b"ab", 5) for _ in range(20))) == [b"ba"] * 20
            await links.close()

    asyncio.run(run())


def test_what_happens_to_links_is_noted() -> None:
    """A link that opens, is lost, cannot be had or is refused is noted each time, and who it is kept to is known."""

    async def run() -> Counter[str]:
        events: Counter[str] = Counter()
        links = LinkSet("Model", HELLO.encode(), _no_fallback, note=lambda event: events.update([event]))
        async with _serving() as (server, port):
            links.update({"a": Address(HOST, port)})
            await _until(lambda: links.open_links == 1)
            assert links.replicas == 1
            await server.close()
            await _until(lambda: events["unreachable"] > 0)
            assert (links.open_links, links.replicas) == (0, 1)
        await links.close()
        refused = LinkSet("Model", b"nonsense", _no_fallback, note=lambda event: events.update([event]))
        async with _serving() as (_, port):
            refused.update({"a": Address(HOST, port)})
            await _until(lambda: events["refused"] > 0)
            await refused.close()
        return events

    events = asyncio.run(run())
    assert (events["opened"], events["lost"]) == (1, 1)


def test_without_a_link_the_fallback_carries_the_call_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Calls go by the fallback until there is a link; that is logged once, not a call."""

    async def fallback(payload: bytes, timeout_s: float) -> bytes:
        return b"by handle"

    async def run() -> None:
        links = LinkSet("Model", HELLO.encode(), fallback)
        assert [await links.call(b"x", 1) for _ in range(5)] == [b"by handle"] * 5
        async with _serving() as (_, port):
            links.update({"a": Address(HOST, port)})
            await _until(lambda: links.open_links == 1)
            assert await links.call(b"x", 1) == b"x"
        await links.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert sum("Serve's handle" in record.message for record in caplog.records) == 1


def test_a_leaving_replica_answers_what_it_has_begun() -> None:
    """A replica that is no longer a member gets no new call, and its connection ends after the last answer."""

    async def run() -> None:
        gate = asyncio.Event()

        async def wait(payload: bytes) -> bytes:
            await gate.wait()
            return payload

        async with _serving(wait) as (old, old_port), _serving() as (_, port):
            links = LinkSet("Model", HELLO.encode(), _no_fallback)
            links.update({"old": Address(HOST, old_port)})
            await _until(lambda: links.open_links == 1)
            held = asyncio.ensure_future(links.call(b"held", 30))
            await _until(lambda: old.in_flight == 1)
            links.update({"new": Address(HOST, port)})
            await _until(lambda: links.open_links == 1)
            assert await links.call(b"ab", 5) == b"ba"
            gate.set()
            assert await asyncio.wait_for(held, 5) == b"held"
            await _until(lambda: not old.connections)
            await links.close()

    asyncio.run(run())


def test_a_replica_that_comes_back_is_linked_again() -> None:
    """A link lost while its replica is still a member is opened anew when something listens there again."""

    async def run() -> None:
        first = LinkServer(_echo, HELLO)
        port = await first.start(HOST)
        links = LinkSet("Model", HELLO.encode(), _no_fallback)
        links.update({"a": Address(HOST, port)})
        await _until(lambda: links.open_links == 1)
        await first.close()
        await _until(lambda: links.open_links == 0)
        again = LinkServer(_echo, HELLO)
        await again.start(HOST, port)
        await _until(lambda: links.open_links == 1)
        assert await links.call(b"ab", 5) == b"ba"
        await links.close()
        await again.close()

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
        async with _serving(stalls) as (_, port):
            link = await open_link(HOST, port, HELLO.encode(), 1)
            late, _ = await asyncio.gather(link.call(b"late", 0.005), link.call(b"stall", 5), return_exceptions=True)
            assert isinstance(late, asyncio.TimeoutError)
            await _until(lambda: not link.suspect)
            assert await link.call(b"on time", 5) == b"on time"
            link.close()

    asyncio.run(run())
    assert began == [b"stall", b"on time"]


def test_a_peer_that_has_not_said_hello_is_held_to_little() -> None:
    """A first frame larger than any hello is cut off by its header; a welcomed peer may send large ones."""

    async def run() -> Counter[str]:
        async with _serving() as (server, port):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(encode(Kind.HELLO, 0, bytes(MAX_HELLO + 1))[:13])
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
            link = await open_link(HOST, port, HELLO.encode(), 1)
            assert len(await link.call(bytes(1_000_000), 5)) == 1_000_000
            link.close()
            return server.cut_off

    assert Counter({"bad frame": 1}) == asyncio.run(run())


def test_a_call_too_large_for_a_frame_leaves_nothing_behind() -> None:
    """It is refused before it counts as under way, and the link goes on."""

    async def run() -> None:
        async with _serving() as (_, port):
            link = await open_link(HOST, port, HELLO.encode(), 1)
            with pytest.raises(BadFrame, match="bytes"):
                await link.call(bytes(MAX_PAYLOAD + 1), 5)
            assert link.in_flight == 0
            assert await link.call(b"ab", 5) == b"ba"
            link.close()

    asyncio.run(run())


@pytest.mark.parametrize("turns", range(4))
def test_a_replica_that_leaves_as_it_is_linked_is_let_go(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves the list some turns of the loop after its welcome came: no link to it is kept, and none is opened."""
    received = Link.data_received

    async def run() -> None:
        async with _serving() as (server, port):
            links = LinkSet("Model", HELLO.encode(), _no_fallback)
            left = asyncio.Event()

            def leave(more: int) -> None:
                if more:
                    asyncio.get_running_loop().call_soon(leave, more - 1)
                    return
                links.update({})
                left.set()

            def welcomed(link: Link, data: bytes) -> None:
                received(link, data)
                leave(turns)

            monkeypatch.setattr(Link, "data_received", welcomed)
            links.update({"r1": Address(HOST, port)})
            await left.wait()
            await _until(lambda: not server.connections)
            assert links.open_links == 0

    asyncio.run(run())
