"""Requests of a proof: recorded in and answered from scratch stores, with a token, and seen by nobody else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from data.online_store import StoredRow, open_store
from data.online_store.row_codec import RowCodec
from data.schema.features.feature import Scalar
from data.schema.scratch_name import scratch_name
from data.settings import Settings
from ray_app.inference.features.feature_fetch import FeatureServer, LocalFeatures, RemoteFeatures, local_features
from ray_app.inference.observers import Answered, Failed
from tests.support.serving.predict_app import ROW, STORED, ServedApp, build_app, manifest, run
from tests.support.serving.window_app import EVENTS_TOKEN, START, swipe, swipes_bundle
from tests.support.training.models import card_bundle
from tune.registry.bundle import Bundle

SCRATCH = {"x-rayscore-scratch": "1", "authorization": f"Bearer {EVENTS_TOKEN}"}


class Told:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def answered(self, rows: Sequence[Answered]) -> None:
        """Remember answers."""
        self.rows += rows

    def failed(self, failure: Failed) -> None:
        """Remember a failure."""
        self.rows.append(failure)


class Served:
    """An application with a feature stage over real stores, asked in this process or as a replica."""

    def __init__(self, folder: Path, bundle: Bundle, way: str) -> None:
        self.settings = Settings(var_dir=folder)
        found = local_features(self.settings, bundle.manifest)
        assert found is not None
        self.features: LocalFeatures = found
        self.told = Told()
        stage = found if way == "fused" else RemoteFeatures(self._call, 10.0)
        self.app: ServedApp = build_app(stage, bundle=bundle, observers=[self.told], events_token=EVENTS_TOKEN)

    async def _call(self, request: bytes, timeout_s: float) -> bytes:
        return await FeatureServer(self.features).call(request)


@pytest.fixture(params=["fused", "graph"])
def way(request: pytest.FixtureRequest) -> str:
    """How the feature stage is reached."""
    return request.param


@pytest.fixture
def swipes(tmp_path: Path, way: str) -> Iterator[Served]:
    """The model with windows."""
    served = Served(tmp_path, swipes_bundle(), way)
    yield served
    served.features.close()


def count(answer: dict[str, Any]) -> int:
    """How many events of the card were seen."""
    return answer["features"]["card_count_1d"]["value"]


def test_scratch_rows_see_scratch_rows_alone(swipes: Served):
    """Rows of a proof see those before them, also within an array; live rows see none of them, nor they those."""

    async def scenario() -> list[list[int]]:
        asked = [
            ([swipe(1, 0), swipe(2, 1)], {}),
            ([swipe(11, 2)], SCRATCH),
            ([swipe(at, at) for at in range(20, 120)], SCRATCH),
            ([swipe(3, 3)], {}),
            ([swipe(11, 2)], SCRATCH),
        ]
        return [
            [count(answer) for answer in (await swipes.app.post(rows, "/predict?detail=1", **headers)).json()]
            for rows, headers in asked
        ]

    assert run(scenario()) == [[0, 1], [0], list(range(1, 101)), [2], [0]]


def test_scratch_answers_are_seen_by_nobody(swipes: Served):
    """No observer (log, shadow, rollout) is told of them, and they count among no predictions, events or look-ups."""

    async def scenario() -> None:
        before = _counted(swipes.app)
        assert (await swipes.app.post(swipe(1, 0), **SCRATCH)).json()["recorded"]
        assert (await swipes.app.post([swipe(2, 0), {"amount": 1}], **SCRATCH)).status_code == 200
        assert (await swipes.app.post({"amount": 1}, **SCRATCH)).status_code == 422
        assert _counted(swipes.app) == before
        assert swipes.told.rows == []
        assert (await swipes.app.post(swipe(3, 0))).status_code == 200
        assert len(swipes.told.rows) == 1

    run(scenario())


def _counted(served: ServedApp) -> list[str]:
    page = generate_latest(served.metrics.registry).decode().splitlines()
    return [line for line in page if not line.startswith(("#", "rayscore_request"))]


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"x-rayscore-scratch": "1"}, 401, "authorization: Bearer"),
        ({**SCRATCH, "authorization": "Bearer another token"}, 401, "RAYSCORE_EVENTS_TOKEN"),
        ({**SCRATCH, "x-rayscore-scratch": "yes"}, 400, "is 1, or left out; got 'yes'"),
    ],
)
def test_scratch_needs_the_token(tmp_path: Path, headers: dict[str, str], status: int, said: str):
    """Without the right token, or with another value of the header, nothing is recorded anywhere."""
    served = Served(tmp_path, swipes_bundle(), "fused")
    with closing(served.features):
        answer = run(served.app.post(swipe(1, 0), **headers))
        assert (answer.status_code, said in answer.json()["detail"]) == (status, True)
        assert count(run(served.app.post(swipe(2, 1), "/predict?detail=1")).json()) == 0


def test_scratch_is_closed_without_a_token():
    """A service that has no token refuses the header, and answers other requests."""
    served = build_app()
    answer = run(served.post(ROW, **SCRATCH))
    assert (answer.status_code, "disabled" in answer.json()["title"]) == (403, True)
    assert run(served.post(ROW)).status_code == 200


def test_scratch_row_needs_its_time(swipes: Served):
    """A row without its time, as of which it is answered, is refused by name."""
    row = {name: value for name, value in swipe(1, 0).items() if name != "swiped_at"}
    answer = run(swipes.app.post(row, **SCRATCH)).json()
    assert [(each["field"], "as of the row's time" in each["reason"]) for each in answer["errors"]] == [
        ("swiped_at", True)
    ]


def test_stored_row_is_judged_at_the_time_of_the_row(tmp_path: Path, way: str):
    """A model without windows reads the scratch view; a stored row expires by the row's own time."""
    assert card_bundle().manifest.event_time is not None
    ttl_s = (manifest().entity or pytest.fail("no entity")).ttl_seconds or pytest.fail("no ttl")
    start_us = int(START.timestamp() * 1e6) - 10 * ttl_s * 1_000_000
    served = Served(tmp_path, card_bundle(), way)
    with closing(served.features):
        _store(served.settings, scratch_name(manifest().view), start_us, STORED)
        asked = [start_us, start_us + ttl_s * 1_000_000, start_us + ttl_s * 1_000_000 + 1]
        rows = [{**ROW, manifest().event_time or "": us} for us in asked]
        answers = run(served.app.post(rows, **SCRATCH)).json()
    assert [answer["entity_found"] for answer in answers] == [True, True, False]
    assert [answer["online_age_s"] for answer in answers] == [0.0, float(ttl_s), None]


def _store(settings: Settings, view: str, event_us: int, values: dict[str, Scalar | None]) -> None:
    codec = RowCodec(manifest().schema_)
    payload = codec.pack(event_us, [values.get(name) for name in codec.names])
    with closing(open_store(settings, view, create=True)) as store:
        store.put_many([StoredRow(ROW["user_id"], event_us, payload)])
