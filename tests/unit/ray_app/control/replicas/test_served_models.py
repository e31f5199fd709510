"""What the application starts with: champion and rules of a real local registry, or the champion alone."""

from __future__ import annotations

import json

import pytest

from data.settings import Settings
from ray_app.control.replicas.served_models import find_served
from tests.support.services.application import Workplace
from tests.support.services.model_swaps import GOOD, NAME, OTHER_CONTRACT, Versions
from tune.registry.traffic_rules import BUCKETS, CHAMPION, TRAFFIC_TAG, Challenger, TrafficRules


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """A registry with four versions, the first of them champion."""
    versions = Versions(Workplace(tmp_path_factory.mktemp("champion")))
    versions.publish()
    return versions


@pytest.fixture
def settings(versions: Versions) -> Settings:
    """Settings of that registry, with the champion as it was."""
    versions.registry.set_alias(NAME, CHAMPION, "1")
    return versions.place.settings


def rules(version: str, epoch: int = 9) -> TrafficRules:
    """A challenger with a tenth."""
    first = TrafficRules(use_case=NAME, champion="1", epoch=epoch - 1)
    return first.model_copy(update={"challengers": (Challenger(version=version, weight=10),)}).after(first)


def test_rules_and_every_bundle_they_name_are_found(versions: Versions, settings: Settings):
    """Epoch and buckets are those of the tag: a restart moves no entity."""
    versions.tag(rules(GOOD).model_dump_json())
    found = find_served(settings)
    assert found.rules == rules(GOOD)
    assert set(found.bundles) == {"1", GOOD}


def test_the_alias_wins_over_the_tags_champion(versions: Versions, settings: Settings):
    """After a promotion that nobody followed the new champion answers, by the next epoch."""
    versions.tag(rules(GOOD).model_dump_json())
    versions.registry.set_alias(NAME, CHAMPION, GOOD)
    assert find_served(settings).rules == TrafficRules(use_case=NAME, champion=GOOD, epoch=10)


def test_rules_written_before_the_first_start_give_their_share(versions: Versions, settings: Settings):
    """A tag of epoch 0 has no buckets yet: they are dealt, so that the challenger answers from the first request on."""
    versions.tag(
        rules(GOOD)
        .model_copy(update={"epoch": 0})
        .model_copy(update={"challengers": (Challenger(version=GOOD, weight=10),)})
        .model_dump_json()
    )
    found = find_served(settings).rules
    assert found.epoch == 1
    assert found.owners().count(GOOD) == BUCKETS // 10


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ('{"use_case": "card_', "is not JSON"),
        (json.dumps({"use_case": "other", "champion": "1"}), "of use case 'other'"),
        (rules("77").model_dump_json(), "not in the registry"),
        (rules(OTHER_CONTRACT).model_dump_json(), "cannot serve beside the champion"),
    ],
    ids=["half-written", "other", "unknown", "contract"],
)
def test_rules_that_cannot_be_served_leave_the_champion_alone(
    versions: Versions, settings: Settings, capsys: pytest.CaptureFixture[str], tag: str, words: str
):
    """The service starts with the champion and says what is wrong with the rest."""
    versions.tag(tag)
    found = find_served(settings)
    assert found.rules == TrafficRules(use_case=NAME, champion="1", epoch=1)
    assert set(found.bundles) == {"1"}
    assert words in " ".join(capsys.readouterr().err.split())


def test_tags_and_aliases_are_read_together(versions: Versions, settings: Settings):
    """What Control asks the registry for each second."""
    versions.registry.set_tag(NAME, TRAFFIC_TAG, "text")
    state = versions.registry.state(NAME)
    assert (state.aliases[CHAMPION], state.tags[TRAFFIC_TAG]) == ("1", "text")
    assert versions.registry.tags(NAME) == state.tags
