"""Texts: tokens of any script, and scores that are the same in every process and however rows are batched."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from data.errors import BundleError, DataError
from data.schema.features.feature import MAX_TEXT, Feature, FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.transform.encoding import Transform
from data.transform.text_model import TextModel, pack_models, unpack_models
from data.transform.text_tokens import gram_keys, tokens

TEXTS = ["good kettle", "not good", "", None, "Ω ≠ words", "хороший чайник", "良い湯沸かし", "!!!", "good " * 50]


def model() -> TextModel:
    """A model of three n-grams, with two margins."""
    keys = np.sort(np.concatenate([gram_keys(["not", "good"]), gram_keys(["чайник"])]))
    weights = np.linspace(-1, 1, 2 * len(keys)).reshape(-1, 2)
    return TextModel(keys, weights, np.array([0.25, -0.5]))


def schema(optional: bool = True) -> FeatureSchema:
    """A text with the scores of that model."""
    declared = FeatureSchema(features=(Feature(name="body", type=FeatureType.TEXT, optional=optional),))
    return declared.with_text_scores({"body": (("a", "b", "for a", "for b", "words"), model())})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't STOP", ["don", "t", "stop"]),
        ("Straße ﬁne №5", ["strasse", "fine", "no5"]),
        ("Хороший чайник", ["хороший", "чайник"]),
        ("جيد جدا", ["جيد", "جدا"]),
        ("iPhoneが好き", ["iphone", "が", "好", "き"]),
        ("ok \U0001f44d\U0001f44d", ["ok", "\U0001f44d", "\U0001f44d"]),
        (" ?! ", []),
    ],
)
def test_any_script_has_tokens(text, expected):
    """Words are cut, normalized and case folded in any script; one without spaces has a token a character."""
    assert tokens(text) == expected


def test_scores_are_the_same_alone_and_in_a_table():
    """A row of a table has the bits that its text has alone; a missing text has missing scores, another has none."""
    transform = Transform(schema())
    matrix = transform.matrix(pa.table({"body": TEXTS}))
    assert matrix.shape == (len(TEXTS), 5)
    for text, row in zip(TEXTS, matrix, strict=True):
        expected = np.full(5, np.nan, np.float32) if not text else np.array(model().scores(text), np.float32)
        assert row.tobytes() == expected.tobytes()
    assert matrix[7].tolist() == [0.25, -0.5, 0, 0, 0]
    large = pa.table({"body": pa.array(TEXTS, pa.large_string()).dictionary_encode()})
    assert transform.matrix(large).tobytes() == matrix.tobytes()


def test_scores_are_the_same_in_every_process():
    """Two processes with other seeds of Python's own hash give a text the same keys."""
    program = "from data.transform.text_tokens import *; print(gram_keys(tokens('not good чайник')).tolist())"
    found = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {f"{gram_keys(tokens('not good чайник')).tolist()}\n"}


def test_long_text_counts_up_to_its_most_characters():
    """Of a text longer than any request may send, a table's row counts the characters that one may."""
    longest = "good " * (MAX_TEXT // 5)
    assert model().scores(longest + "not good") == model().scores(longest)


def test_model_comes_back_from_its_file():
    """A packed model is read again with its digest, and equal models make equal files; anything else is refused."""
    packed = pack_models({"body": model()})
    assert unpack_models(packed) == {"body": model()}
    assert packed == pack_models({"body": model()})
    with pytest.raises(BundleError, match="not a file of text models"):
        unpack_models(packed[: len(packed) // 2])


def test_numbers_are_no_texts():
    """A table whose column of texts holds numbers is refused by name."""
    with pytest.raises(DataError, match="column 'body' holds int64, expected text"):
        Transform(schema()).matrix(pa.table({"body": [1, 2]}))


def test_text_is_declared_with_what_it_can_have():
    """A text comes with the request, and has neither default nor direction."""
    for wrong in ({"source": "online"}, {"default": "x"}, {"monotone": 1}, {"min": 0}):
        with pytest.raises(ValueError, match=r"text|numbers"):
            Feature.model_validate({"name": "body", "type": "text", **wrong})


def test_fingerprint_changes_with_the_model():
    """Schemas with another text model encode otherwise, and have another fingerprint."""
    other = TextModel(model().keys, model().weights * 2, model().constants)
    declared = FeatureSchema(features=(Feature(name="body", type=FeatureType.TEXT, optional=True),))
    names = ("a", "b", "for a", "for b", "words")
    assert declared.with_text_scores({"body": (names, other)}).fingerprint != schema().fingerprint
    assert not declared.fitted
    assert schema().fitted
