"""Explained answers over HTTP: of the version that answered, of the vector that was scored, and never in the way."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.errors import BundleError, Overloaded, VersionUnavailable
from data.schema.reason_codes import ReasonCodes
from data.transform.encoding import Transform
from ray_app.inference.explanation.explanation_stage import LEADING, load_explainer
from ray_app.rollout.version_stats import VersionStatsTable
from tests.support.load.http_requests import problem
from tests.support.serving.explanations import CODES, FailingExplanation, explained_here
from tests.support.serving.metrics import samples, text
from tests.support.serving.predict_app import FULL, ROW, STORED, ServedApp, build_app, local_store, run, write_store
from tests.support.serving.window_app import swipe, swipes_app, swipes_bundle
from tests.support.training.models import card_bundle, card_table, train_bundle
from tests.support.training.stored_cards import stored_cards
from tune.registry.bundle import Bundle
from tune.registry.traffic_rules import Challenger, Mode, TrafficRules

EXPLAIN = "/predict?explain=1"


def ask(served: ServedApp, body: Any, path: str = EXPLAIN, **headers: str) -> Any:
    """The JSON of an answer with status 200."""
    answer = run(served.post(body, path, **headers))
    assert answer.status_code == 200, answer.text
    return answer.json()


def outcomes(served: ServedApp) -> dict[str, float]:
    """Answers by what became of their explanation, but for those that never happened."""
    found = {
        labels.removeprefix("outcome="): value
        for (name, labels), value in samples(text(served.metrics.registry)).items()
        if name == "rayscore_explanations_total"
    }
    assert set(found) == {"given", "timeout", "overloaded", "not_loaded", "failed"}
    return {outcome: value for outcome, value in found.items() if value}


def explained(bundle: Bundle, values: Sequence[Any]) -> dict[str, Any]:
    """Base value, margin and contributions of raw values in schema order, without any of the serving path."""
    (row,) = load_explainer(bundle).explain(Transform(bundle.manifest.schema_).rows([values])).tolist()
    names = bundle.manifest.schema_.names
    return {"base_value": row[0], "margin": row[1], "contributions": dict(zip(names, row[LEADING:], strict=True))}


def test_an_answer_says_what_made_it(tmp_path: Path) -> None:
    """Contributions are of the scored vector, stored values and defaults included; reasons have value and text."""
    features = local_store(write_store(tmp_path / "online.db", {"u1": STORED}))
    answer = ask(build_app(features, reasons=CODES), ROW)
    plain = ask(build_app(features), ROW, "/predict")
    features.close()

    values = {**ROW, **STORED}
    expected = explained(card_bundle(), [values[name] for name in card_bundle().manifest.schema_.names])
    explanation = answer.pop("explanation")
    reasons = explanation.pop("reasons")
    assert explanation == expected
    ranked = sorted(expected["contributions"].items(), key=lambda item: -item[1])[:2]
    assert [(each["feature"], each["contribution"]) for each in reasons] == ranked
    assert [each["value"] for each in reasons] == [values[each["feature"]] for each in reasons]
    assert [each["text"] for each in reasons] == [CODES.texts.get(each["feature"], each["feature"]) for each in reasons]
    varying = ("request_id", "online_age_s")
    assert {k: v for k, v in answer.items() if k not in varying} == {k: v for k, v in plain.items() if k not in varying}


def test_windows_and_expressions_are_explained_as_they_were_scored(tmp_path: Path) -> None:
    """With computed features, the contributions are of the values that `detail` shows for the same answer."""
    codes = ReasonCodes(top=20)
    with swipes_app(tmp_path / "events.db", reasons=codes) as served:
        ask(served, swipe(1, 0))
        answer = ask(served, swipe(2, 1, amount=90.5), f"{EXPLAIN}&detail=1")
    shown = answer["features"]
    expected = explained(swipes_bundle(), [each["value"] for each in shown.values()])
    assert shown["card_count_1d"]["value"] == 1
    assert answer["explanation"]["contributions"] == expected["contributions"]
    reasons = answer["explanation"]["reasons"]
    assert all(each["contribution"] > 0 for each in reasons)
    assert [each["value"] for each in reasons] == [shown[each["feature"]]["value"] for each in reasons]


def test_each_item_of_an_array_is_explained_and_a_refused_one_is_not() -> None:
    """An array's items have their own explanations, each the same as alone; an error stays an error."""
    served = build_app(reasons=CODES)
    other = {**FULL, "amount": 3.5, "transaction_hour": 12}
    many = ask(served, [FULL, {**FULL, "amount": "a lot"}, other])
    assert [many[i]["explanation"] for i in (0, 2)] == [ask(served, body)["explanation"] for body in (FULL, other)]
    assert set(many[1]) == {"error"}
    assert outcomes(served) == {"given": 4}


