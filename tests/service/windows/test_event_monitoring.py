"""What is seen of a served model with windows: by a real Prometheus, its alerts and board, and in the console."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from typing import Any

import pytest

from data.event_store import EventOutcome
from data.feature_views.events.event import Event
from data.ingest.ingest_metrics import IngestMetrics
from tests.support.environment.ports import free_port
from tests.support.environment.waiting import wait_for
from tests.support.services import http_client
from tests.support.services.application import Workplace
from tests.support.services.browser import browser
from tests.support.services.prometheus import DEPLOY, Prometheus, configuration, promtool, running
from tests.support.serving.window_app import EVENTS_TOKEN, report, swipe

pytestmark = [pytest.mark.ray, pytest.mark.prometheus, pytest.mark.chromium]

BOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "features-in-time.json").read_text("utf-8"))
QUERIES = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())]
PARTIES = ("monitored card", "monitored terminal")
"""Of no other test."""


@pytest.fixture(scope="module")
def prometheus(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes it by the shipped configuration, and an ingest beside it."""
    ingest, port = IngestMetrics("reports", "tx"), free_port()
    now_us = time.time_ns() // 1000
    ingest.stored([Event(b"k", now_us, now_us, ("t1",), b"")], [EventOutcome.TAKEN], 0, now_us)
    ingest.serve(port, "127.0.0.1")
    config = configuration(place, DEPLOY / "event_alerts.yml")
    config["scrape_configs"].append({"job_name": "ingest", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]})
    with running(config, tmp_path_factory.mktemp("prometheus")) as prometheus:
        yield prometheus


def traffic(place: Workplace) -> None:
    """Swipes of now, one of them sent again, and one of days ago; and a report that is known by now."""
    now = datetime.now(timezone.utc).isoformat()
    row = {**swipe(time.time_ns() % 10**9, 0, *PARTIES), "swiped_at": now}
    for each in (row, row, swipe(107, 0, *PARTIES)):
        assert http_client.post(f"{place.url}/predict", json=each, timeout=30).status_code == 200
    body = {"source": "reports", "events": [report(101, 0, True, PARTIES[1])]}
    token = {"authorization": f"Bearer {EVENTS_TOKEN}"}
    assert http_client.post(f"{place.url}/events", json=body, headers=token, timeout=30).status_code == 200


def test_every_query_of_the_board_has_data(place: Workplace, prometheus: Prometheus):
    """With a little traffic, and an ingest that is scraped, each query of each panel gives figures."""
    prometheus.wait_for_data(QUERIES, partial(traffic, place))
    assert len(QUERIES) > 25


def test_every_alert_is_evaluated(place: Workplace, prometheus: Prometheus):
    """Each rule evaluates without error, over metrics that are there, and no source has stopped."""
    traffic(place)

    def rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]

    wait_for(lambda: all(rule["health"] != "unknown" for rule in rules()), "every rule to be evaluated")
    for rule in rules():
        assert rule["health"] == "ok", rule
        for name in re.findall(r"\brayscore_\w+", rule["query"]):
            wait_for(lambda asked=f"count({name})": bool(prometheus.query(asked)), f"{name} of {rule['name']}", 60)
    assert "firing" not in {rule["state"] for rule in rules() if rule["name"] == "RayscoreSourceStopped"}


def test_the_page_is_one_that_promtool_takes(place: Workplace):
    """promtool has nothing to say about names, types, help and units of what a model with windows adds."""
    traffic(place)
    text = http_client.get(f"{place.url}/metrics", timeout=10).text
    assert promtool("check", "metrics", stdin=text) == ""


def test_the_console_shows_each_source(place: Workplace):
    """Rate, age of the newest event, shares; a source of which little comes is there as well."""

    def shown() -> bool:
        traffic(place)
        found = {
            each["name"]: each for each in http_client.get(f"{place.url}/console/data", timeout=10).json()["events"]
        }
        return found["swipes"]["events"] > 20 and found["reports"]["repeated_share"] is not None

    wait_for(shown, "events in the console's data", 120)
    with browser() as page:
        page.open(f"{place.url}/console")
        page.wait_text("#sources", "swipes")
        page.wait_text("#events-span", "over all replicas")
        row = page.text("#sources tr[data-key=swipes]")
        assert "old" in row
        assert "%" in row
        assert "old" in page.text("#sources tr[data-key=reports]")
        assert page.messages() == []
