"""The feature schema: what a declaration may say, and what its fingerprints depend on."""

import pytest
from pydantic import ValidationError

from data.schema.features.feature import Derivation, Feature, FeatureType, Source
from data.schema.features.feature_schema import FeatureSchema


def _schema(**changes):
    amount = {"name": "amount", "type": FeatureType.NUMBER, "source": Source.EITHER, **changes}
    return FeatureSchema(features=(Feature(**amount), Feature(name="shop", type=FeatureType.CATEGORY)))


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"type": "number", "vocabulary": ("a",)}, "vocabulary belongs to type 'category'"),
        ({"type": "category", "monotone": 1}, "monotone belongs to numbers and booleans"),
        ({"type": "number", "monotone": 2}, "Input should be 1 or -1"),
        ({"type": "category", "vocabulary": ("a", "a")}, "names a category twice"),
        ({"type": "category", "vocabulary": ()}, "at least 1 item"),
        ({"type": "category", "min": 1}, "min and max belong to numbers"),
        ({"type": "integer", "min": 3, "max": 2}, "min 3 is above max 2"),
        ({"type": "integer", "default": 1.5}, "default 1.5 is not of type 'integer'"),
        ({"type": "number", "default": True}, "default True is not of type 'number'"),
        ({"type": "number", "default": float("nan")}, "default must not be NaN"),
        ({"type": "integer", "min": 0, "default": -1}, "default -1 is outside min and max"),
        ({"type": "category", "vocabulary": ("a",), "default": "b"}, "default 'b' is not in the vocabulary"),
        (
            {"type": "number", "empty": "value"},
            "empty belongs to type 'category': for type 'number' '' is always missing",
        ),
        ({"type": "category", "empty": "missing", "vocabulary": ("a", "")}, "'' is in the vocabulary"),
        ({"type": "category", "empty": "missing", "default": ""}, "'' is in the default; write empty = \"value\""),
        ({"type": "category", "empty": "null"}, "Input should be 'missing' or 'value'"),
        ({"type": "string"}, "Input should be 'number', 'integer', 'boolean', 'category' or 'text'"),
        ({"type": "number", "nullable": True}, "Extra inputs are not permitted"),
    ],
)
def test_contradiction_is_refused(declared, words):
    """A declaration that contradicts itself is refused with what is wrong."""
    with pytest.raises(ValidationError, match=words):
        Feature(name="f", **declared)


def test_feature_named_twice_is_refused():
    """Two features of one name are refused."""
    feature = Feature(name="f", type=FeatureType.NUMBER)
    with pytest.raises(ValidationError, match="feature named twice: f"):
        FeatureSchema(features=(feature, feature))


@pytest.mark.parametrize(
    ("declared", "required"),
    [
        ({}, True),
        ({"default": 1.0}, False),
        ({"optional": True}, False),
        ({"source": "online"}, False),
        ({"source": "either"}, False),
    ],
)
def test_required_is_what_only_the_request_can_give(declared, required):
    """A feature is required when neither default, store nor permission fills in for the request."""
    assert Feature(name="f", type=FeatureType.NUMBER, **declared).required is required


def test_fingerprint_changes_with_the_vector():
    """Default, range and vocabulary change the fingerprint; a description does not."""
    base = _schema().fingerprint
    assert _schema(description="Amount").fingerprint == base
    assert _schema(default=1.0).fingerprint != base
    assert _schema(min=0).fingerprint != base
    assert _schema().with_vocabularies({"shop": ("a",)}).fingerprint != base


def test_schema_without_empty_values_is_written_as_before_there_were_any():
    """What says nothing of '' has the fingerprint and the text that it had before '' could be declared."""
    feature = Feature(name="shop", type=FeatureType.CATEGORY, vocabulary=("a",))
    schema, declared = (FeatureSchema(features=(f,)) for f in (feature, feature.model_copy(update={"empty": "value"})))
    assert schema.fingerprint == "fe5a643b7b6cd932"
    assert "empty" not in schema.model_dump_json()
    assert declared.fingerprint != schema.fingerprint
    assert FeatureSchema.model_validate_json(declared.model_dump_json()) == declared