def test_the_version_that_answers_is_explained() -> None:
    """By header or by traffic rules, contributions are those of the version that the answer names."""
    bundles = {"3": card_bundle(), "4": train_bundle(card_table(seed=8), stored_cards(), 25)}
    challenger = Challenger(version="4", weight=50, mode=Mode.LIVE)
    given = TrafficRules(use_case="card_fraud", champion="3", challengers=(challenger,), epoch=1)
    served = build_app(bundles=bundles, rules=given.after(given), reasons=CODES)
    names = card_bundle().manifest.schema_.names
    expected = {version: explained(bundle, [FULL[name] for name in names]) for version, bundle in bundles.items()}
    assert expected["3"] != expected["4"]
    asked = [ask(served, FULL, **{"x-model-version": version}) for version in ("3", "4")]
    asked += ask(served, [{**FULL, "user_id": f"u{i}"} for i in range(40)])
    assert {answer["model"]["version"] for answer in asked[2:]} == {"3", "4"}
    for answer in asked:
        found = {name: value for name, value in answer["explanation"].items() if name != "reasons"}
        assert found == expected[answer["model"]["version"]]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Overloaded("full"), "overloaded"),
        (VersionUnavailable("not here"), "not_loaded"),
        (BundleError("broken"), "failed"),
        (RuntimeError("unforeseen"), "failed"),
    ],
)
def test_an_answer_without_explanation_says_why(error: Exception, outcome: str) -> None:
    """Whatever goes wrong with the explanation, the answer comes, says so, and a metric counts it."""
    served = build_app(reasons=CODES, explained=lambda bundle: FailingExplanation(error))
    plain = ask(served, FULL, "/predict")
    for answer in (ask(served, FULL), ask(served, [FULL])[0]):
        assert (answer["explanation"], answer["explanation_error"]) == (None, outcome)
        assert answer["probability"] == plain["probability"]
    assert outcomes(served) == {outcome: 2}


@pytest.mark.parametrize("headers", [{}, {"x-request-timeout-ms": "400"}])
def test_a_silent_explanation_holds_an_answer_up_for_a_bounded_time(headers: dict[str, str]) -> None:
    """The setting, or half of what the request has left, is the longest that an answer waits for its reasons."""
    served = build_app(
        reasons=CODES,
        explained=lambda bundle: FailingExplanation(),
        explanation_timeout_ms=200 if not headers else 9000,
    )
    started = time.perf_counter()
    answer = ask(served, FULL, **headers)
    assert time.perf_counter() - started < 5
    assert (answer["explanation"], answer["explanation_error"]) == (None, "timeout")


class FirstCallsOnly:
    """A stage that explains some calls, and answers no more."""

    def __init__(self, bundle: Bundle, calls: int) -> None:
        self._stage = explained_here(bundle)
        self._left = calls

    async def explain(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Explain, or wait for ever."""
        self._left -= 1
        if self._left < 0:
            await asyncio.Event().wait()
        return await self._stage.explain(matrix, timeout_s)


def test_of_a_long_array_those_rows_are_explained_that_are_in_time() -> None:
    """Rows that were explained before the time is over have their reasons, the others say why they have none."""
    served = build_app(reasons=CODES, explained=lambda bundle: FirstCallsOnly(bundle, 2), explanation_timeout_ms=1500)
    found = [answer.get("explanation_error") for answer in ask(served, [FULL] * 50)]
    assert found == [None] * 32 + ["timeout"] * 18
    assert outcomes(served) == {"given": 32, "timeout": 18}


def test_who_does_not_ask_is_not_explained() -> None:
    """Without explain=1, and with explain=0, an answer has no explanation, and no one is asked for one."""
    stage = FailingExplanation(RuntimeError("asked"))
    served = build_app(reasons=CODES, explained=lambda bundle: stage)
    for path in ("/predict", "/predict?explain=0", "/predict?explain=false", "/predict?detail=1"):
        assert not {"explanation", "explanation_error"} & set(ask(served, FULL, path))
    assert stage.asked == 0


@pytest.mark.parametrize("word", ["2", "", "on", "ja"])
def test_another_word_than_yes_or_no_is_refused(word: str) -> None:
    """A value of `explain` that is neither is a 400 that names those there are, and nothing is scored."""
    served = build_app(reasons=CODES)
    problem(run(served.post(FULL, f"/predict?explain={word}")), 400, "Wrong query", "explain is 1 or 0", repr(word))
    assert samples(text(served.metrics.registry))["rayscore_items_total", "outcome=ok"] == 0


@pytest.mark.parametrize("body", [FULL, [FULL]])
def test_reasons_that_are_not_declared_are_refused(body: Any) -> None:
    """Of a use case without reason codes, explain=1 is a 422 that says what to declare, and no row is scored."""
    served = build_app()
    problem(run(served.post(body, EXPLAIN)), 422, "No reasons are declared", "declare [explanation]", "explain=1")
    assert samples(text(served.metrics.registry))["rayscore_items_total", "outcome=ok"] == 0


def test_observers_are_told_of_an_explained_answer_as_of_any_other() -> None:
    """An answer whose explanation failed counts as answered, and as no error of its version."""
    stats = VersionStatsTable(lambda: card_bundle().manifest.output)
    served = build_app(reasons=CODES, explained=lambda bundle: FailingExplanation(RuntimeError("x")), observers=[stats])
    ask(served, FULL)
    (report,) = stats.report().values()
    assert (report.requests, report.errors) == (1, 0)


def test_rows_of_concurrent_requests_are_explained_together() -> None:
    """An array of more rows than a call takes is explained in several calls, in order."""
    served = build_app(reasons=CODES, explained=explained_here)
    bodies = [{**FULL, "amount": float(i)} for i in range(1, 101)]
    found = ask(served, bodies)
    names = card_bundle().manifest.schema_.names
    margins = [explained(card_bundle(), [body[name] for name in names])["margin"] for body in bodies[::9]]
    assert [answer["explanation"]["margin"] for answer in found[::9]] == margins
    sums = [
        answer["explanation"]["base_value"] + sum(answer["explanation"]["contributions"].values()) for answer in found
    ]
    assert np.allclose(sums, [answer["explanation"]["margin"] for answer in found], rtol=0, atol=1e-6)
