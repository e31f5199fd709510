"""The benchmarks' own arithmetic, and that the service they compare with gives our answers."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks.figures import (
    markdown_table,
    medians,
    percentiles_ms,
    replace_section,
    short,
    spread,
    write_section,
)
from benchmarks.peer_fastapi import Scorer, request_model
from benchmarks.workload import prepare
from data.features import Transform
from data.store.sqlite import SqliteStore
from ray_app.inference import Inference
from ray_app.metrics import Metrics
from ray_app.request import RowParser
from ray_app.runtime import OnnxModel
from ray_app.stages import LocalFeatures, LocalModel
from tests.support_model import card_bundle
from tune.bundle import Bundle


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
    path = Inference(manifest, transform, features, LocalModel(OnnxModel(bundle)), Metrics("r", manifest.name, "1"))
    rows = [RowParser(manifest, transform).parse(body) for body in workload.checked]
    try:
        predictions = asyncio.run(path.predict(rows))
    finally:
        features.close()
    assert all(prediction.lookup.found for prediction in predictions)
    assert [prediction.probability for prediction in predictions] == workload.expected
    assert len(set(workload.expected)) > 10


def test_the_peer_answers_for_an_unknown_entity(tmp_path: Path):
    """What the store does not know is left to the defaults, and the answer says so."""
    bundle = card_bundle()
    store = SqliteStore(tmp_path / "online.db", bundle.manifest.view, create=True)
    body = {"user_id": "nobody", "amount": 10.0, "merchant_category": "food", "transaction_id": 7}
    try:
        answer = asyncio.run(Scorer(bundle, store).answer(body))
    finally:
        store.close()
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
