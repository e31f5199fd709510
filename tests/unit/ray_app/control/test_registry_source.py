"""The registry as Control writes to it: a real local one, whose alias somebody else may move at any moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import PromotionConflict
from ray_app.control.registry_source import RegistrySource
from ray_app.control.state.registry_state import PREVIOUS_TAG, PendingWrites
from tests.support.services.application import Workplace
from tests.support.services.model_swaps import NAME, Versions
from tests.support.training.models import card_bundle
from tune.registry.traffic_rules import CHAMPION


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """A registry with four versions."""
    versions = Versions(Workplace(Path(tmp_path_factory.mktemp("source"))))
    versions.publish()
    return versions


def test_an_alias_that_somebody_moved_meanwhile_is_left_alone(versions: Versions):
    """Read, moved by somebody else, then written: the write is refused with both versions named, tags and all."""
    source = RegistrySource(versions.place.settings, card_bundle().manifest)
    versions.registry.set_alias(NAME, CHAMPION, "1")
    known = source.read().champion
    versions.registry.set_alias(NAME, CHAMPION, "3")
    with pytest.raises(PromotionConflict, match=r"version 2 .* moved from version 1 to version 3"):
        source.write(PendingWrites("2", {PREVIOUS_TAG: "1"}, known))
    assert source.read().champion == "3"
    assert PREVIOUS_TAG not in source.read().tags
    source.write(PendingWrites("2", {PREVIOUS_TAG: "3"}, "3"))
    assert (source.read().champion, source.read().tags[PREVIOUS_TAG]) == ("2", "3")
