"""Shadows: asked after the answer has left, dropped first under load, compared with the champion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from ray_app.inference.model_versions import ModelVersions
from ray_app.inference.observers import Answered, Failed
from ray_app.rollout.shadow import Shadow
from ray_app.rollout.shadow_comparison import ScoredRow, ShadowComparison, rank_agreement, stability, summed
from tests.support.serving.made_models import DIGITS
from tests.support.serving.predict_app import FULL, ServedApp, build_app, run
from tests.support.training.models import card_bundle, card_table, train_bundle
from tests.support.training.stored_cards import stored_cards
from tune.registry.bundle import Bundle
from tune.registry.traffic_rules import Challenger, Mode, TrafficRules


def rules(weight: float = 100, mode: Mode = Mode.SHADOW) -> TrafficRules:
    """Version 4 beside champion 3."""
    challenger = Challenger(version="4", weight=weight, mode=mode)
    return TrafficRules(use_case="card_fraud", champion="3", challengers=(challenger,)).after(None)


@pytest.fixture(scope="module")
def other():
    """A bundle of other data, whose vocabulary is in another order."""
    return train_bundle(card_table(rows=2500, seed=99), stored_cards(), rounds=5)


class Relay:
    """An observer that can be wired before the one that it hands on to is made."""

    to: Shadow

    def answered(self, rows: Sequence[Answered]) -> None:
        """Hand on."""
        self.to.answered(rows)

    def failed(self, failure: Failed) -> None:
        """Hand on."""
        self.to.failed(failure)


def watched(bundle: Bundle, given: TrafficRules, queue_rows: int = 256) -> tuple[ServedApp, Shadow]:
    """An application whose answers a shadow observes."""
    relay = Relay()
    served = build_app(rules=given, bundles={"3": card_bundle(), "4": bundle}, observers=[relay])
    relay.to = Shadow(served.versions, queue_rows)
    return served, relay.to


def asked(served: ServedApp, shadow: Shadow, rows: int) -> ShadowComparison | None:
    """Send rows of different entities, and return what was compared."""

    async def send() -> None:
        for at in range(rows):
            row = {**FULL, "user_id": f"u{at}", "transaction_hour": at % 24, "device_trust_score": at % 100}
            assert (await served.post(row)).json()["model"]["version"] == "3"
        await shadow.idle()

    run(send())
    return shadow.report().get("4")


def test_the_same_model_is_alike():
    """A shadow with the champion's own model has the same scores, ranks and decisions, and the verdict says so."""
    served, shadow = watched(card_bundle(), rules())
    comparison = asked(served, shadow, 60)
    assert comparison is not None
    verdict = comparison.verdict("4")
    assert (verdict.rows, verdict.ks, verdict.changed) == (60, 0, 0)
    assert verdict.ranks == pytest.approx(1)
    assert verdict.psi == 0
    for words in ("60 rows compared", "fewer than 1,000", "alike", "0 % (0 of 60)", "within"):
        assert words in verdict.text


def test_another_model_differs(other: Bundle):
    """A shadow that learned from other data, with a vocabulary of its own, scores as it does when it answers."""
    served, shadow = watched(other, rules())
    comparison = asked(served, shadow, 60)
    assert comparison is not None
    assert comparison.rows == 60
    assert comparison.verdict("4").ks > 0


def test_a_shadow_scores_as_it_would_live(other: Bundle):
    """What is compared is what the version itself answers, with an encoding of its own."""
    served, shadow = watched(other, rules())

    async def both() -> float:
        row = {**FULL, "user_id": "u1"}
        await served.post(row)
        await shadow.idle()
        return (await served.post(row, **{"x-model-version": "4"})).json()["probability"]

    live = run(both())
    (pair,) = shadow.report()["4"].sample
    assert pair.shadow == pytest.approx(live)


def test_only_its_share_is_mirrored(other: Bundle):
    """A shadow's weight is the share of the entities whose rows it sees; one of weight 0 or a live one sees none."""
    served, shadow = watched(other, rules(weight=30))
    comparison = asked(served, shadow, 100)
    assert comparison is not None
    assert 15 <= comparison.rows <= 45
    served, shadow = watched(other, rules(weight=0))
    assert asked(served, shadow, 5) is None


