"""The one service that these tests have between them: starting one costs more than most tests.

It ends with the last test of the folder: left alone it takes a third of a CPU from whatever the process runs next.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.environment.waiting import wait_for
from tests.support.services.application import Workplace, serve_command
from tests.support.services.model_swaps import BODIES, GOOD, Versions, swap

SETTINGS = {
    "RAYSCORE_GATEWAY_MIN_REPLICAS": "2",
    "RAYSCORE_GATEWAY_MAX_REPLICAS": "2",
    "RAYSCORE_FEATURE_MIN_REPLICAS": "2",
    "RAYSCORE_FEATURE_MAX_REPLICAS": "2",
    "RAYSCORE_MODEL_MIN_REPLICAS": "2",
    "RAYSCORE_MODEL_MAX_REPLICAS": "2",
    "RAYSCORE_VERSION_GRACE_S": "0.5",
    "RAYSCORE_VERSIONS_HELD": "3",
    # Whole answers are asked for also where a replica starts beside them, which takes all of a small machine.
    "RAYSCORE_FEATURE_TIMEOUT_MS": "3000",
    "RAYSCORE_REQUEST_TIMEOUT_MS": "30000",
    "RAYSCORE_CORS_ORIGINS": "https://shop.example",
    "RAYSCORE_PREDICTION_LOG_SHARE": "1",
    "RAYSCORE_PREDICTION_LOG_FLUSH_S": "0.2",
}


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A folder with a registry and a filled store."""
    place = Workplace(tmp_path_factory.mktemp("app"))
    place.environment |= SETTINGS
    place.fill_store(place.write_recent_table())
    return place


@pytest.fixture(scope="package")
def versions(place: Workplace) -> Iterator[Versions]:
    """The graph with two gateways, two feature fetch and two model replicas, and a registry of several versions."""
    versions = Versions(place)
    versions.publish()
    with place.running(*serve_command("graph")) as child:
        place.wait_ready(child)
        wait_for(lambda: len(place.processes("ServeReplica:default:Gateway")) == 2, "two gateways")
        versions.wait_settled()
        yield versions


@pytest.fixture(scope="package")
def expected(versions: Versions) -> dict[str, list[float]]:
    """What each version says to each body."""
    swap(versions, 0)
    found = {version: versions.scores(BODIES, version) for version in ("1", GOOD)}
    assert found["1"] != found[GOOD]
    return found


@pytest.fixture
def champion_alone(versions: Versions) -> None:
    """A test that says so begins with version 1 answering alone."""
    versions.reset()
