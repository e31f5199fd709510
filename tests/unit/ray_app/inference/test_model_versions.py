"""Model versions: which version answers which row, and what observers are told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from data.errors import ModelNotFound
from ray_app.inference.models.model_cache import ModelCache
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.inference.observers import Answered, Failed
from tests.support.load.http_requests import GatedModel, problem
from tests.support.serving.metrics import samples, text
from tests.support.serving.predict_app import FULL, ServedApp, build_app, run, until
from tests.support.training.models import card_bundle, card_table, train_bundle
from tests.support.training.stored_cards import stored_cards
from tune.registry.traffic_rules import Challenger, Mode, TrafficRules, bucket

SECOND = train_bundle(card_table(seed=8), stored_cards(), 25)
BUNDLES = {"3": card_bundle(), "4": SECOND}


def rules(weight: float, mode: Mode = Mode.LIVE, epoch: int = 7) -> TrafficRules:
    """Version 3 as champion, version 4 beside it."""
    challenger = Challenger(version="4", weight=weight, mode=mode)
    given = TrafficRules(use_case="card_fraud", champion="3", challengers=(challenger,), epoch=epoch - 1)
    return given.after(given)


class RecordingObserver:
    """Keeps what it was told, in order."""

    def __init__(self) -> None:
        self.answers: list[Answered] = []
        self.failures: list[Failed] = []

    def answered(self, rows: Sequence[Answered]) -> None:
        """Remember."""
        self.answers += rows

    def failed(self, failure: Failed) -> None:
        """Remember."""
        self.failures.append(failure)


class Broken:
    """An observer that fails."""

    def answered(self, rows: Sequence[Answered]) -> None:
        """Fail."""
        raise RuntimeError("no disk")

    def failed(self, failure: Failed) -> None:
        """Fail."""
        raise RuntimeError("no disk")


def served(weight: float, *observers: Any, **settings: Any) -> ServedApp:
    """An application with both versions."""
    return build_app(rules=rules(weight), bundles=BUNDLES, observers=observers, **settings)


def users(count: int) -> list[dict[str, Any]]:
    """Whole rows of so many entities."""
    return [{**FULL, "user_id": f"user{i}"} for i in range(count)]


def test_an_array_is_answered_by_each_rows_own_version_in_order():
    """Every item has the version of its entity, that version's score, and the epoch."""
    both = served(40)
    rows = users(200)
    answers = run(both.post(rows)).json()
    owners = rules(40).owners()
    expected = [owners[bucket(row["user_id"])] for row in rows]
    alone = {v: run(both.post(rows[:1], **{"x-model-version": v})).json()[0]["probability"] for v in BUNDLES}
    assert [answer["model"]["version"] for answer in answers] == expected
    assert {answer["model"]["epoch"] for answer in answers} == {7}
    assert all(answer["probability"] == alone[version] for answer, version in zip(answers, expected, strict=True))
    assert 40 < expected.count("4") < 120


def test_one_row_alone_is_answered_by_the_same_version():
    """An entity sees one version, however it is sent."""
    both, owners = served(40), rules(40).owners()
    for row in users(20):
        assert run(both.post(row)).json()["model"]["version"] == owners[bucket(row["user_id"])]


def test_a_shadow_answers_nobody_but_who_asks_for_it():
    """A shadow is loaded and owns no entity; the header reaches it."""
    both = build_app(rules=rules(50, Mode.SHADOW), bundles=BUNDLES)
    assert {a["model"]["version"] for a in run(both.post(users(50))).json()} == {"3"}
    asked = run(both.post(FULL, **{"x-model-version": "4"})).json()
    assert asked["model"] == {"name": "card_fraud", "version": "4", "epoch": 7}


@pytest.mark.parametrize("body", [FULL, [FULL, FULL]], ids=["one", "many"])
def test_a_version_that_is_not_loaded_is_404(body):
    """The answer names the versions that there are."""
    problem(run(served(5).post(body, **{"x-model-version": "12"})), 404, "version 12 is not loaded", "3, 4")