def test_dropped_first_under_load(other: Bundle):
    """Rows that find the queue full are dropped and counted; every caller has its answer."""
    served, shadow = watched(other, rules(), queue_rows=8)

    async def burst() -> int:
        items = [{**FULL, "user_id": f"u{at}"} for at in range(200)]
        response = await served.post(items)
        await shadow.idle()
        return sum("probability" in item for item in response.json())

    assert run(burst()) == 200
    comparison = shadow.report()["4"]
    assert (comparison.rows, comparison.dropped) == (8, 192)
    assert "192 rows were dropped" in comparison.verdict("4").text


def test_rows_of_a_shadow_that_is_dropped_while_they_wait_are_counted(other: Bundle):
    """A shadow that goes while its rows are queued leaves none unaccounted for: they count as dropped."""

    class Withdrawing(Relay):
        versions: ModelVersions

        def answered(self, rows: Sequence[Answered]) -> None:
            super().answered(rows)
            self.versions.switch(rules().model_copy(update={"challengers": (), "epoch": 9}))
            self.versions.drop("4")

    relay = Withdrawing()
    served = build_app(rules=rules(), bundles={"3": card_bundle(), "4": other}, observers=[relay])
    relay.to, relay.versions = Shadow(served.versions), served.versions

    async def send() -> None:
        assert (await served.post([{**FULL, "user_id": f"u{at}"} for at in range(5)])).status_code == 200
        await relay.to.idle()

    run(send())
    comparison = relay.to.report()["4"]
    assert (comparison.rows, comparison.dropped) == (0, 5)


def test_a_failing_shadow_disturbs_nobody(other: Bundle):
    """A shadow that cannot score is counted as failed; the champion answers on."""
    served, shadow = watched(other, rules())
    loaded = served.versions.view.loaded["4"]

    async def failing() -> None:
        loaded.parser.__dict__.clear()
        assert (await served.post(FULL)).status_code == 200
        await shadow.idle()

    run(failing())
    assert shadow.report()["4"].failed == 1


def test_gateways_add_up():
    """Counts and samples of gateways add up; a comparison with an earlier champion is left out."""
    rng = np.random.default_rng(1)
    one, two, old = ShadowComparison("3"), ShadowComparison("3"), ShadowComparison("2")
    for comparison in (one, two, old):
        for score in rng.random(700):
            one_row = (ScoredRow([each], int(each > 0.5), 0.001) for each in (score, score**2))
            comparison.add(DIGITS, *one_row)
    total = summed([{"4": one}, {"4": two}, {"4": old}], "3")["4"]
    assert total.rows == 1400
    assert len(total.sample) == 500
    found = total.verdict("4")
    assert found.ranks == pytest.approx(1), "squares have the same order"
    assert 0.2 < found.ks < 0.3, "a quarter is the distance of a square of uniform scores"
    assert found.changed == pytest.approx(math.sqrt(0.5) - 0.5, abs=0.04)
    assert total.raised == 0
    assert "0 labelled 1 by the shadow alone and " in found.text


def test_verdict_of_nothing():
    """Before the first row the verdict says that there is none."""
    verdict = ShadowComparison("3").verdict("4")
    assert "no row was compared yet" in verdict.text
    assert verdict.plain()["ranks"] is None


def test_rank_agreement():
    """Spearman's correlation, ties by their mean rank: 0.8 for the textbook's five, -1 for the reverse."""
    assert rank_agreement([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(0.8)
    assert rank_agreement([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert rank_agreement([1, 1, 2, 2], [1, 1, 2, 2]) == pytest.approx(1)
    assert math.isnan(rank_agreement([1, 1], [1, 2]))


def test_stability_index():
    """The population stability index of two bins, 50:50 against 60:40, is 0.1 ln 1.2 + 0.1 ln 1.25."""
    found = stability(np.array([5e6, 5e6]), np.array([6e6, 4e6]))
    assert found == pytest.approx(0.1 * math.log(1.2) + 0.1 * math.log(1.25), abs=1e-4)
