"""Answers and problem details: what is shown, which status an error has, and what stays hidden."""

from __future__ import annotations

import math

import orjson
import pytest

from data.errors import (
    ConfigError,
    DeadlineExceeded,
    InvalidRow,
    ModelError,
    Overloaded,
    RayscoreError,
    SchemaMismatch,
    StoreUnavailable,
)
from data.online_store.row_codec import OnlineRow
from data.transform.encoding import Transform
from ray_app.prediction import Lookup, Prediction, Row
from ray_app.protocol.responses import HttpProblem, ResponseRenderer, dumps, finite, problem
from ray_app.protocol.row_parser import RefusedItem, RowParser
from tests.support.serving.predict_app import FULL, ROW, manifest


def answers() -> ResponseRenderer:
    """The renderer of the card use case."""
    return ResponseRenderer(manifest(), Transform(manifest().schema_), "3")


def row(item: dict[str, object]) -> Row:
    """An accepted row."""
    return RowParser(manifest(), Transform(manifest().schema_)).parse(item)


@pytest.mark.parametrize(("distance", "label"), [(-1e-9, 0), (0.0, 1), (1e-9, 1)])
def test_label_is_one_from_the_threshold_on(distance: float, label: int):
    """A probability of exactly the threshold is labelled 1."""
    given = Prediction(row(FULL), [manifest().output.fitted["threshold"] + distance], Lookup(), 0)
    assert answers().render(given, "id", False, 1)["label"] == label


def test_stored_zero_is_shown_as_online():
    """A zero from the store, and one from the request, are shown as values with their source."""
    online = OnlineRow(0, (0, None, 0))
    given = Prediction(row({**ROW, "cardholder_age": 0}), [0.5], Lookup(online, True, 1.0), 1)
    shown = answers().render(given, "id", True, 1)["features"]
    assert shown["device_trust_score"] == {"value": 0, "source": "online"}
    assert shown["velocity_last_24h"] == {"value": None, "source": "default"}
    assert shown["cardholder_age"] == {"value": 0, "source": "request"}


def test_key_zero_comes_back():
    """A key of 0 is a key."""
    given = Prediction(row({**FULL, "transaction_id": 0}), [0.5], Lookup(), 0)
    assert answers().render(given, "id", False, 1)["key"] == 0


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RefusedItem([InvalidRow("a", "is required")]), 422),
        (InvalidRow("a", "is required"), 422),
        (Overloaded("full"), 503),
        (SchemaMismatch("rollout"), 503),
        (StoreUnavailable("gone"), 503),
        (DeadlineExceeded("late"), 504),
        (HttpProblem(418, "Teapot", "short and stout"), 418),
    ],
)
def test_known_error_has_its_status_and_words(error: Exception, status: int):
    """An error that a client can act on has its own status and says its words."""
    code, body = problem(error, "id-1")
    assert code == body["status"] == status
    assert body["detail"] == str(error)
    assert body["request_id"] == "id-1"


@pytest.mark.parametrize(
    "error", [ValueError("secret"), RayscoreError("secret"), ConfigError("secret"), ModelError("x")]
)
def test_other_error_is_hidden(error: Exception):
    """Any other error is 500 and its text is not shown."""
    code, body = problem(error, "id-1")
    assert code == 500
    assert str(error) not in body["detail"].split()


def test_refused_item_lists_its_fields():
    """Field errors are listed for machines; one without a field has null."""
    error = RefusedItem([InvalidRow("a", "is required"), InvalidRow(None, "2 more")])
    assert problem(error, "id")[1]["errors"] == [
        {"field": "a", "reason": "is required"},
        {"field": None, "reason": "2 more"},
    ]


def test_answer_without_finite_numbers_is_json():
    """A probability and stored values that are not finite leave as null: the answer is JSON all the same."""
    given = Prediction(row(ROW), [math.nan], Lookup(OnlineRow(0, (math.inf, -math.inf, math.nan)), True, math.inf), 3)
    answer = orjson.loads(dumps(answers().render(given, "id", True, 1)))
    assert (answer["probability"], answer["online_age_s"]) == (None, None)
    assert answer["features"]["device_trust_score"] == {"value": None, "source": "online"}


def test_json_has_no_nan():
    """What JSON cannot carry leaves as null."""
    assert dumps({"a": math.nan, "b": math.inf}) == b'{"a":null,"b":null}'
    assert finite({"auc": math.nan, "f1": 0.5}) == {"auc": None, "f1": 0.5}
