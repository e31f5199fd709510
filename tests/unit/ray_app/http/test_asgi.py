"""The HTTP application as a client sees it, over a real model and store: answers and refused bodies."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.support.load.http_requests import problem
from tests.support.serving.predict_app import (
    AGE_S,
    ROW,
    VERSION,
    DownStage,
    ServedApp,
    build_app,
    manifest,
    run,
)


def test_one_object(served: ServedApp):
    """One object gets one answer with probability, label, model, entity and request id."""
    response = run(served.post(ROW))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert 0 <= body["probability"] <= 1
    assert body["label"] == int(body["probability"] >= manifest().output.fitted["threshold"])
    assert body["model"] == {"name": "card_fraud", "version": VERSION, "epoch": 1}
    assert body["entity_found"] is True
    assert AGE_S <= body["online_age_s"] < AGE_S + 600
    assert body["degraded"] is False
    assert body["request_id"]
    assert "features" not in body
    assert "key" not in body


@pytest.mark.parametrize(
    "key",
    [
        b'"t-9"',
        b'"007"',
        '"\u00e4\u2028\U0001f600"'.encode(),
        b'"\\"\\\\/"',
        b"0",
        b"9007199254740993",
        b"-9223372036854775808",
        b"18446744073709551615",
    ],
)
def test_key_comes_back(served: ServedApp, key: bytes):
    """The row's key is in its answer, to the byte, be it text or an integer of up to 64 bits."""
    response = run(served.send(orjson.dumps(ROW)[:-1] + b',"transaction_id":' + key + b"}"))
    assert response.status_code == 200
    assert b'"key":' + key + b"}" in response.content


@pytest.mark.parametrize("key", [b"null", b'""', b'" "'])
def test_blank_key_does_not_come_back(served: ServedApp, key: bytes):
    """A blank key is no key: the answer has none."""
    response = run(served.send(orjson.dumps(ROW)[:-1] + b',"transaction_id":' + key + b"}"))
    assert response.status_code == 200
    assert "key" not in response.json()


@pytest.mark.parametrize("key", [b"18446744073709551616", b"-9223372036854775809", b"1.0", b"1e2", b"9" * 400, b"true"])
def test_key_that_could_not_come_back_is_refused(served: ServedApp, key: bytes):
    """A number that would come back in another spelling, or as another number, is refused by name."""
    response = run(served.send(orjson.dumps(ROW)[:-1] + b',"transaction_id":' + key + b"}"))
    (error,) = problem(response, 422, "transaction_id")["errors"]
    assert error["reason"].startswith("expected a string or an integer of at most 64 bits, got ")


def test_detail_says_where_each_value_came_from(served: ServedApp):
    """With detail=1 each feature shows its value and whether request, store or default supplied it."""
    row = {**ROW, "cardholder_age": 0, "merchant_category": "zeppelins", "transaction_hour": 0}
    shown = run(served.post(row, "/predict?detail=1")).json()["features"]
    assert list(shown) == list(manifest().schema_.names)
    assert shown["cardholder_age"] == {"value": 0, "source": "request"}
    assert shown["transaction_hour"] == {"value": 0, "source": "request"}
    assert shown["device_trust_score"] == {"value": 10, "source": "online"}
    assert shown["merchant_category"] == {"value": "zeppelins", "source": "request", "unseen": True}


@pytest.mark.parametrize(
    ("query", "shown"),
    [("detail=1", True), ("detail=true", True), ("detail=0", False), ("detail=", False), ("%", False)],
)
def test_detail_switch(served: ServedApp, query: str, shown: bool):
    """Detail is given when asked for, and a query that makes no sense is no error."""
    assert ("features" in run(served.post(ROW, f"/predict?{query}")).json()) is shown


def test_unknown_entity_is_said(served: ServedApp):
    """An entity that the store does not know is answered from request and defaults, and the answer says so."""
    body = run(served.post({**ROW, "user_id": "stranger"}, "/predict?detail=1")).json()
    assert body["entity_found"] is False
    assert body["online_age_s"] is None
    assert body["degraded"] is False
    assert body["features"]["device_trust_score"] == {"value": None, "source": "default"}


def test_store_that_fails_degrades_the_answer():
    """Without the store the answer still comes, and is marked."""
    response = run(build_app(DownStage()).post(ROW))
    assert response.status_code == 200
    assert response.json()["degraded"] is True
    assert response.json()["entity_found"] is None


def test_bad_item_spoils_no_neighbour(served: ServedApp):
    """In an array each item is answered in its place, a bad one by the problem it alone has."""
    good, bad, other = run(served.post([ROW, {**ROW, "amount": "1"}, {**ROW, "amount": 9}])).json()
    assert good["probability"] == run(served.post(ROW)).json()["probability"]
    assert other["probability"] == run(served.post({**ROW, "amount": 9})).json()["probability"]
    assert bad["error"]["status"] == 422
    assert bad["error"]["errors"] == [{"field": "amount", "reason": "expected a number, got a string"}]


