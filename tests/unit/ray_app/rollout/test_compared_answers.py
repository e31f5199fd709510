"""Versions compared by what their champion answers, for every kind of target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from data.schema.output import Output
from data.schema.outputs.base_output import SCORE_EDGES
from ray_app.inference.observers import Answered, Failed
from ray_app.prediction import Lookup, Prediction, Row
from ray_app.protocol.responses import ResponseRenderer
from ray_app.rollout.shadow import Shadow
from ray_app.rollout.shadow_comparison import ScoredRow, ShadowComparison
from ray_app.rollout.slo_judge import SloFinding, SloJudge
from ray_app.rollout.version_stats import VersionStats, VersionStatsTable
from tests.support.serving.made_models import AMOUNT, CLASSES, DIGITS, OUTPUTS, WORDS, made_bundle
from tests.support.serving.predict_app import build_app, run
from tune.registry.bundle import Bundle
from tune.registry.rollout_spec import Slo
from tune.registry.traffic_rules import Challenger, Mode, TrafficRules

RULES = TrafficRules(
    use_case="made", champion="3", challengers=(Challenger(version="4", weight=100, mode=Mode.SHADOW),)
).after(None)
OTHER_QUANTILES = AMOUNT.model_copy(update={"quantiles": tuple(100.0 + at for at in range(SCORE_EDGES))})


class _Renderer(ResponseRenderer):
    """What a version answers, and nothing else of it."""

    def __init__(self, output: Output) -> None:
        self.output = output


def answered(output: Output, scores: Sequence[float], version: str = "3") -> Answered:
    """A row that a version has answered."""
    prediction = Prediction(Row(None, None, [], {}), scores, Lookup(), 0)
    return Answered(version, 1, "id", 0.001, prediction, output.code(scores), _Renderer(output))


def counted(champion: Output, *rows: Answered) -> VersionStats:
    """The statistics of rows of one version, by a champion."""
    table = VersionStatsTable(lambda: champion)
    for row in rows:
        table.answered([row])
    (stats,) = table.report().values()
    return stats


def findings(champion: VersionStats, version: VersionStats) -> dict[str, SloFinding]:
    """What a judge finds after two such blocks."""
    judge = SloJudge(Slo(), 0.05, alone=False)
    for _ in range(2):
        judge.update(champion, version)
    return {finding.name: finding for finding in judge.findings()}


@pytest.mark.parametrize(
    ("output", "scores", "marked", "bin_of"),
    [
        (DIGITS, [0.9], 1, 0.9),
        (WORDS, [0.2], 0, 0.2),
        (CLASSES, [0.1, 0.7, 0.2], 0, 0.3),
        (CLASSES, [0.1, 0.2, 0.7], 1, 0.8),
        (AMOUNT, [3.5], 0, 3.5),
        (AMOUNT, [1000.0], 0, 1000.0),
    ],
)
def test_an_answer_counts_by_its_score(output: Output, scores: list[float], marked: int, bin_of: float):
    """A row is in the bin of its score, by the edges of its output, and is marked where its label is watched."""
    stats = counted(output, answered(output, scores))
    assert (stats.scored, stats.marked, stats.marks) == (1, marked, output.marks)
    assert stats.scores.argmax() == np.searchsorted(output.edges, bin_of)


def test_versions_are_counted_by_the_edges_of_the_champion():
    """Two versions of other quantiles have comparable histograms: equal answers are in the same bins."""
    versions = (AMOUNT, OTHER_QUANTILES)
    one, other = (counted(AMOUNT, *(answered(output, [value]) for value in range(20))) for output in versions)
    assert np.array_equal(one.scores, other.scores)
    assert findings(one, other)["score drift"].text.startswith("KS distance 0.000")


def test_each_version_decides_by_its_own_threshold():
    """The share of marked rows is of the labels that were answered, whatever the champion would have said."""
    lower = DIGITS.model_copy(update={"threshold": 0.1})
    assert counted(DIGITS, answered(lower, [0.3])).marked == 1
    assert counted(lower, answered(DIGITS, [0.3])).marked == 0


def test_the_most_common_class_is_the_champions():
    """A version that takes another class for the common one is measured by the champion's all the same."""
    other = CLASSES.model_copy(update={"common": 0})
    assert counted(CLASSES, answered(other, [0.1, 0.7, 0.2])).marked == 0


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        pytest.param(AMOUNT, OTHER_QUANTILES, 0, id="other quantiles"),
        pytest.param(CLASSES, CLASSES.model_copy(update={"common": 0}), 0, id="another common class"),
        pytest.param(AMOUNT, AMOUNT.model_copy(update={"below": -9.0}), 3, id="another interval"),
        pytest.param(DIGITS, DIGITS.model_copy(update={"threshold": 0.9}), 3, id="another threshold"),
    ],
)
def test_a_champion_that_measures_otherwise_begins_the_counts_anew(before: Output, after: Output, kept: int):
    """Histograms by other edges do not add up: counts begin anew, as after a restart, where the measure is another."""
    champion = [before]
    table = VersionStatsTable(lambda: champion[-1])
    scores = [1 / 3] * before.width
    for _ in range(3):
        table.answered([answered(before, scores)])
    first = table.report()["3"]
    champion.append(after)
    table.answered([answered(after, scores)])
    second = table.report()["3"]
    assert (first.answered, second.answered) == (3, kept + 1)
    assert second.since(first).answered == 1


