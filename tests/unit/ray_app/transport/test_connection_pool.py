"""All links of a gateway to one deployment: lost and silent replicas, draining, coming back, the fallback."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest

from ray_app.transport.client import Link
from ray_app.transport.connection_pool import Address, LinkPool
from ray_app.transport.server import LinkServer
from tests.support.serving.predict_app import until
from tests.support.serving.transport import HELLO, HOST, echo, no_fallback, serving


def test_a_call_goes_elsewhere_when_its_replica_is_lost_or_silent() -> None:
    """With two replicas, one of which hangs and is then closed, every call is answered in its time by the other."""

    async def run() -> None:
        async def hang(payload: bytes) -> bytes:
            await asyncio.Event().wait()
            return payload

        async with serving(hang) as (hung, hung_port), serving() as (_, port):
            ways: Counter[str] = Counter()
            links = LinkPool("Model", HELLO.encode(), no_fallback, lambda way: ways.update([way]))
            links.update({"a": Address(HOST, hung_port), "b": Address(HOST, port)})
            await until(lambda: links.open_links == 2)
            answers = [await links.call(b"ab", 2) for _ in range(20)]
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
        links = LinkPool("Model", HELLO.encode(), no_fallback, on_link_event=lambda event: events.update([event]))
        async with serving() as (server, port):
            links.update({"a": Address(HOST, port)})
            await until(lambda: links.open_links == 1)
            assert links.replicas == 1
            await server.close()
            await until(lambda: events["unreachable"] > 0)
            assert (links.open_links, links.replicas) == (0, 1)
        await links.close()
        refused = LinkPool("Model", b"nonsense", no_fallback, on_link_event=lambda event: events.update([event]))
        async with serving() as (_, port):
            refused.update({"a": Address(HOST, port)})
            await until(lambda: events["refused"] > 0)
            await refused.close()
        return events

    events = asyncio.run(run())
    assert (events["opened"], events["lost"]) == (1, 1)


def test_without_a_link_the_fallback_carries_the_call_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Calls go by the fallback until there is a link; that is logged once, not a call."""

    async def fallback(payload: bytes, timeout_s: float) -> bytes:
        return b"by handle"

    async def run() -> None:
        links = LinkPool("Model", HELLO.encode(), fallback)
        assert [await links.call(b"x", 1) for _ in range(5)] == [b"by handle"] * 5
        async with serving() as (_, port):
            links.update({"a": Address(HOST, port)})
            await until(lambda: links.open_links == 1)
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

        async with serving(wait) as (old, old_port), serving() as (_, port):
            links = LinkPool("Model", HELLO.encode(), no_fallback)
            links.update({"old": Address(HOST, old_port)})
            await until(lambda: links.open_links == 1)
            held = asyncio.ensure_future(links.call(b"held", 30))
            await until(lambda: old.in_flight == 1)
            links.update({"new": Address(HOST, port)})
            await until(lambda: links.open_links == 1)
            assert await links.call(b"ab", 5) == b"ba"
            gate.set()
            assert await asyncio.wait_for(held, 5) == b"held"
            await until(lambda: not old.connections)
            await links.close()

    asyncio.run(run())


def test_a_replica_that_comes_back_is_linked_again() -> None:
    """A link lost while its replica is still a member is opened anew when something listens there again."""

    async def run() -> None:
        first = LinkServer(echo, HELLO)
        port = await first.start(HOST)
        links = LinkPool("Model", HELLO.encode(), no_fallback)
        links.update({"a": Address(HOST, port)})
        await until(lambda: links.open_links == 1)
        await first.close()
        await until(lambda: links.open_links == 0)
        again = LinkServer(echo, HELLO)
        await again.start(HOST, port)
        await until(lambda: links.open_links == 1)
        assert await links.call(b"ab", 5) == b"ba"
        await links.close()
        await again.close()

    asyncio.run(run())


@pytest.mark.parametrize("turns", range(4))
def test_a_replica_that_leaves_as_it_is_linked_is_let_go(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves the list some turns of the loop after its welcome came: no link to it is kept, and none is opened."""
    received = Link.data_received

    async def run() -> None:
        async with serving() as (server, port):
            links = LinkPool("Model", HELLO.encode(), no_fallback)
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
            await until(lambda: not server.connections)
            assert links.open_links == 0

    asyncio.run(run())