def test_a_switch_is_seen_by_the_next_request_and_waits_for_its_versions():
    """Rules whose version is not there are not taken over; with it they are, pages and all."""
    alone = build_app(bundles={"3": card_bundle()})
    assert not alone.versions.switch(TrafficRules(use_case="card_fraud", champion="4", epoch=9))
    alone.versions.load("4", SECOND.to_bytes())()
    assert alone.versions.held() == {"3": card_bundle().digest, "4": SECOND.digest}
    assert alone.versions.switch(TrafficRules(use_case="card_fraud", champion="4", epoch=9))
    assert run(alone.post(FULL)).json()["model"] == {"name": "card_fraud", "version": "4", "epoch": 9}

    async def shown() -> Any:
        async with alone.client() as client:
            return (await client.get("/model/info")).json()["version"]

    assert run(shown()) == "4"
    alone.versions.drop("4")
    alone.versions.drop("3")
    assert set(alone.versions.held()) == {"4"}


def test_all_lanes_share_the_queues_limit():
    """Rows that wait for one version leave no room for another's, alone or in an array; refused ones are counted."""
    model = GatedModel()
    full = served(5, model=model, queue_limit=2, batch_slots=1, max_items=2)

    async def scenario() -> None:
        waiting = [asyncio.create_task(full.post(FULL, **{"x-model-version": "3"})) for _ in range(3)]
        await until(lambda: model.entered == 1 and full.versions.waiting == 2)
        problem(await full.post(FULL, **{"x-model-version": "4"}), 503, "try again later")
        problem(await full.post([FULL], **{"x-model-version": "4"}), 503, "try again later")
        model.gate.set()
        assert [response.status_code for response in await asyncio.gather(*waiting)] == [200] * 3
        assert (await full.post(FULL, **{"x-model-version": "4"})).status_code == 200

    run(scenario())
    assert samples(text(full.metrics.registry))["rayscore_queue_refused_rows_total", ""] == 2


def test_onlookers_are_told_of_each_answer_with_all_that_is_known():
    """Version, epoch, id, vector, where values came from, and the decision."""
    observer = RecordingObserver()
    both = served(40, observer)
    answers = run(both.post(users(30), **{"x-request-id": "r1"})).json()
    by_user = {each.prediction.row.entity: each for each in observer.answers}
    assert len(by_user) == 30
    for row, answer in zip(users(30), answers, strict=True):
        seen = by_user[row["user_id"]]
        assert (seen.version, seen.epoch, seen.request_id) == (answer["model"]["version"], 7, "r1")
        assert (seen.prediction.scores, seen.code) == ([answer["probability"]], answer["label"])
        assert seen.latency_s > 0
        model = OnnxModel(BUNDLES[seen.version])
        assert model.score(np.array([seen.prediction.vector], np.float32)).item() == np.float32(answer["probability"])
        assert seen.renderer.features(seen.prediction)["amount"] == {"value": FULL["amount"], "source": "request"}


def test_onlookers_are_told_of_failures():
    """A refused row and a row that ran out of time are failures of their version, with status."""
    observer = RecordingObserver()
    both = served(0, observer)
    run(both.post({**FULL, "amount": "much"}))
    run(both.post([FULL, {}]))
    assert [(each.version, each.status, each.rows) for each in observer.failures] == [("3", 422, 1), ("3", 422, 1)]
    assert len(observer.answers) == 1


def test_a_broken_onlooker_spoils_nothing(caplog: pytest.LogCaptureFixture):
    """An observer that fails is logged; the answer has left, and others are told."""
    observer = RecordingObserver()
    assert run(served(0, Broken(), observer).post(FULL)).status_code == 200
    assert len(observer.answers) == 1
    assert "an observer failed" in caplog.text


def test_a_cache_gives_each_call_the_model_that_it_names():
    """Two versions side by side; what rules name is never dropped, and what is not there is None."""
    cache = ModelCache(TrafficRules(use_case="card_fraud", champion="3", epoch=1), {"3": card_bundle()}, OnnxModel)
    take = cache.load("4", SECOND.to_bytes())
    assert set(cache.held()) == {"3"}
    take()
    second = cache.model(bytes.fromhex(SECOND.digest))
    assert second is not None and second.manifest == SECOND.manifest
    cache.drop("3")
    cache.drop("4")
    assert set(cache.held()) == {"3"}
    assert cache.model(bytes.fromhex(SECOND.digest)) is None


def test_an_unknown_version_is_not_found():
    """The view itself refuses, whatever kind of item."""
    with pytest.raises(ModelNotFound, match="there are: 3, 4"):
        served(5).versions.view.choose(None, "id", "9")


def test_without_live_challengers_every_item_is_the_champions():
    """Whatever the item and the id, and without a look at either."""
    view = build_app().versions.view
    assert {view.choose(item, "id", None) for item in (FULL, None, 3, "x")} == {view.champion}