def test_schema_without_derivations_is_written_as_before_there_were_any():
    """Nothing is said of derivations where there are none, and each part of one counts in the fingerprint."""
    plain = Feature(name="age", type=FeatureType.NUMBER)
    age = Feature(name="age", type=FeatureType.NUMBER, derive=Derivation.AGE_DAYS, column="born", as_of="at")
    other = age.model_copy(update={"as_of": "seen"})
    schemas = [FeatureSchema(features=(feature,)) for feature in (plain, age, other)]
    assert len({schema.fingerprint for schema in schemas}) == 3
    assert "derive" not in schemas[0].model_dump_json()
    assert [schema.columns for schema in schemas] == [("age",), ("born", "at"), ("born", "seen")]
    assert FeatureSchema.model_validate_json(schemas[1].model_dump_json()) == schemas[1]


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"column": "t"}, "column belongs to a derived feature: say what to derive"),
        ({"derive": "hour"}, "derive = 'hour' needs column"),
        ({"derive": "hour", "column": "t", "type": "number"}, "derive = 'hour' gives type 'integer', not 'number'"),
        ({"derive": "age_days", "column": "t", "as_of": "u"}, "derive = 'age_days' gives type 'number'"),
        ({"derive": "age_days", "column": "t", "type": "number"}, "derive = 'age_days' needs as_of"),
        ({"derive": "hour", "column": "t", "as_of": "u"}, "derive = 'hour' takes no as_of"),
        ({"derive": "hour", "column": "t", "source": "online"}, "computed from what the request sends"),
        ({"derive": "year", "column": "t"}, "Input should be 'hour', 'weekday', 'day', 'month' or 'age_days'"),
    ],
)
def test_derivation_that_is_not_whole_is_refused(declared, words):
    """What is missing, too much or of the wrong type is named."""
    with pytest.raises(ValidationError, match=words):
        Feature.model_validate({"name": "f", "type": "integer", **declared})


@pytest.mark.parametrize(
    ("declared", "is_value"),
    [({}, False), ({"empty": "value"}, True), ({"default": ""}, True), ({"vocabulary": ("a", "")}, True)],
)
def test_empty_text_is_a_value_where_it_is_declared(declared, is_value):
    """'' is a value by `empty`, or by standing in the vocabulary or as the default; else it is missing."""
    assert Feature(name="f", type=FeatureType.CATEGORY, **declared).empty_is_value is is_value


def test_view_fingerprint_changes_with_the_stored_layout_alone():
    """A refit keeps stored rows valid; another online type or set does not."""
    base = _schema().view_fingerprint
    assert _schema(default=1.0).view_fingerprint == base
    assert _schema().with_vocabularies({"shop": ("a",)}).view_fingerprint == base
    assert _schema(type=FeatureType.INTEGER).view_fingerprint != base
    assert _schema(source=Source.REQUEST).view_fingerprint != base


def test_fitted_vocabulary_does_not_replace_a_declared_one():
    """Fitting sets the vocabularies that were not declared and leaves the others."""
    declared = Feature(name="a", type=FeatureType.CATEGORY, vocabulary=("x",))
    schema = FeatureSchema(features=(declared, Feature(name="b", type=FeatureType.CATEGORY)))
    fitted = schema.with_vocabularies({"a": ("other",), "b": ("y",)})
    assert not schema.fitted
    assert fitted.fitted
    assert [feature.vocabulary for feature in fitted.features] == [("x",), ("y",)]


def test_schema_survives_json():
    """A schema written to JSON and read again is equal, fingerprint included."""
    schema = _schema().with_vocabularies({"shop": ("a", "b")})
    again = FeatureSchema.model_validate_json(schema.model_dump_json())
    assert again == schema
    assert again.fingerprint == schema.fingerprint
