"""What two gateways of a service with windows see of each other's events, and that windows change no answer."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from threading import Barrier
from typing import Any

from benchmarks.servers.gateways import Connection, connected
from benchmarks.servers.running import Server, ServerFailed
from benchmarks.workloads.windows import Body, WindowWorkload, as_sent, swipes

_COUNT = "card_count_1d"
_SWIPES = 50
_COMPARED = 20
_LOST_S = 5.0


@dataclass(frozen=True)
class Seen:
    """What two gateways saw of each other's events."""

    seconds: list[float]
    """From the answer of the one until the other had answered with the event, for each trial."""
    at_first: int
    """Of so many trials the first answer of the other one had it."""
    in_turn: list[int]
    """The number of earlier swipes that each of those one after the other saw."""
    at_once: list[int]
    """The same of those at once, ascending."""
    after: int
    """What a swipe after those at once saw."""

    @property
    def swipes(self) -> str:
        """What the swipes one after the other saw, in words."""
        return "0, 1, ..., 49" if self.in_turn == [*range(_SWIPES)] else ", ".join(map(str, self.in_turn))

    @property
    def numbers(self) -> int:
        """How many different numbers those at once saw."""
        return len(set(self.at_once))

    @property
    def lost(self) -> int:
        """Swipes at once that the one after them did not see."""
        return _SWIPES - self.after


def check_same_answers(computed: Server, sent: Server, workload: WindowWorkload) -> None:
    """Compare the model that computes its windows with the one to which just those are sent.

    Raises:
        ServerFailed: an answer was degraded or not recorded, a window saw nothing, or probabilities differ.
    """
    names = [feature.name for feature in workload.use_case.schema_.windows]
    bodies = json.loads(workload.computed.bodies.read_bytes())[:_COMPARED]
    for body in bodies:
        answer = _asked(computed, body)
        windows = {name: answer["features"][name]["value"] for name in names}
        if answer["degraded"] or not answer["recorded"] or windows["card_count_30d"] < 1:
            raise ServerFailed(f"{computed.kind.name}: windows are not whole: {answer}")
        other = _asked(sent, as_sent(body, windows))
        if other["probability"] != answer["probability"]:
            raise ServerFailed(f"{computed.kind.name}: {answer['probability']} with windows, {other} without")


def watch(server: Server, trials: int) -> Seen:
    """Have two gateways of a service answer swipes of new cards."""
    with connected(server) as (first, second):
        waits: list[float] = []
        tries: list[int] = []
        for trial in range(trials):
            card, other = swipes(f"seen {trial}", [10.0, 20.0])
            first.ask(card)
            started = time.perf_counter()
            tries.append(_until_seen(second, other, started))
            waits.append(time.perf_counter() - started)
            first, second = second, first
        rows = swipes("in turn", [float(at) for at in range(1, _SWIPES + 1)])
        in_turn = [_seen((first, second)[at % 2].ask(row)) for at, row in enumerate(rows)]
    at_once = _at_once(server, swipes("at once", [float(at) for at in range(1, _SWIPES + 1)]))
    with connected(server) as (first, _):
        after = _seen(first.ask(swipes("at once", [1.0])[0]))
    return Seen(waits, tries.count(1), in_turn, sorted(at_once), after)


def _asked(server: Server, body: Body) -> dict[str, Any]:
    with closing(Connection(server.port)) as connection:
        return connection.ask(body)


def _until_seen(other: Connection, body: Body, started: float) -> int:
    """Ask until an answer has the card's first event, besides those of the asking itself; returns how often."""
    asked = 0
    while time.perf_counter() - started < _LOST_S:
        seen = _seen(other.ask(body))
        asked += 1
        if seen == asked:
            return asked
    raise ServerFailed(f"an event was not seen at the other gateway within {_LOST_S:g} s")


def _at_once(server: Server, rows: list[Body]) -> list[int]:
    start = Barrier(len(rows))

    def ask(connection: Connection, row: Body) -> int:
        start.wait()
        return _seen(connection.ask(row))

    with connected(server, len(rows)) as connections, ThreadPoolExecutor(len(rows)) as threads:
        return [*threads.map(ask, connections, rows)]


def _seen(answer: dict[str, Any]) -> int:
    if answer["degraded"] or not answer["recorded"]:
        raise ServerFailed(f"an answer was degraded, or its row not recorded: {answer}")
    return int(answer["features"][_COUNT]["value"])