def test_decisions_are_judged_where_there_are_labels():
    """The objective says which rows it counts; of numbers there is none, and drift is judged all the same."""
    of_digits = counted(DIGITS, answered(DIGITS, [0.9]))
    assert findings(of_digits, of_digits)["decisions"].text.startswith("labelled 1: 100 %")
    of_words = counted(WORDS, answered(WORDS, [0.9]))
    assert findings(of_words, of_words)["decisions"].text.startswith("labelled yes: 100 %")
    of_classes = counted(CLASSES, answered(CLASSES, [0.9, 0.1, 0.0]))
    assert findings(of_classes, of_classes)["decisions"].text.startswith("labelled otherwise than mid: 100 %")
    of_amounts = counted(AMOUNT, answered(AMOUNT, [2.0]))
    assert findings(of_amounts, of_amounts).keys() == {"errors", "latency", "refused", "score drift"}


def test_numbers_that_drift_are_taken_back():
    """A version whose numbers are larger by a quantile or ten is refuted by its scores alone."""
    judge, rng = SloJudge(Slo(), 0.05, alone=False), np.random.default_rng(3)
    for _ in range(40):
        values = rng.uniform(0, 28, 20)
        rows = [[answered(AMOUNT, [value + shift]) for value in values] for shift in (0, 10)]
        judge.update(*(counted(AMOUNT, *each) for each in rows))
    evidence = {finding.name: finding.evidence for finding in judge.findings()}
    assert evidence["score drift"] == 1
    assert evidence["errors"] < 1


class _Relay:
    """An observer that can be wired before the shadow that it hands on to is made."""

    to: Shadow

    def answered(self, rows: Sequence[Answered]) -> None:
        """Hand on."""
        self.to.answered(rows)

    def failed(self, failure: Failed) -> None:
        """Hand on."""


def shadowed(champion: Bundle, shadow: Bundle) -> ShadowComparison:
    """What a gateway finds of a shadow on a hundred rows."""
    relay = _Relay()
    served = build_app(bundle=champion, rules=RULES, bundles={"3": champion, "4": shadow}, observers=[relay])
    relay.to = Shadow(served.versions)
    rows = [{"customer": f"c{at}", "amount": (at - 50) / 10, "age": 0.0} for at in range(100)]

    async def ask() -> None:
        assert (await served.post(rows)).status_code == 200
        await relay.to.idle()

    run(ask())
    return relay.to.report()["4"]


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_shadow_with_the_same_model_is_alike(kind: str):
    """Of every kind the same model has the same scores and ranks, and no decision changes."""
    found = shadowed(made_bundle(kind), made_bundle(kind)).verdict("4")
    assert (found.rows, found.psi, found.ks) == (100, 0, 0)
    assert found.ranks == pytest.approx(1)
    decided = OUTPUTS[kind].labels is not None
    assert found.changed == (0 if decided else None)
    assert ("decisions changed" in found.text) == decided


@pytest.mark.parametrize(
    ("kind", "changes", "text"),
    [
        ("words", {"threshold": 0.9}, "0 labelled yes by the shadow alone and "),
        ("classes", {}, " labelled otherwise than mid by the shadow alone and "),
    ],
)
def test_a_shadow_that_decides_otherwise_says_how(kind: str, changes: dict[str, Any], text: str):
    """A shadow of another threshold, or other likeliest classes, is told by the rows that one of both alone marks."""
    comparison = shadowed(made_bundle(kind), made_bundle(kind, 0.0 if changes else 3.0, **changes))
    verdict = comparison.verdict("4")
    assert verdict.changed is not None
    assert verdict.changed * 100 == comparison.changed > 0
    assert text in verdict.text


def test_a_shadow_of_numbers_is_compared_by_the_champions_quantiles():
    """Numbers that are larger throughout rank alike and are of another distribution, whatever edges the shadow has."""
    champion = made_bundle("amount", 10.0)
    shadow = made_bundle("amount", 13.0, quantiles=OTHER_QUANTILES.quantiles)
    verdict = shadowed(champion, shadow).verdict("4")
    assert verdict.ranks == pytest.approx(1)
    assert verdict.ks == pytest.approx(0.3, abs=0.02)
    assert "of another distribution" in verdict.text


def test_a_change_between_classes_that_are_both_marked_counts():
    """From one uncommon class to another is a changed decision, though both versions mark the row."""
    comparison = ShadowComparison("3")
    comparison.add(CLASSES, ScoredRow([0.8, 0.1, 0.1], 0, 0.001), ScoredRow([0.1, 0.1, 0.8], 2, 0.001))
    assert (comparison.changed, comparison.raised, comparison.lowered) == (1, 0, 0)
    total = comparison + ShadowComparison("3") + comparison
    assert total.verdict("4").changed == 1
    assert "100 % (2 of 2), 0 labelled otherwise than mid by the shadow alone" in total.verdict("4").text
