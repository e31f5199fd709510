"""The model is changed under load on real processes, and what cannot be is refused."""

from __future__ import annotations

import json

import pytest

from tests.support.environment.waiting import wait_for
from tests.support.load.checked_load import checking
from tests.support.services.model_swaps import (
    BODIES,
    GOOD,
    MANY,
    NAME,
    OTHER_CONTRACT,
    WRONG_SCORES,
    load,
    swap,
    unharmed,
)

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("champion_alone")]


def test_swaps_under_load_fail_nobody_and_mix_nothing(versions, expected):
    """Weights up and down, promotion and rollback under load: every answer is of the version that it names."""
    with checking(load(versions, expected, 12)) as future:
        for weight in (0, 30, 100, 60):
            swap(versions, weight)
        versions.change("promote", version=GOOD)
        versions.change("rollback")
        for weight in (100, 0):
            swap(versions, weight)
        seen = future.result()
    unharmed(seen)
    assert set(seen.versions) == {"1", GOOD}
    assert len(seen.epochs) >= 5


def test_the_last_of_many_quick_changes_is_in_the_registry(versions, expected):
    """However many come within moments, the registry ends with the rules that are in force."""
    changed = [versions.act("weight", version=GOOD, weight=weight) for weight in range(10, 110, 10)]
    assert [each.status_code for each in changed] == [200] * 10
    versions.wait_settled()
    written = json.loads(versions.registry.tags(NAME)["rayscore.traffic"])
    assert (written["epoch"], written["challengers"][0]["weight"]) == (changed[-1].json()["epoch"], 100)


def test_a_change_that_is_told_done_is_in_force_on_every_gateway(versions, expected):
    """Whichever gateway answers next, it does so by the rules of the change, or by later ones."""
    for weight in range(10, 110, 10):
        done = versions.act("weight", version=GOOD, weight=weight)
        assert done.status_code == 200, done.text
        epochs = [versions.ask(BODIES[0]).json()["model"]["epoch"] for _ in range(6)]
        assert min(epochs) >= done.json()["epoch"]


def test_entities_keep_their_version_when_a_weight_rises(versions, expected):
    """Raised from 20 to 60 %: whoever saw the challenger still does, and two gateways agree."""

    def seen() -> set[int]:
        answers = [versions.ask(MANY).json() for _ in range(4)]
        chosen = [{i for i, each in enumerate(answer) if each["model"]["version"] == GOOD} for answer in answers]
        assert all(each == chosen[0] for each in chosen)
        return chosen[0]

    swap(versions, 20)
    few = seen()
    swap(versions, 60)
    assert few < seen()


def test_a_version_can_be_asked_for_by_name(versions, expected):
    """The header decides; a version that is not loaded is 404 and names those that are."""
    swap(versions, 0)
    assert versions.ask(BODIES[0], **{"x-model-version": GOOD}).json()["model"]["version"] == GOOD
    unknown = versions.ask(BODIES[0], **{"x-model-version": "77"})
    assert unknown.status_code == 404
    assert "there are: 1, 2" in unknown.json()["detail"]


@pytest.mark.parametrize(
    ("version", "words"),
    [(WRONG_SCORES, "probe rows differ"), (OTHER_CONTRACT, "required"), ("77", "not in the registry")],
    ids=["wrong-scores", "other-contract", "unknown"],
)
def test_what_cannot_serve_is_refused_while_the_old_answers(versions, expected, version, words):
    """A version that is unknown, scores otherwise than recorded or takes other requests never answers anyone."""
    before = versions.look("rules")
    refused = versions.act("weight", version=version, weight=50)
    assert refused.status_code == 422
    assert words in refused.json()["reason"]
    assert words in versions.look()["refusals"][-1]["reason"]
    assert versions.look("rules") == before
    assert versions.ask(BODIES[0]).json()["probability"] == expected["1"][0]


CROWDED = {"challengers": [{"version": version, "weight": 60} for version in (GOOD, WRONG_SCORES)]}


@pytest.mark.parametrize(
    ("rules", "words"),
    [(CROWDED, "sum to 120 %"), ({"use_case": "bank"}, "of use case 'bank', 'card_fraud' is served")],
    ids=["weights", "use-case"],
)
def test_rules_that_make_no_sense_change_nothing(versions, expected, rules, words):
    """Refused at the admin API and in the registry's tag alike; the reason is shown, and answers go on."""
    before = versions.look("rules")
    refused = versions.act("rules", rules=rules)
    assert refused.status_code == 422
    assert words in refused.json()["reason"]
    versions.tag(json.dumps({"use_case": NAME, "champion": "1", **rules}))
    wait_for(lambda: words in str(versions.look()["refusals"][-1:]), "the tag to be refused")
    assert versions.look("rules") == before
    assert versions.ask(BODIES[0]).json()["probability"] == expected["1"][0]


def test_half_written_rules_change_nothing(versions, expected):
    """Somebody's broken tag is refused and shown, a broken file by the command that reads it; answers go on."""
    before = versions.look("rules")
    versions.tag('{"use_case": "card_fraud", "champ')
    wait_for(lambda: "is not JSON" in str(versions.look()["refusals"][-1:]), "the tag to be refused")
    file = versions.place.folder / "rules.toml"
    file.write_text('use_case = "card_fraud"\nchampion = "1')
    refused = versions.place.run("tune", "traffic", "set", str(file))
    assert refused.returncode == 2
    assert f"{file}: not readable as TOML" in refused.stderr
    assert versions.look("rules") == before
    assert versions.ask(BODIES[0]).status_code == 200
