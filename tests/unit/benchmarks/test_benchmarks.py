"""The benchmarks' own arithmetic, and that the service they compare with gives our answers."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks.clients.open_loop import Route, run_at_rate
from benchmarks.peers.dialects import DIALECTS
from benchmarks.peers.environments import PACKAGES, NotInstalled, python_of, requirements
from benchmarks.peers.fastapi_xgboost import XgboostModel
from benchmarks.peers.scoring import Scorer, request_model
from benchmarks.results.comparison_plot import draw
from benchmarks.results.figures import (
    markdown_table,
    medians,
    percentiles_ms,
    replace_section,
    short,
    spread,
    write_section,
)
from benchmarks.results.serving_report import SATURATED, Load, Outcome, section
from benchmarks.workloads.serving import prepare
from data.online_store.sqlite import SqliteStore
from data.transform.encoding import Transform
from ray_app.inference.features.feature_fetch import LocalFeatures
from ray_app.inference.models.model_scoring import LocalModel
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.inference.pipeline import InferencePipeline
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.protocol.row_parser import RowParser
from tests.support.training.models import card_bundle
from tune.registry.bundle import Bundle


def test_percentiles_are_samples_in_milliseconds():
    """The nearest rank: of 1 to 1000 ms the p50 is the 500th, whatever the order."""
    seconds = np.random.default_rng(0).permutation(np.arange(1, 1001) / 1000)
    assert percentiles_ms(seconds.tolist()) == pytest.approx({"p50": 500, "p95": 950, "p99": 990, "p99.9": 999})


def test_percentiles_of_nothing_are_not_numbers():
    """No answer gives no latency, rather than zero."""
    assert all(math.isnan(value) for value in percentiles_ms([]).values())


def test_medians_by_figure_with_absent_ones_as_zero():
    """A part that had no process in a round used nothing in it."""
    rounds = [{"a": 1.0, "b": 5.0}, {"a": 9.0}, {"a": 2.0}]
    assert medians(rounds) == {"a": 2.0, "b": 0.0}
    assert spread([figures["a"] for figures in rounds]) == 4.0


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01234, "0.0123"), (1.0, "1.00"), (12.345, "12.3"), (4321.5, "4,322")]
)
def test_short_numbers_keep_three_digits(value: float, text: str):
    """Three digits are what such figures are worth."""
    assert short(value) == text


def test_markdown_table_aligns_its_columns():
    """The table reads on a terminal as it does rendered."""
    lines = markdown_table(["server", "p50"], [["graph", "1.25"], ["a", "10.5"]]).splitlines()
    assert lines == ["| server |  p50 |", "| ------ | ---: |", "| graph  | 1.25 |", "| a      | 10.5 |"]


def test_section_is_replaced_and_all_else_kept(tmp_path: Path):
    """Each command rewrites its own section of the page, and a new one goes to the end."""
    page = tmp_path / "docs" / "performance.md"
    write_section(page, "one", "first")
    write_section(page, "two", "second")
    before = page.read_text()
    write_section(page, "one", "changed")
    assert page.read_text() == before.replace("first", "changed")
    assert replace_section("# Page\n", "x", "y") == "# Page\n\n<!-- x: start -->\ny\n<!-- x: end -->\n"


def test_the_peer_gives_our_answers(tmp_path: Path):
    """The FastAPI service and the inference path agree bit for bit, stored values included."""
    workload = prepare(tmp_path, 200, rounds=5)
    bundle = Bundle.load(workload.bundle)
    manifest = bundle.manifest
    features = LocalFeatures(lambda: SqliteStore(workload.store, manifest.view))
    transform = Transform(manifest.schema_)
    path = InferencePipeline(
        manifest, transform, features, LocalModel(OnnxModel(bundle)), GatewayMetrics("r", manifest.name, "1")
    )
    rows = [RowParser(manifest, transform).parse(body) for body in workload.checked]
    try:
        predictions = asyncio.run(path.predict(rows))
    finally:
        features.close()
    assert all(prediction.lookup.found for prediction in predictions)
    assert [prediction.scores[0] for prediction in predictions] == workload.expected
    assert len(set(workload.expected)) > 10


def test_the_peer_on_xgboost_gives_our_answers(tmp_path: Path):
    """The booster's own predictor agrees with ONNX Runtime to 1e-6, one row at a time and in a batch."""
    workload = prepare(tmp_path, 200, rounds=5)
    bundle = Bundle.load(workload.bundle)
    scorer = Scorer(bundle.manifest, workload.store, XgboostModel(bundle.booster))
    values = [scorer.check(body) for body in workload.checked]
    try:
        single = [scorer.answer(row)["probability"] for row in values]
        batch = [answer["probability"] for answer in scorer.answers(values)]
    finally:
        scorer.close()
    assert single == pytest.approx(workload.expected, abs=1e-6)
    assert batch == single


def test_the_peer_answers_for_an_unknown_entity(tmp_path: Path):
    """What the store does not know is left to the defaults, and the answer says so."""
    bundle = card_bundle()
    SqliteStore(tmp_path / "online.db", bundle.manifest.view, create=True).close()
    body = {"user_id": "nobody", "amount": 10.0, "merchant_category": "food", "transaction_id": 7}
    scorer = Scorer(bundle.manifest, tmp_path / "online.db", OnnxModel(bundle))
    try:
        answer = scorer.answer(body)
    finally:
        scorer.close()
    assert (answer["entity_found"], answer["online_age_s"], answer["key"]) == (False, None, 7)


