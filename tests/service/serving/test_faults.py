"""What clients see when others misbehave, a gateway dies, or too much is asked."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import struct
import time
from collections import Counter
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from ray_app.loadtest.http_client.http_response import parse
from tests.support.environment.waiting import wait_for
from tests.support.load.paced_load import Pace, paced
from tests.support.services import http_client
from tests.support.services.application import REQUEST_FEATURES, Workplace
from tests.support.services.model_swaps import Versions
from tests.support.training.models import card_table

pytestmark = pytest.mark.ray

BODIES = [json.dumps(row).encode() for row in card_table(1000).select(("user_id", *REQUEST_FEATURES)).to_pylist()]
ARRAY = b"[" + b",".join(BODIES) + b"]"
IDLE = 1000
ABREAST = 60
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module")
def service(versions: Versions) -> Workplace:
    """The graph with two gateways that HAProxy knows, version 1 answering alone."""
    versions.reset()
    wait_for(lambda: balanced(versions.place) == 2, "two gateways")
    return versions.place


def balanced(place: Workplace) -> int:
    """How many gateways HAProxy sends requests to."""
    port = place.environment["RAY_SERVE_HAPROXY_METRICS_PORT"]
    text = http_client.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    return len(re.findall(r'^haproxy_server_status\{.*server="SERVE_REPLICA_.*state="UP"\} 1$', text, re.M))


def request(body: bytes) -> bytes:
    """One whole HTTP request for a prediction."""
    head = b"POST /predict HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def connect(place: Workplace, said: bytes) -> socket.socket:
    """A connection on which this was sent."""
    connection = socket.create_connection(("127.0.0.1", place.port), 60)
    connection.sendall(said)
    return connection


def until_closed(connection: socket.socket) -> bytes:
    """All that the service says until it closes the connection."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


def ask(place: Workplace, body: bytes = BODIES[0]) -> httpx.Response:
    """One prediction, or an array of them, as any client would ask for it."""
    head = {"content-type": "application/json"}
    return http_client.post(f"{place.url}/predict", content=body, headers=head, timeout=30)


def asked_again(connection: socket.socket) -> int:
    """Send a request on an open connection, and return the status of its answer when that is whole."""
    connection.sendall(request(BODIES[0]))
    received, answer = b"", None
    while answer is None:
        more = connection.recv(65536)
        assert more, "the service has closed the connection"
        received += more
        answer = parse(received)
    return answer.status


async def answered(place: Workplace, body: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of one request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    try:
        writer.write(request(body))
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        content = await reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, json.loads(content)
    finally:
        writer.close()


def test_a_killed_gateway_fails_at_most_what_it_had_under_way(service: Workplace) -> None:
    """kill -9 of one of two gateways under load: no request fails that was not on its way, and a new one comes."""
    before = service.processes("ServeReplica:default:Gateway")

    with paced(service.port, Pace(BODIES, 150, 4, warm_up=1)) as future:
        os.kill(before[0], signal.SIGKILL)
        at = time.monotonic()
        outcome = future.result()

    assert len(outcome.due) == 600
    assert outcome.failed <= outcome.under_way(at - outcome.origin)
    wait_for(lambda: len(set(service.processes("ServeReplica:default:Gateway")) - {before[0]}) == 2, "a new gateway")
    wait_for(lambda: balanced(service) == 2, "HAProxy to know it")


def test_slow_senders_are_sent_away_and_hold_up_nobody(service: Workplace) -> None:
    """Nothing, half a head or half a body: 408 and the connection is closed; others are answered meanwhile."""
    whole = request(BODIES[0])
    slow = [connect(service, whole[:length]) for length in (0, 30, len(whole) - 10) for _ in range(100)]

    statuses = {ask(service).status_code for _ in range(20)}
    said = [until_closed(connection) for connection in slow]

    assert statuses == {200}
    assert {answer.split()[1] for answer in said} == {b"408"}
    assert all(b"application/problem+json" in answer for answer in said[200:])


def test_idle_connections_hold_up_nobody(service: Workplace) -> None:
    """With 1,000 clients that stay connected, others are answered, and so is each of them when it asks again."""
    with ExitStack() as stack:
        idle, first = [], set()
        for _ in range(IDLE):
            # One after the other: all at once would be refused, and one that never asks is sent away.
            idle.append(stack.enter_context(connect(service, b"")))
            first.add(asked_again(idle[-1]))
        others = {ask(service).status_code for _ in range(20)}
        again = {asked_again(connection) for connection in idle[:: IDLE // 10]}

    assert first == others == again == {200}


def test_clients_that_leave_mid_batch_take_nobody_along(service: Workplace) -> None:
    """Half of the clients of the same batches reset their connections at once: the other half get their own answers."""
    alone = [answer["probability"] for answer in ask(service, ARRAY).json()[:ABREAST]]

    async def leave(body: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        writer.write(request(body))
        await writer.drain()
        writer.transport.abort()

    async def scenario() -> list[tuple[int, dict[str, str], Any]]:
        stay = [asyncio.create_task(answered(service, body)) for body in BODIES[:ABREAST]]
        await asyncio.gather(*(leave(body) for body in BODIES[:ABREAST]))
        return await asyncio.gather(*stay)

    answers = asyncio.run(scenario())

    assert Counter(status for status, _, _ in answers) == {200: ABREAST}
    assert [answer["probability"] for _, _, answer in answers] == alone


def test_too_much_is_refused_and_what_was_taken_is_answered(service: Workplace) -> None:
    """While nothing moves, what exceeds the queue is 503 with Retry-After; all that was taken is answered after."""
    processes = service.processes("ServeReplica:default:Model")

    async def scenario() -> list[tuple[int, dict[str, str], Any]]:
        tasks = [asyncio.create_task(answered(service, body)) for body in BODIES[:600]]
        # Those that are refused end although nothing else does.
        while sum(task.done() for task in tasks) < 600 - 2 * 128:
            await asyncio.sleep(0.01)
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
        return await asyncio.gather(*tasks)

    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        answers = asyncio.run(asyncio.wait_for(scenario(), 60))
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)

    statuses = Counter(status for status, _, _ in answers)
    assert statuses.keys() == {200, 503}
    assert 128 <= statuses[200] <= 2 * 128
    refused = [(headers, body) for status, headers, body in answers if status == 503]
    assert {headers["retry-after"] for headers, _ in refused} == {"1"}
    assert {body["title"] for _, body in refused} == {"The service is full"}
    assert ask(service).status_code == 200
