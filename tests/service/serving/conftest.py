"""The service that swaps, rollouts and their faults have between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.application import Workplace, serve_command, wait_for
from tests.support.model_swaps import (
    BODIES,
    GOOD,
    NAME,
    Versions,
    swap,
)
from tune.registry.rollout_spec import RolloutAction
from tune.registry.traffic_rules import CHAMPION

SETTINGS = {
    "RAYSCORE_GATEWAY_MIN_REPLICAS": "2",
    "RAYSCORE_GATEWAY_MAX_REPLICAS": "2",
    "RAYSCORE_FEATURE_MAX_REPLICAS": "1",
    "RAYSCORE_MODEL_MIN_REPLICAS": "2",
    "RAYSCORE_MODEL_MAX_REPLICAS": "2",
    "RAYSCORE_VERSION_GRACE_S": "0.5",
    "RAYSCORE_VERSIONS_HELD": "3",
    "RAYSCORE_REQUEST_TIMEOUT_MS": "30000",
    "RAYSCORE_PREDICTION_LOG_SHARE": "1",
    "RAYSCORE_PREDICTION_LOG_FLUSH_S": "0.2",
}


@pytest.fixture(scope="session")
def versions(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    """The graph with two gateways and two model replicas, its own registry, over the store that other tests use."""
    own = Workplace(tmp_path_factory.mktemp("swaps"))
    own.environment |= {**SETTINGS, "RAYSCORE_SQLITE_FILE": str(place.var / "online.db")}
    versions = Versions(own)
    versions.publish()
    with own.running(*serve_command("graph")) as child:
        own.wait_ready(child)
        wait_for(lambda: len(own.processes("ServeReplica:default:Gateway")) == 2, "two gateways")
        versions.wait_settled()
        yield versions


@pytest.fixture(scope="session")
def expected(versions: Versions) -> dict[str, list[float]]:
    """What each version says to each body."""
    swap(versions, 0)
    found = {version: versions.scores(BODIES, version) for version in ("1", GOOD)}
    assert found["1"] != found[GOOD]
    return found


@pytest.fixture
def champion_alone(versions: Versions) -> None:
    """A test that says so begins with version 1 answering alone."""
    versions.wait_settled()
    if (rollout := versions.look()["rollout"]) is not None and rollout["state"] == "running":
        versions.order(RolloutAction.ABORT)
        wait_for(lambda: versions.look()["rollout"]["state"] == "aborted", "the rollout to end")
    if versions.look("rules")["champion"] != "1":
        versions.registry.set_alias(NAME, CHAMPION, "1")
        wait_for(lambda: versions.look("rules")["champion"] == "1", "version 1 to be champion")
    versions.change("rules", rules={"challengers": []})
