"""Replicas come and go with the load, and clients notice neither."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.environment.waiting import wait_for
from tests.support.services import http_client
from tests.support.services.application import Workplace, serve_command
from tests.support.services.model_swaps import BODIES, MANY
from tests.support.training.models import card_table, train_bundle
from tests.support.training.stored_cards import stored_cards

pytestmark = pytest.mark.ray

SETTINGS = {
    "RAYSCORE_GATEWAY_MAX_REPLICAS": "1",
    "RAYSCORE_FEATURE_MAX_REPLICAS": "1",
    "RAYSCORE_MODEL_MAX_REPLICAS": "2",
    "RAYSCORE_TARGET_BUSY": "0.15",
    "RAYSCORE_MAX_BATCH": "4",
    "RAYSCORE_UPSCALE_DELAY_S": "1",
    "RAYSCORE_DOWNSCALE_DELAY_S": "1",
    "RAYSCORE_FEATURE_TIMEOUT_MS": "10000",
    "RAYSCORE_REQUEST_TIMEOUT_MS": "70000",
}
"""A model in small batches, of which a second replica is to come soon: on a busy machine it gets little of a CPU."""
TREES = 2000
"""Enough that the model takes most of what the service computes, however little of the machine the service gets."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Workplace]:
    """The graph with those settings."""
    own = Workplace(tmp_path)
    own.environment |= SETTINGS
    own.fill_store(own.write_recent_table())
    rounds = 5
    trees = {"num_parallel_tree": TREES // rounds, "subsample": 0.5}
    own.publish_champion(train_bundle(card_table(), stored_cards(), rounds, **trees))
    with own.running(*serve_command("graph")) as child:
        own.wait_ready(child)
        yield own


def models(place: Workplace) -> float:
    """How many model replicas the gateway can call."""
    return place.shown('rayscore_open_links{deployment="Model"')


def ask(place: Workplace, body: bytes = BODIES[0]) -> int:
    """Status of one prediction, or of an array of them."""
    head = {"content-type": "application/json"}
    return http_client.post(f"{place.url}/predict", content=body, headers=head, timeout=70).status_code


@contextmanager
def busy(place: Workplace, statuses: Counter[int]) -> Iterator[None]:
    """Clients that send large arrays one after the other until the block ends."""
    over = threading.Event()

    def client() -> None:
        while not over.is_set():
            statuses[ask(place, MANY)] += 1

    threads = [threading.Thread(target=client) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_replicas_come_and_go_with_the_load_without_an_error(service: Workplace) -> None:
    """Under load a model replica is added, without it taken away again, and no request fails on the way."""
    statuses: Counter[int] = Counter()

    with busy(service, statuses):
        wait_for(lambda: models(service) == 2, "a second model replica", 300)

    def one_left() -> bool:
        statuses[ask(service)] += 1
        return models(service) == 1 and len(service.processes("ServeReplica:default:Model")) == 1

    # A model that is asked all the time is not idle.
    wait_for(one_left, "the second model replica to be gone", 300, every_s=0.5)
    assert set(statuses) == {200}
