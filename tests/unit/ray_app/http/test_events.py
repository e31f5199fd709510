"""POST /events: closed without its token, each event answered on its own, and seen by the next prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from data.errors import StoreUnavailable
from data.event_store.sqlite.store import SqliteEvents
from tests.support.load.http_requests import problem
from tests.support.serving.metrics import samples, text
from tests.support.serving.predict_app import ServedApp, build_app, run
from tests.support.serving.window_app import (
    EVENTS_TOKEN,
    report,
    swipe,
    swipes_app,
    swipes_bundle,
    swipes_stage,
)

RIGHT = {"authorization": f"Bearer {EVENTS_TOKEN}"}
DAY = 24 * 60


def send(served: ServedApp, body: Any, **headers: str) -> httpx.Response:
    """Send a body to /events, with the token."""
    return run(served.post(body, "/events", **(RIGHT | headers)))


def refusals(answer: httpx.Response) -> dict[int, list[tuple[str | None, str]]]:
    """What is wrong with each refused event, by its place."""
    assert answer.status_code == 200, answer.text
    return {
        each["index"]: [(error["field"], error["reason"]) for error in each["errors"]]
        for each in answer.json()["refused"]
    }


def test_events_are_seen_by_the_next_prediction(tmp_path: Path):
    """Reports that are known at a swipe's time count in its terminal's risk, and those of later do not."""
    with swipes_app(tmp_path / "events.db", events_token=EVENTS_TOKEN) as served:
        given = [report(1, 0, True), report(2, 1, False), report(3, 3 * DAY, True)]
        answer = send(served, {"source": "reports", "events": given}).json()
        assert {name: answer[name] for name in ("taken", "repeated", "revised", "superseded", "conflict")} == {
            "taken": 3,
            "repeated": 0,
            "revised": 0,
            "superseded": 0,
            "conflict": 0,
        }
        row = swipe(1, 3 * DAY)
        shown = run(served.post(row, "/predict?detail=1")).json()["features"]["terminal_risk_7d"]
    assert shown == {"value": 0.5, "source": "events", "events": 2}


def test_rows_of_the_table_itself_can_be_sent(tmp_path: Path):
    """A swipe that was never scored is an event all the same, late ones fall into their place."""
    with swipes_app(tmp_path / "events.db", events_token=EVENTS_TOKEN) as served:
        assert send(served, {"source": "swipes", "events": swipe(1, 0)}).json()["taken"] == 1
        assert run(served.post(swipe(2, 10), "/predict?detail=1")).json()["features"]["card_count_1d"]["value"] == 1
        assert send(served, {"source": "swipes", "events": [swipe(3, 5)]}).json()["taken"] == 1
        assert run(served.post(swipe(4, 11), "/predict?detail=1")).json()["features"]["card_count_1d"]["value"] == 3


def test_each_event_is_answered_on_its_own(tmp_path: Path):
    """What is wrong with an event is said by its place and its fields, and the others are taken."""
    future = {**report(9, 0, True), "happened_at": "2999-01-01"}
    bad = [
        {**report(2, 0, True), "happened_at": None},
        {**report(3, 0, True), "fraud": "perhaps"},
        {**report(4, 0, True), "terminal_id": ""},
        {**report(5, 0, True), "frau": 1},
        {**report(6, 0, True), "happened_at": "2001-01-01"},
        future,
        {**report(7, 0, True), "report_id": 1.5},
        7,
    ]
    with swipes_app(tmp_path / "events.db", events_token=EVENTS_TOKEN) as served:
        answer = send(served, {"source": "reports", "events": [report(1, 0, True), *bad]})
        counted = samples(text(served.metrics.registry))
    assert refusals(answer) == {
        1: [("happened_at", "is required: when the event happened")],
        2: [("fraud", "expected true or false, or 1 or 0, got a string")],
        3: [(None, "names no entity, so it would be in no window: send terminal_id")],
        4: [("frau", "unknown field; did you mean 'fraud'?")],
        5: [("happened_at", "is older than the longest window over these events")],
        6: [("happened_at", "is in the future: more than 5 minutes ahead of the service's clock")],
        7: [("report_id", "expected a string or an integer of at most 64 bits, got the number 1.5")],
        8: [(None, "expected an object with the event, got the number 7")],
    }
    assert answer.json()["taken"] == 1
    assert counted["rayscore_events_total", "outcome=taken"] == 1
    assert counted["rayscore_events_total", "outcome=refused"] == 8


def test_an_event_sent_again_changes_nothing_and_one_of_other_content_is_refused(tmp_path: Path):
    """The same event is repeated; the same key with other content is named, and what is stored stays."""
    with swipes_app(tmp_path / "events.db", events_token=EVENTS_TOKEN) as served:
        event = report(1, 0, True)
        answer = send(served, {"source": "reports", "events": [event, event, {**event, "fraud": False}]})
    assert (answer.json()["taken"], answer.json()["repeated"], answer.json()["conflict"]) == (1, 1, 1)
    assert refusals(answer)[2][0][0] == "report_id"


def test_an_event_without_a_key_is_that_of_its_request(tmp_path: Path):
    """A request that is sent again, by its client or by HAProxy, adds its events once."""
    keyless = {name: value for name, value in report(1, 0, True).items() if name != "report_id"}
    body = {"source": "reports", "events": [keyless, keyless]}
    with swipes_app(tmp_path / "events.db", events_token=EVENTS_TOKEN) as served:
        outcomes = [send(served, body, **{name: "one"}).json() for name in ["x-request-id", "x-attempt-id"] * 2]
    # One id is the key of both, so that the second pair of requests is the first one again.
    assert [(each["taken"], each["repeated"]) for each in outcomes] == [(2, 0), (0, 2), (0, 2), (0, 2)]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ([], 422, "send {"),
        ({"source": "reports"}, 422, "send {"),
        ({"source": "reports", "events": []}, 422, "at least one"),
        ({"source": "reports", "events": [{}], "more": 1}, 422, "send {"),
        ({"events": [{}]}, 422, "there are: swipes, reports"),
        ({"source": "rep", "events": [{}]}, 422, "no such source"),
        ({"source": ["reports"], "events": [{}]}, 422, "no such source"),
        ({"source": "reports", "events": [{}] * 11}, 413, "at most 10 are taken"),
    ],
)
def test_a_body_that_holds_no_events_is_refused(tmp_path: Path, body: Any, status: int, reason: str):
    """Whatever is not events of a source is refused as a whole, with what to send."""
    with swipes_app(tmp_path / "events.db", events_token=EVENTS_TOKEN, max_items=10) as served:
        problem(send(served, body), status, reason)


def test_the_route_is_closed_without_its_token(tmp_path: Path):
    """403 where no token is set, 401 for another, 404 where the model has no windows; nothing is stored."""
    body = {"source": "reports", "events": report(1, 0, True)}
    with swipes_app(tmp_path / "events.db") as served:
        problem(send(served, body), 403, "RAYSCORE_EVENTS_TOKEN")
    with swipes_app(tmp_path / "events.db", events_token=EVENTS_TOKEN) as served:
        problem(run(served.post(body, "/events", authorization="Bearer guess")), 401, "RAYSCORE_EVENTS_TOKEN")
        problem(run(served.post(body, "/events")), 401, "RAYSCORE_EVENTS_TOKEN")
        assert send(served, body).json()["taken"] == 1
    problem(run(build_app(events_token=EVENTS_TOKEN).post(body, "/events", **RIGHT)), 404, "there are:")


def test_requests_are_read_as_those_of_predict_are(tmp_path: Path):
    """Another method, content type, coding or size has its own answer, and never one of the service's fault."""
    with swipes_app(tmp_path / "events.db", events_token=EVENTS_TOKEN, max_body_bytes=2048) as served:

        async def ask(method: str, content: bytes, **headers: str) -> httpx.Response:
            async with served.client() as client:
                return await client.request(method, "/events", content=content, headers={**RIGHT, **headers})

        json_type = {"content-type": "application/json"}
        problem(run(ask("GET", b"")), 405, "POST")
        problem(run(ask("POST", b"{}", **{"content-type": "text/plain"})), 415, "application/json")
        problem(run(ask("POST", b"{", **json_type)), 400, "not JSON")
        problem(run(ask("POST", b" " * 3000, **json_type)), 413, "2,048 bytes")


def test_a_store_that_is_gone_is_said_and_can_be_tried_again():
    """Without the store the answer is 503 and nothing is claimed to be stored."""

    def refuse() -> SqliteEvents:
        raise StoreUnavailable("no events today")

    with swipes_stage(Path("none"), refuse) as stage:
        served = build_app(stage, bundle=swipes_bundle(), events_token=EVENTS_TOKEN)
        answer = send(served, {"source": "reports", "events": report(1, 0, True)})
    problem(answer, 503, "no events today")
    assert answer.headers["retry-after"] == "1"
