"""Fitting the schema: which words of the train rows become a vocabulary."""

from __future__ import annotations

import pyarrow as pa
import pytest

from data.errors import DataError
from data.schema.use_case import UseCase
from tune.dataset.encoded_examples import fit_schema


def fitted(words, kind=None, **declared):
    """The vocabulary that a category gets from a column."""
    features = {"word": {"type": "category", **declared}}
    use_case = UseCase.model_validate({"name": "t", "label": "y", "features": features})
    return fit_schema(pa.table({"word": pa.array(words, kind or pa.string())}), use_case).features[0].vocabulary


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_empty_text_is_a_word_only_where_it_is_a_value(kind):
    """'' gets a code by its frequency where it is declared a value, and none elsewhere; null never does."""
    words = ["", "", "", "b", "b", " ", None, None, None, None]
    assert fitted(words, kind) == ("b", " ")
    assert fitted(words, kind, empty="value") == fitted(words, kind, default="") == ("", "b", " ")


def test_declared_vocabulary_is_kept():
    """A vocabulary that is declared is not fitted, with '' in it or without."""
    assert fitted(["", "c"], vocabulary=["a", "b"]) == ("a", "b")
    assert fitted(["", "c"], vocabulary=["a", ""]) == ("a", "")


@pytest.mark.parametrize("words", [[None, None], ["", None]])
def test_category_without_a_word_is_refused(words):
    """A category that is missing in every train row cannot be fitted; the column is named."""
    with pytest.raises(DataError, match="column 'word': no value in any training row"):
        fitted(words)