@pytest.mark.parametrize("change", [{"amount": "12"}, {"amount": -1}, {"transaction_hour": True}, {"amuont": 1}])
def test_the_peer_checks_its_requests(change: dict[str, object]):
    """The comparison would flatter a service that takes anything."""
    good = {
        "user_id": "u1",
        "amount": 10.0,
        "transaction_hour": 3,
        "merchant_category": "food",
        "foreign_transaction": 0,
        "location_mismatch": 1,
    }
    model = request_model(card_bundle().manifest)
    model.model_validate(good)
    with pytest.raises(ValidationError):
        model.model_validate({**good, **change})


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("plain", {"probability": 0.5}),
        ("kserve", {"predictions": [{"probability": 0.5}]}),
        ("mlserver", {"outputs": [{"data": ['{"probability": 0.5}']}]}),
    ],
)
def test_dialects_wrap_the_same_request_and_unwrap_the_same_answer(name: str, reply: object):
    """Whatever a server's protocol, all of the request goes out and the answer is found."""
    dialect = DIALECTS[name]
    assert "u1" in json.dumps(dialect.wrap({"user_id": "u1"}))
    assert dialect.unwrap(reply) == {"probability": 0.5}


@pytest.mark.parametrize("peer", PACKAGES)
def test_peers_are_pinned_and_name_no_index(peer: str):
    """Each line of a peer's requirements is one exact version, so that figures can be repeated."""
    lines = requirements(peer).read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+-]+", line) for line in lines)
    assert any(line.startswith(f"{PACKAGES[peer]}==") for line in lines)


def test_a_peer_without_environment_is_named_with_what_to_do(tmp_path: Path):
    """The comparison leaves it out and says how to bring it in, or why pip could not."""
    with pytest.raises(NotInstalled, match=r"python -m benchmarks\.peers install bentoml"):
        python_of("bentoml", tmp_path)
    (tmp_path / "bentoml").mkdir()
    (tmp_path / "bentoml" / "failed").write_text("ERROR: No matching distribution found for x==1\n")
    with pytest.raises(NotInstalled, match="No matching distribution"):
        python_of("bentoml", tmp_path)


def figures(**changes: float) -> dict[str, float]:
    """Figures of one load of a server that is one process."""
    shown = {"p50": 1.0, "p99": 2.0, "p99.9": 3.0, "req/s": 500.0, SATURATED: 0.0, "others": 0.0, "ready_s": 1.0}
    return {**shown, "cpu server": 0.5, "cpu load": 0.1, "mib server": 90.0, "n server": 1.0, **changes}


def outcome() -> Outcome:
    """Two servers under a closed and an open loop, one of which cannot follow; one could not be installed."""
    args = argparse.Namespace(processes=1, entities=10, rounds=3, seconds=1.0, warm_up=0.5)
    closed, opened = Load(False, 64), Load(True, 300)
    found = Outcome(args, ["--rounds", "3"])
    found.samples["fastapi", closed] = [figures(p50=value) for value in (4.0, 1.0, 2.0)]
    found.samples["litserve", closed] = [figures(p50=8.0)] * 3
    found.samples["fastapi", opened] = [figures(late=0.2)] * 3
    found.samples["litserve", opened] = [figures(**{SATURATED: 1.0, "req/s": 99.0}), {SATURATED: 1.0}, figures()]
    found.absent["kserve"] = "pip could not install kserve: no wheel"
    return found


def test_report_compares_medians_and_says_who_could_not_follow():
    """Ratios are of medians; a saturated load has no latency; a missing server is named with the reason."""
    text = section(outcome(), {"litserve": "0.2"}, Path("peers.svg"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert ["litserve", "64", "8.00", "2.00", "3.00", "500", "0.500", "0", "4.00", "1.00", "1.00"] in rows
    assert ["litserve", "300", "saturated", "-", "-", "300", "-", "-", "-", "-"] in rows
    assert "kserve is not compared: pip could not install kserve: no wheel" in text
    assert "](peers.svg)" in text


def test_picture_is_the_same_for_the_same_figures(tmp_path: Path):
    """A picture that has not changed makes no change in the repository."""
    draw(tmp_path / "a.svg", outcome())
    draw(tmp_path / "b.svg", outcome())
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"LitServe" in (tmp_path / "a.svg").read_bytes()


class Stub(asyncio.Protocol):
    """Answers each request with 200 after a pause, one after the other on all connections."""

    free_at = 0.0

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer when the requests before are answered."""
        loop = asyncio.get_running_loop()
        Stub.free_at = max(Stub.free_at, loop.time()) + self._pause_s
        loop.call_at(Stub.free_at, self._transport.write, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")


@pytest.mark.parametrize(("pause_s", "follows"), [(0.0, True), (0.1, False)])
def test_open_loop_does_not_wait_for_a_server_that_cannot_follow(pause_s: float, follows: bool):
    """A server of 10 requests/s asked for 100 loses most of them, and their waiting counts."""

    async def ask() -> dict[str, Any]:
        Stub.free_at = 0.0
        server = await asyncio.get_running_loop().create_server(lambda: Stub(pause_s), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            return await run_at_rate(Route("127.0.0.1", port), [b"{}"], 100, 1.0, 0.1)
        finally:
            server.close()

    result = asyncio.run(ask())
    assert (result["figures"]["lost"] == 0) is follows
    assert (result["figures"]["p99"] >= 2000) is not follows
    assert sum(result["errors"].values()) + result["answers"] == 100
