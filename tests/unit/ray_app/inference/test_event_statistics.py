"""What a replica shows of its sources of events, over the application: freshness, late and repeated ones, faults."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from data.errors import StoreError
from data.event_store.sqlite.store import SqliteEvents
from ray_app.deployments.metrics.event_metrics import EventMetrics
from ray_app.inference.features.event_windows import EventWindows
from ray_app.inference.features.feature_fetch import LocalFeatures
from tests.support.environment.waiting import wait_for
from tests.support.serving.metrics import samples, text
from tests.support.serving.predict_app import ServedApp, build_app, run
from tests.support.serving.window_app import EVENTS_TOKEN, START, report, swipe, swipes_bundle

NEWEST = "rayscore_source_newest_event_timestamp_seconds"
RIGHT = {"authorization": f"Bearer {EVENTS_TOKEN}"}


def at(minutes_ago: float) -> str:
    """A time so many minutes ago, as a client sends it."""
    return datetime.fromtimestamp(time.time() - minutes_ago * 60, timezone.utc).isoformat()


class Watched:
    """The application, and what its replica exports of events; its store's clock can be set."""

    def __init__(self, folder: Path, lock_wait_s: float = 10.0) -> None:
        self.ahead_us = 0
        manifest = swipes_bundle().manifest
        file, options = folder / "events.db", {"create": True, "clock": self.clock, "lock_wait_s": lock_wait_s}
        self.windows = EventWindows(lambda: SqliteEvents(file, manifest.name, manifest.events, **options), manifest)
        self.served: ServedApp = build_app(
            LocalFeatures(None, windows=self.windows), bundle=swipes_bundle(), events_token=EVENTS_TOKEN
        )

    def clock(self) -> int:
        """The store's."""
        return time.time_ns() // 1000 + self.ahead_us

    def predict(self, row: dict[str, Any]) -> dict[str, Any]:
        """The answer to one row, in detail."""
        return run(self.served.post(row, "/predict?detail=1")).json()

    def send(self, source: str, *events: dict[str, Any]) -> dict[str, Any]:
        """The answer to events that are sent by themselves."""
        return run(self.served.post({"source": source, "events": list(events)}, "/events", **RIGHT)).json()

    def shown(self) -> dict[tuple[str, str], float]:
        """The series of this replica."""
        return samples(text(EventMetrics("f1", self.windows)))


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """An application with an empty store."""
    watched = Watched(tmp_path)
    yield watched
    watched.windows.close()


def keyless(**values: Any) -> dict[str, Any]:
    """A swipe without key and time: the service gives it both."""
    return {name: value for name, value in {**swipe(0, 0), **values}.items() if name not in ("swipe_id", "swiped_at")}


def test_each_event_is_counted_by_source(watched: Watched):
    """Rows that are scored and events that are sent, once each, with what became of them; and what a row read."""
    first = swipe(1, 0)
    for row in (first, first, {**first, "amount": 1.0}, swipe(2, 1)):
        watched.predict(row)
    watched.send("reports", report(1, 0, True), report(1, 0, True))
    shown = watched.shown()
    found = {
        (labels["source"], labels["outcome"]): value
        for (name, given), value in shown.items()
        if name == "rayscore_source_events_total" and value
        for labels in [dict(part.split("=") for part in given.split(","))]
    }
    assert found == {
        ("swipes", "taken"): 2,
        ("swipes", "repeated"): 1,
        ("swipes", "conflict"): 1,
        ("reports", "taken"): 1,
        ("reports", "repeated"): 1,
    }
    assert shown["rayscore_row_events_count", ""] == 4
    # Three rows read the first swipe by two entities, the fourth both swipes.
    assert shown["rayscore_row_events_sum", ""] == 3 * 2 + 4
    assert shown["rayscore_event_store_failures_total", ""] == 0


def test_late_events_are_counted(watched: Watched):
    """A swipe of an hour ago is late, one of now or without a time is not; a report is late once its delay is over."""
    watched.predict(keyless())
    watched.predict({**swipe(1, 0), "swiped_at": at(0)})
    hour_ago = {**swipe(2, 0), "swiped_at": at(60)}
    watched.predict(hour_ago)
    watched.send("swipes", hour_ago)
    day = 24 * 60
    watched.send("reports", *({**report(n, 0, True), "happened_at": at(n * day - 1)} for n in (1, 2)))
    shown = watched.shown()
    assert shown["rayscore_source_late_events_total", "source=swipes"] == 1
    assert shown["rayscore_source_late_events_total", "source=reports"] == 1


