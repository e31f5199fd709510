"""Explained answers of a real service: right in both ways of serving, and never in the way of an answer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.transform.encoding import Transform
from ray_app.inference.explanation.explanation_stage import LEADING, load_explainer
from tests.support.environment.processes import read
from tests.support.environment.waiting import wait_for
from tests.support.services import http_client
from tests.support.services.application import Workplace, serve_command
from tests.support.services.model_swaps import COLUMNS, GOOD, NAME, Versions, swap
from tests.support.training.models import card_bundle, card_table
from tests.support.training.stored_cards import STORED_CARDS
from tune.registry.bundle import Bundle

pytestmark = pytest.mark.ray

ROWS: list[dict[str, Any]] = card_table(200).select(COLUMNS).to_pylist()
DECLARED = """
[explanation]
top = 2

[explanation.texts]
amount = "The amount is unusual"
"""
TIMEOUT_MS = 500
SETTINGS = {
    "RAYSCORE_GATEWAY_MAX_REPLICAS": "1",
    "RAYSCORE_FEATURE_MAX_REPLICAS": "1",
    "RAYSCORE_MODEL_MAX_REPLICAS": "1",
    "RAYSCORE_EXPLANATION_MAX_REPLICAS": "1",
    "RAYSCORE_EXPLANATION_TIMEOUT_MS": str(TIMEOUT_MS),
    "RAYSCORE_FEATURE_TIMEOUT_MS": "3000",
    "RAYSCORE_REQUEST_TIMEOUT_MS": "30000",
}


@pytest.fixture(params=["graph", "fused"])
def versions(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Versions]:
    """Each way of serving a use case that declares reason codes, with one replica of each deployment."""
    use_case = tmp_path / "explained.toml"
    use_case.write_text(STORED_CARDS.read_text() + DECLARED)
    place = Workplace(tmp_path, use_case)
    place.environment |= SETTINGS
    place.fill_store(place.write_recent_table())
    versions = Versions(place)
    versions.publish()
    with place.running(*serve_command(request.param)) as child:
        place.wait_ready(child)
        yield versions
    place.kill_all()


def ask(place: Workplace, body: Any = ROWS[0], **headers: str) -> Any:
    """An explained answer, which must come with status 200."""
    answer = http_client.post(f"{place.url}/predict?explain=1", json=body, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def explained(place: Workplace, **headers: str) -> bool:
    """Whether an answer has its reasons."""
    return ask(place, **headers)["explanation"] is not None


def explainers(place: Workplace) -> list[int]:
    """Pids of the explanation replicas."""
    return place.processes("ServeReplica:default:Explanation")


def check_contributions(place: Workplace) -> None:
    """An array's explanations are those of the champion's booster, and add up."""
    answers: list[Any] = []

    def whole() -> bool:
        answers[:] = ask(place, ROWS)
        return all(answer["explanation"] is not None for answer in answers)

    wait_for(whole, "every row to be explained")
    found = [list(answer["explanation"]["contributions"].values()) for answer in answers]
    sums = [answer["explanation"]["base_value"] + sum(own) for answer, own in zip(answers, found, strict=True)]
    assert np.abs(np.array(sums) - [answer["explanation"]["margin"] for answer in answers]).max() < 1e-6
    assert found == contributions(card_bundle(), ROWS)
    assert {len(answer["explanation"]["reasons"]) for answer in answers} <= {0, 1, 2}


def contributions(bundle: Bundle, rows: list[dict[str, Any]]) -> list[list[float]]:
    """What a bundle's booster says to raw rows, without any of the serving path."""
    schema = bundle.manifest.schema_
    matrix = Transform(schema).rows([[row[name] for name in schema.names] for row in rows])
    return load_explainer(bundle).explain(matrix)[:, LEADING:].tolist()


def check_frozen(place: Workplace) -> None:
    """While the only explanation replica is stopped, answers wait for a bounded time, and say that they have none."""
    (victim,) = explainers(place)
    os.kill(victim, signal.SIGSTOP)
    try:
        for _ in range(3):
            started = time.perf_counter()
            answer = ask(place)
            assert (answer["explanation"], answer["explanation_error"]) == (None, "timeout")
            assert time.perf_counter() - started < TIMEOUT_MS / 1000 + 2
        started = time.perf_counter()
        plain = http_client.post(f"{place.url}/predict", json=ROWS[0], timeout=30)
        assert plain.status_code == 200
        assert time.perf_counter() - started < TIMEOUT_MS / 1000
    finally:
        os.kill(victim, signal.SIGCONT)
    wait_for(lambda: explained(place), "reasons after the freeze")


def check_killed(place: Workplace) -> None:
    """A killed explanation replica costs reasons, not answers; a new one gives them again."""
    (victim,) = explainers(place)
    os.kill(victim, signal.SIGKILL)
    answer = ask(place)
    assert answer["explanation"] is None
    assert answer["explanation_error"] in ("timeout", "overloaded")
    wait_for(lambda: explained(place), "reasons of a new replica")
    assert victim not in explainers(place)
    assert place.shown('rayscore_explanations_total{outcome="timeout"') > 0


def check_light(place: Workplace) -> None:
    """Only the explanation replica has loaded XGBoost."""
    for pid in place.processes("ServeReplica:default"):
        assert (b"libxgboost" in read(pid, "maps")) == (pid in explainers(place)), read(pid, "cmdline")


def check_another_version(versions: Versions) -> None:
    """A version that comes while the service runs waits for no explainer, and is explained by its own booster."""
    place = versions.place
    (explainer,) = explainers(place)
    os.kill(explainer, signal.SIGSTOP)
    try:
        swap(versions, 50)
        assert not explained(place, **{"x-model-version": GOOD})
    finally:
        os.kill(explainer, signal.SIGCONT)
    wait_for(lambda: explained(place, **{"x-model-version": GOOD}), "the other version to be explained")
    (own,) = contributions(versions.registry.resolve(NAME, GOOD).bundle, ROWS[:1])
    answer = ask(place, **{"x-model-version": GOOD})
    assert answer["model"]["version"] == GOOD
    assert list(answer["explanation"]["contributions"].values()) == own
    assert own != list(ask(place, **{"x-model-version": "1"})["explanation"]["contributions"].values())


def test_answers_are_explained_and_go_on_without_the_explanation_replica(
    versions: Versions, request: pytest.FixtureRequest
) -> None:
    """Contributions are exact, of the version that answered; a stopped and a killed replica cost the reasons alone."""
    place = versions.place
    check_contributions(place)
    check_light(place)
    check_frozen(place)
    check_killed(place)
    if "graph" in request.node.name:
        check_another_version(versions)