def test_array_of_things_that_are_no_objects(served: ServedApp):
    """Items of any JSON type are answered one by one."""
    answers = run(served.post([None, 1, "x", [], ROW])).json()
    assert [item["error"]["errors"][0]["field"] for item in answers[:4]] == [None] * 4
    assert "probability" in answers[4]


def test_array_as_large_as_allowed(served: ServedApp):
    """1,000 items are answered in order."""
    response = run(served.post([{**ROW, "transaction_id": i} for i in range(1000)]))
    assert response.status_code == 200
    assert [item["key"] for item in response.json()] == list(range(1000))


@pytest.mark.parametrize(("items", "status", "word"), [(1001, 413, "1,001 items"), (0, 422, "at least one item")])
def test_array_of_wrong_size(served: ServedApp, items: int, status: int, word: str):
    """More items than allowed, and none at all, are refused."""
    problem(run(served.post([ROW] * items)), status, word)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "not JSON"),
        (b"amount=1", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"\xef\xbb\xbf{", "not JSON"),
        ('{"user_id": "\u00e9"}'.encode("utf-16"), "it looks like UTF-16"),
        (b'{"user_id": "\xe9"}', "byte 13 is 0xE9, as in Latin-1"),
        (b'{"amount": NaN}', "NaN and Infinity are not JSON"),
        (b'{"amount": -Infinity}', "NaN and Infinity are not JSON"),
        (b'{"amount": 1e999', "not JSON"),
        (b'{"user_id": "\\ud800"}', "not JSON"),
        (b"[" * 10_000 + b"]" * 10_000, "not JSON"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "not JSON"),
    ],
)
def test_body_that_is_not_json(served: ServedApp, body: bytes, word: str):
    """A body that is not JSON as RFC 8259 has it, or nests ten thousand deep, is refused as such."""
    problem(run(served.send(body)), 400, word)


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"1E+999999999", b"9" * 400, b"-" + b"9" * 5000 + b".5e-3"])
def test_number_beyond_double_in_any_field(served: ServedApp, number: bytes):
    """A number too large for a double is refused in every field, by name, and in an array no neighbour is."""
    for name in ("transaction_id", "user_id", "amount", "transaction_hour", "merchant_category", "nonsense"):
        body = orjson.dumps({k: v for k, v in ROW.items() if k != name})[:-1] + b',"' + name.encode() + b'":' + number
        found = problem(run(served.send(body + b"}")), 422)
        assert found["errors"][0]["field"] == name
        refused, answered = run(served.send(b"[" + body + b"}," + orjson.dumps(ROW) + b"]")).json()
        assert refused["error"]["errors"][0]["field"] == name
        assert "probability" in answered


@pytest.mark.parametrize("frame", [b"%s", b"[%s]", b'[{"amount":1},%s]'])
def test_field_named_twice(served: ServedApp, frame: bytes):
    """A field that is there twice is refused by name, whichever value the decoder would keep."""
    body = orjson.dumps(ROW)[:-1] + b',"am\\u006funt" : 1}'
    found = problem(run(served.send(frame % body)), 400, "names a field twice")
    (error,) = found["errors"]
    assert error["field"] == "amount"
    assert "is there twice in one object" in error["reason"]


def test_byte_order_mark_is_ignored(served: ServedApp):
    """UTF-8 with a byte order mark, as Windows programs write it, is answered like the same without."""
    body = orjson.dumps(ROW)
    marked = run(served.send(b"\xef\xbb\xbf" + body))
    assert marked.json()["probability"] == run(served.send(body)).json()["probability"]


@pytest.mark.parametrize("depth", [200, 300, 1000])
def test_deep_value_in_any_field(served: ServedApp, depth: int):
    """A value that nests deeply is refused in every field it can be put in, the key included."""
    deep = b"[" * depth + b"]" * depth
    for name in ("transaction_id", "user_id", "amount", "merchant_category", "nonsense"):
        body = orjson.dumps({k: v for k, v in ROW.items() if k != name})[:-1] + b',"' + name.encode() + b'":' + deep
        found = problem(run(served.send(body + b"}")), 422)
        assert found["errors"][0]["field"] == name


@pytest.mark.parametrize(
    ("fields", "field", "word"),
    [
        ({"amout": 1}, "amout", "did you mean 'amount'?"),
        ({"transaction_hour": 24}, "transaction_hour", "above the largest accepted value 23"),
        ({"foreign_transaction": True}, "foreign_transaction", "expected an integer, got true"),
        ({"amount": "1"}, "amount", "expected a number, got a string"),
        ({"user_id": None}, "user_id", "is required"),
    ],
)
def test_bad_field_is_named(served: ServedApp, fields: dict[str, Any], field: str, word: str):
    """A bad field is 422 with the field and the reason, in words and for machines."""
    found = problem(run(served.post({**ROW, **fields})), 422, field)
    (error,) = found["errors"]
    assert error["field"] == field
    assert word in error["reason"]