def test_a_source_that_stops(watched: Watched):
    """Answers go on and say how old the newest event is; the time of the newest event stands still beside them."""
    for minute in range(3):
        watched.predict(swipe(minute, minute))
    report_time = START.timestamp() + 60
    watched.send("reports", report(1, 1, True))
    stopped = [watched.predict(swipe(day, day * 24 * 60, card=f"c{day}")) for day in (2, 3, 4)]
    assert [answer["newest_event_age_s"] for answer in stopped] == [day * 86_400 - 60 for day in (2, 3, 4)]
    assert not any(answer["degraded"] for answer in stopped)
    assert watched.shown()[NEWEST, "source=reports"] == report_time


def test_the_newest_event_that_others_stored_is_seen(watched: Watched, tmp_path: Path):
    """What ingest or another replica has stored is as new as the rows that read it find it."""
    assert (NEWEST, "source=swipes") not in watched.shown()
    other = Watched(tmp_path)
    other.send("swipes", swipe(1, 7))
    other.windows.close()
    watched.predict({**swipe(2, 8), "card_id": "c9", "terminal_id": "t9"})
    assert watched.shown()[NEWEST, "source=swipes"] == START.timestamp() + 8 * 60
    watched.predict({**swipe(3, 8)})
    assert watched.shown()[NEWEST, "source=swipes"] == START.timestamp() + 8 * 60


@contextmanager
def deleted(file: Path) -> Iterator[None]:
    """The store's files are gone."""
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink()
    yield


@contextmanager
def damaged(file: Path) -> Iterator[None]:
    """Another file that is no database has the place of the store's."""
    with deleted(file):
        file.write_bytes(b"no database " * 1000)
        yield


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another process writes, and does not end."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def answers(windows: EventWindows) -> bool:
    """Whether the store is there."""
    try:
        run(windows.ping())
    except StoreError:
        return False
    return True


@pytest.mark.parametrize("failure", [deleted, damaged, locked])
def test_failures_of_the_store_are_counted(tmp_path: Path, failure: Callable[[Path], AbstractContextManager[None]]):
    """Each call that fails, of whatever kind, is counted; answers go on, and events are to be sent again."""
    watched = Watched(tmp_path, lock_wait_s=0.05)
    with closing(watched.windows), failure(tmp_path / "events.db"):
        if failure is not locked:
            wait_for(lambda: not answers(watched.windows), "the store to notice what became of its file")
        answer = watched.predict(swipe(1, 0))
        assert (answer["degraded"], answer["recorded"]) == (True, False)
        assert watched.send("reports", report(1, 0, True))["status"] == 503
        shown = watched.shown()
    assert shown["rayscore_event_store_failures_total", ""] == 2
    assert shown["rayscore_source_events_total", "outcome=taken,source=swipes"] == 0


def test_a_row_from_the_future_is_refused(watched: Watched):
    """More than five minutes ahead of the service's clock; nothing of it is stored, and the newest event stays."""
    ahead = watched.predict({**swipe(1, 0), "swiped_at": at(-6)})
    assert ahead["status"] == 422
    assert "in the future: more than 5 minutes ahead" in ahead["errors"][0]["reason"]
    assert (NEWEST, "source=swipes") not in watched.shown()
    assert watched.predict({**swipe(1, 0), "swiped_at": at(-4)})["recorded"]


@pytest.mark.parametrize(
    ("jump_s", "seen"),
    [(-1, [0, 1, 2, 3, 4]), (200, [0, 1, 2, 3, 4]), (3600, [0, 1, 2, 3, 2]), (-3600, [0, 1, 0, 1, 4])],
    ids=["a little back", "a little ahead", "an hour ahead and right again", "an hour back and right again"],
)
def test_a_clock_that_jumps(watched: Watched, jump_s: int, seen: list[int]):
    """Rows without a time see those before them; a jump of more than five minutes is a time of its own while it lasts.

    A row sees what happened before its own time: one of an hour ago does not see those of now, and sees all later on.
    None of them is late, and none is lost.
    """
    found = [watched.predict(keyless()) for _ in range(2)]
    watched.ahead_us = jump_s * 1_000_000
    found += [watched.predict(keyless()) for _ in range(2)]
    watched.ahead_us = 0
    found.append(watched.predict(keyless()))
    assert [answer["features"]["card_count_1d"]["value"] for answer in found] == seen
    assert all(answer["recorded"] for answer in found)
    shown = watched.shown()
    assert shown["rayscore_source_events_total", "outcome=taken,source=swipes"] == 5
    assert shown["rayscore_source_late_events_total", "source=swipes"] == 0
    ahead_s = shown[NEWEST, "source=swipes"] - time.time()
    assert (ahead_s > 300) == (jump_s > 300)
