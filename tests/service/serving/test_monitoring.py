"""A real Prometheus scrapes a running graph as the shipped configuration says: panels have data, alerts are sound."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.support.environment.waiting import wait_for
from tests.support.services import http_client
from tests.support.services.model_swaps import ANOTHER_GOOD, NAME, Versions
from tests.support.services.prometheus import DEPLOY, RULE_FILES, Prometheus, configuration, promtool, running
from tests.support.serving.rollout import rollout
from tune.registry.rollout_spec import ORDER_TAG, RolloutAction, RolloutOrder

pytestmark = pytest.mark.prometheus

BOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "rayscore.json").read_text("utf-8"))
QUERIES = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())]
BODY = {
    "user_id": "user_1",
    "amount": 120.5,
    "transaction_hour": 3,
    "merchant_category": "electronics",
    "foreign_transaction": 1,
    "location_mismatch": 0,
}


def test_promtool_takes_configuration_and_rules() -> None:
    """promtool finds nothing to say about the configuration and the rules, and each alert fires as its tests say."""
    promtool("check", "config", str(DEPLOY / "prometheus.yml"))
    for rules in RULE_FILES:
        promtool("check", "rules", "--lint=all", "--lint-fatal", str(rules))
        promtool("test", "rules", str(rules.with_name(f"{rules.stem}_test.yml")))


@pytest.fixture(scope="module")
def graph(versions: Versions) -> Versions:
    """The graph, with a shadow and a rollout under way."""
    versions.reset()
    versions.change("weight", version=ANOTHER_GOOD, weight=100, mode="shadow")
    given = rollout(steps=(50, 100), hold_s=3600)
    order = RolloutOrder(id="0123abce", action=RolloutAction.START, rollout=given)
    versions.registry.set_tag(NAME, ORDER_TAG, order.model_dump_json())
    return versions


@pytest.fixture(scope="module")
def prometheus(graph: Versions, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes it by the shipped configuration, each second."""
    with running(
        configuration(graph.place, DEPLOY / "alerts.yml"), tmp_path_factory.mktemp("prometheus")
    ) as prometheus:
        yield prometheus


def predict(graph: Versions, times: int = 20) -> None:
    """Ask for predictions of several entities."""
    rows = [{**BODY, "user_id": f"user_{n}"} for n in range(times)]
    assert http_client.post(f"{graph.place.url}/predict", json=rows, timeout=30).status_code == 200
    for row in rows:
        assert http_client.post(f"{graph.place.url}/predict", json=row, timeout=30).status_code == 200


def page(graph: Versions) -> str:
    """One scrape."""
    reply = http_client.get(f"{graph.place.url}/metrics", timeout=10)
    assert reply.status_code == 200
    return reply.text


def replicas(text: str, deployment: str) -> set[str]:
    """Ids of the replicas of a deployment that a scrape has."""
    pattern = rf'^rayscore_replica_cpu_seconds_total{{deployment="{deployment}",replica="(\w+)"}}'
    return set(re.findall(pattern, text, re.M))


def is_complete(text: str) -> bool:
    """Whether Control had a part in a scrape."""
    return "\nrayscore_scrape_complete 1.0\n" in text


def whole_page(graph: Versions) -> str:
    """A scrape that Control had a part in: on a busy machine it is too late for one now and then."""
    pages: list[str] = []

    def whole() -> bool:
        pages[:] = [page(graph)]
        return is_complete(pages[0])

    wait_for(whole, "a whole scrape")
    return pages[0]


@pytest.mark.ray
def test_every_query_of_the_board_has_data(graph: Versions, prometheus: Prometheus) -> None:
    """With a little traffic each query of each panel gives figures."""
    prometheus.wait_for_data(QUERIES, partial(predict, graph))
    assert len(QUERIES) > 60


@pytest.mark.ray
def test_every_alert_is_evaluated_over_metrics_that_are_there(graph: Versions, prometheus: Prometheus) -> None:
    """Each rule evaluates without error, every metric that it asks for has series, and none fires when all is well."""
    predict(graph)
    whole_page(graph)

    def rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]

    wait_for(lambda: all(rule["health"] != "unknown" for rule in rules()), "every rule to be evaluated")
    for rule in rules():
        assert rule["health"] == "ok", rule
        for name in re.findall(r"\b(?:rayscore|ray|haproxy)_\w+|\bup\b", rule["query"]):
            wait_for(lambda asked=f"count({name})": bool(prometheus.query(asked)), f"{name} of {rule['name']}", 60)
    firing = [rule["name"] for rule in rules() if rule["state"] == "firing"]
    assert not firing
    # One scrape may take longer than the second that it has; all of them do not.
    for query in ('up{job="rayscore"}', 'min(up{job="haproxy"})'):
        wait_for(lambda query=query: prometheus.query(query) == [1], query, 60)


@pytest.mark.ray
def test_the_page_is_one_that_promtool_takes(graph: Versions) -> None:
    """promtool has nothing to say about names, types, help and units, and no series is there twice."""
    predict(graph)
    text = whole_page(graph)
    assert promtool("check", "metrics", stdin=text) == ""
    series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series))
    assert len(series) < 1000


@pytest.mark.ray
def test_each_gateway_shows_the_same_replicas(graph: Versions) -> None:
    """Whichever gateway is reached, all replicas of all deployments are on the page, and no counter steps back."""
    seen: dict[str, float] = {}
    for _ in range(20):
        predict(graph, 2)
        text = whole_page(graph)
        found = [len(replicas(text, name)) for name in ("Gateway", "Model", "FeatureFetch", "Control")]
        assert found == [2, 2, 2, 1]
        for series, value in re.findall(r"^(rayscore_(?:requests|model_rows)_total\{.*\}) (.+)$", text, re.M):
            assert float(value) >= seen.get(series, 0.0), series
            seen[series] = float(value)
    assert len([series for series in seen if 'code="200"' in series]) == 2


@pytest.mark.ray
def test_series_of_a_dead_replica_leave(graph: Versions) -> None:
    """kill -9 of a model replica: its series are gone soon, and those of the one that takes its place come."""
    before = replicas(whole_page(graph), "Model")
    os.kill(graph.place.processes("ServeReplica:default:Model")[0], signal.SIGKILL)

    def replaced() -> bool:
        now = replicas(whole_page(graph), "Model")
        return len(now) == 2 and len(now & before) == 1

    wait_for(replaced, "the dead replica's series to leave")


@pytest.mark.ray
def test_a_silent_control_is_shown_and_hides_nothing_of_the_gateway(graph: Versions) -> None:
    """While Control hangs a scrape is answered with one gateway's metrics and says so; then all are there again."""
    (control,) = graph.place.processes("ServeReplica:default:Control")
    os.kill(control, signal.SIGSTOP)
    try:
        text = page(graph)
    finally:
        os.kill(control, signal.SIGCONT)
    assert "\nrayscore_scrape_complete 0.0\n" in text
    assert [len(replicas(text, name)) for name in ("Gateway", "Model", "Control")] == [1, 0, 0]
    whole_page(graph)
