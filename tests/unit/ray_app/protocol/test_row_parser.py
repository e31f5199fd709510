"""What a client can get wrong in an item, each refused by name."""

from __future__ import annotations

import functools
import json

import pytest

from data.schema.features.feature import Feature, FeatureType, Source
from data.schema.features.feature_schema import FeatureSchema
from data.transform.encoding import Transform
from ray_app.prediction import Row
from ray_app.protocol.row_parser import RefusedItem, RowParser
from tests.support.serving.predict_app import FULL, ROW, manifest

_ABSENT = object()


@functools.cache
def parser() -> RowParser:
    """The parser of the card use case."""
    return RowParser(manifest(), Transform(manifest().schema_))


def parser_of(*features: Feature, **changes: object) -> RowParser:
    """A parser of other features."""
    schema = FeatureSchema(features=features)
    declared = manifest().model_copy(update={"schema_": schema, **changes})
    return RowParser(declared, Transform(schema))


def changed(**fields: object) -> dict[str, object]:
    """A good row with some fields replaced, or left out when _ABSENT."""
    return {name: value for name, value in {**FULL, **fields}.items() if value is not _ABSENT}


def errors(item: object, by: RowParser | None = None) -> list[tuple[str | None, str]]:
    """Field and reason of everything that is wrong with an item."""
    with pytest.raises(RefusedItem) as caught:
        (by or parser()).parse(item)
    return [(error.field, error.reason) for error in caught.value.errors]


def encoded(item: dict[str, object]) -> dict[str, float | None]:
    """The encoded values of an accepted item by feature."""
    return dict(zip(manifest().schema_.names, parser().parse(item).encoded, strict=True))


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"amout": 1}, "amout", "unknown field; did you mean 'amount'?"),
        ({"is_fraud": 0}, "is_fraud", "unknown field"),
        ({"zzz": 0}, "zzz", "known fields: amount, cardholder_age"),
        ({"amount": _ABSENT}, "amount", "is required"),
        ({"amount": None}, "amount", "is required"),
        ({"user_id": _ABSENT}, "user_id", "is required: it is the key of the online features"),
        ({"user_id": None}, "user_id", "is required"),
        ({"user_id": ""}, "user_id", "is required: it is the key of the online features"),
        ({"user_id": " \t\u00a0"}, "user_id", "is required: it is the key of the online features"),
        ({"user_id": 17}, "user_id", "expected a non-empty string, got the number 17"),
        ({"user_id": "u" * 1025}, "user_id", "has 1,025 characters, at most 1,024 are taken"),
        ({"amount": "12"}, "amount", "expected a number, got a string"),
        ({"amount": True}, "amount", "expected a number, got true"),
        ({"amount": []}, "amount", "expected a number, got an array"),
        ({"foreign_transaction": True}, "foreign_transaction", "expected an integer, got true"),
        ({"foreign_transaction": False}, "foreign_transaction", "expected an integer, got false"),
        ({"transaction_hour": 1.5}, "transaction_hour", "expected an integer, got the number 1.5"),
        ({"transaction_hour": "3"}, "transaction_hour", "expected an integer, got a string"),
        ({"transaction_hour": 24}, "transaction_hour", "24 is above the largest accepted value 23"),
        ({"transaction_hour": -1}, "transaction_hour", "-1 is below the smallest accepted value 0"),
        ({"amount": -0.01}, "amount", "-0.01 is below the smallest accepted value 0"),
        ({"amount": float("nan")}, "amount", "NaN and Infinity are not accepted"),
        ({"amount": float("-inf")}, "amount", "NaN and Infinity are not accepted"),
        ({"amount": 10**39}, "amount", "does not fit into 32-bit floating point"),
        ({"amount": 1e308}, "amount", "does not fit into 32-bit floating point"),
        ({"velocity_last_24h": 2**200}, "velocity_last_24h", "does not fit into 32-bit floating point"),
        ({"merchant_category": 5}, "merchant_category", "expected a string, got the number 5"),
        ({"merchant_category": {}}, "merchant_category", "expected a string, got an object"),
        ({"device_trust_score": 101}, "device_trust_score", "101 is above the largest accepted value 100"),
        ({"transaction_id": [1]}, "transaction_id", "expected a string or an integer of at most 64 bits, got an array"),
        ({"transaction_id": True}, "transaction_id", "expected a string or an integer of at most 64 bits, got true"),
        ({"transaction_id": 1.0}, "transaction_id", "of at most 64 bits, got the number 1.0"),
        ({"transaction_id": 1.8446744073709552e19}, "transaction_id", "of at most 64 bits, got the number 1.84467440"),
    ],
)
def test_mistake_is_refused_by_name(fields: dict[str, object], field: str, reason: str):
    """A bad field is named, with what is wrong and what was expected, and nothing else is reported."""
    ((named, said),) = errors(changed(**fields))
    assert named == field
    assert reason in said


@pytest.mark.parametrize(
    ("item", "got"),
    [(None, "null"), (1, "the number 1"), (True, "true"), ("x", "a string"), ([], "an array")],
)
def test_item_that_is_no_object(item: object, got: str):
    """An item of another JSON type is refused as a whole."""
    assert errors(item) == [(None, f"expected an object with the features, got {got}")]


