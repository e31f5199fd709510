"""The one service with windows that these tests have between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.environment.waiting import wait_for
from tests.support.services.application import Workplace, serve_command
from tests.support.serving.window_app import EVENTS_TOKEN, SWIPES, swipes_bundle

SETTINGS = {
    "RAYSCORE_EVENTS_TOKEN": EVENTS_TOKEN,
    "RAYSCORE_GATEWAY_MIN_REPLICAS": "2",
    # Whole answers are asked for also where a replica starts beside them, which takes all of a small machine.
    "RAYSCORE_FEATURE_TIMEOUT_MS": "3000",
    "RAYSCORE_REQUEST_TIMEOUT_MS": "8000",
}


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """The graph with two gateways; its champion has windows over what it records and what is reported."""
    place = Workplace(tmp_path_factory.mktemp("windows"))
    use_case = place.folder / "swipes.toml"
    use_case.write_text(SWIPES)
    place.environment |= {"RAYSCORE_USE_CASE": str(use_case), **SETTINGS}
    place.publish_champion(swipes_bundle())
    with place.running(*serve_command("graph")) as child:
        place.wait_ready(child)
        wait_for(lambda: len(place.processes("ServeReplica:default:Gateway")) == 2, "two gateways")
        yield place
