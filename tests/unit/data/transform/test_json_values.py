"""Columns of a table as a client sends them in requests."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from data.schema.entity import Entity
from data.schema.features.feature import Feature, FeatureType
from data.transform.json_values import json_keys, json_values


@pytest.mark.parametrize(
    ("kind", "column", "spelled"),
    [
        (FeatureType.CATEGORY, pa.array([7, None]), ["7", None]),
        (FeatureType.CATEGORY, pa.array(["a", None]).dictionary_encode(), ["a", None]),
        (FeatureType.CATEGORY, pa.array(["", " "]).dictionary_encode(), [None, " "]),
        (FeatureType.BOOLEAN, pa.array([1, 0]), [True, False]),
        (FeatureType.INTEGER, pa.array([5.0, 5.5, None]), [5, 5.5, None]),
        (FeatureType.INTEGER, pa.array([2**62]), [2**62]),
        (FeatureType.NUMBER, pa.array([Decimal("1.5")]), [1.5]),
        (FeatureType.NUMBER, pa.array([True]), [1.0]),
    ],
)
def test_values_are_spelled_as_json_must(kind, column, spelled):
    """Whatever Parquet holds a feature in, a request has the type that the feature declares."""
    found = json_values(pa.chunked_array([column]), Feature(name="x", type=kind))
    assert found == spelled
    assert [type(value) for value in found] == [type(value) for value in spelled]


def test_keys_are_sent_in_the_type_of_their_entity():
    """An integer entity is sent as integers from any column, a string entity as text; what is no key is left out."""
    floats, words = pa.chunked_array([[17.0, None, 1.5]]), pa.chunked_array([["17", "", "017"]])
    assert json_keys(floats, Entity(column="e", type="integer")) == [17, None, None]
    assert json_keys(words, Entity(column="e", type="integer")) == [17, None, None]
    assert json_keys(words, Entity(column="e")) == ["17", None, "017"]
    assert json_keys(pa.chunked_array([[17, None]]), Entity(column="e")) == ["17", None]