def test_every_mistake_is_listed():
    """Several mistakes in one item are all reported at once."""
    found = errors({**changed(amount="1", user_id=None, transaction_hour=99), "amout": 1})
    assert {field for field, _ in found} == {"amount", "user_id", "transaction_hour", "amout"}


def test_thousands_of_unknown_fields_are_summed_up():
    """The answer to an item full of unknown fields stays short, and says how many there were."""
    found = errors({**FULL, **{f"x{i}": i for i in range(20_000)}})
    assert found[-1] == (None, "19,997 more unknown fields")
    assert len(json.dumps(found)) < 5_000


def test_long_unknown_name_is_cut():
    """The name of an unknown field is echoed only in part when it is long."""
    ((field, _),) = errors({**FULL, "x" * 100_000: 1})
    assert field is not None
    assert len(field) == 80


@pytest.mark.parametrize("name", ["transaction_hour", "device_trust_score", "amount", "foreign_transaction"])
def test_zero_is_a_value(name: str):
    """A zero is taken as sent and is not an absence."""
    assert encoded(changed(**{name: 0}))[name] == 0.0


def test_optional_features_may_be_left_out_or_null():
    """A feature that the store also holds may be absent or null; both mean that the request has no value."""
    assert encoded(ROW)["device_trust_score"] is None
    assert encoded({**ROW, "device_trust_score": None})["device_trust_score"] is None


def test_whole_number_written_as_float_is_an_integer():
    """JSON has one kind of number: 3.0 is accepted as the integer 3."""
    assert encoded(changed(transaction_hour=3.0))["transaction_hour"] == 3.0


def test_unseen_category_is_a_missing_value():
    """A category that training never saw is accepted and encodes as NaN."""
    code = encoded(changed(merchant_category="space travel"))["merchant_category"]
    assert code != code


@pytest.mark.parametrize("key", ["t-1", " t-1 ", "007", "\u00e4\U0001f600", 17, 0, -(2**63), 2**64 - 1])
def test_key_is_carried(key: object):
    """A key of text or an integer travels with the row as it was sent."""
    assert parser().parse(changed(transaction_id=key)).key == key


@pytest.mark.parametrize("key", [_ABSENT, None, "", " ", "\n\u3000"])
def test_blank_key_is_none(key: object):
    """A key that is left out, null, empty or white space alone is no key."""
    assert parser().parse(changed(transaction_id=key)).key is None


def test_online_feature_must_not_be_sent():
    """A feature that only the store supplies is refused with that reason."""
    by = parser_of(
        Feature(name="amount", type=FeatureType.NUMBER),
        Feature(name="age", type=FeatureType.INTEGER, source=Source.ONLINE),
    )
    item = {"user_id": "u", "amount": 1, "age": 3}
    assert errors(item, by) == [("age", "is read from the online store; do not send it")]


@pytest.mark.parametrize(("value", "expected"), [(True, 1.0), (False, 0.0)])
def test_boolean_feature(value: bool, expected: float):
    """A boolean takes true and false, and nothing that looks like them."""
    by = parser_of(Feature(name="vip", type=FeatureType.BOOLEAN))
    assert by.parse({"user_id": "u", "vip": value}).encoded == [expected]
    for wrong in (1, 0, "true", 0.0):
        ((field, reason),) = errors({"user_id": "u", "vip": wrong}, by)
        assert field == "vip"
        assert reason.startswith("expected true or false, got ")


def test_feature_with_a_default_may_be_left_out():
    """A request feature with a default, or declared optional, is not required."""
    by = parser_of(
        Feature(name="a", type=FeatureType.NUMBER, default=2.5),
        Feature(name="b", type=FeatureType.NUMBER, optional=True),
    )
    assert by.parse({"user_id": "u"}).encoded == [None, None]


def test_integer_entity():
    """An entity declared as an integer takes integers alone, and becomes the store's text key."""
    entity = manifest().entity
    assert entity is not None
    by = parser_of(
        Feature(name="a", type=FeatureType.NUMBER),
        entity=entity.model_copy(update={"type": "integer"}),
    )
    assert by.parse({"user_id": 0, "a": 1}).entity == "0"
    assert by.parse({"user_id": -7, "a": 1}).entity == "-7"
    assert by.parse({"user_id": 2**64 - 1, "a": 1}).entity == "18446744073709551615"
    for wrong in ("7", True, 7.0, 1.8446744073709552e19, [7]):
        ((field, reason),) = errors({"user_id": wrong, "a": 1}, by)
        assert field == "user_id"
        assert reason.startswith("expected an integer of at most 64 bits, got ")
    for blank in (None, "", " "):
        assert errors({"user_id": blank, "a": 1}, by)[0][1].startswith("is required")


def test_use_case_without_entity():
    """Without an entity no key is asked for, and one that is sent is unknown."""
    by = parser_of(Feature(name="a", type=FeatureType.NUMBER), entity=None)
    assert by.parse({"a": 1}).entity is None
    assert errors({"a": 1, "user_id": "u"}, by)[0][0] == "user_id"


def test_row_keeps_what_was_sent():
    """An accepted row holds entity and raw values beside the encoded ones."""
    row = parser().parse(FULL)
    assert isinstance(row, Row)
    assert row.entity == "u1"
    assert row.values["merchant_category"] == "electronics"
