"""Entities of events: numbers that stand for keys are equal where the keys are."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.feature_views.events.event_entities import entity_codes, entity_key_column
from data.feature_views.kernel.event_arrays import NO_ENTITY
from data.schema.events.event_source import EventEntity

_CARD = EventEntity(name="card", columns=("card",))
_BOTH = EventEntity(name="card+shop", columns=("card", "shop"))
_WORDS = st.none() | st.sampled_from(["a", "b", "", " ", '"', "a,b"])


def _same(tables: list[pa.Table], entity: EventEntity) -> None:
    codes = entity_codes(tables, entity).tolist()
    keys = [key for table in tables for key in entity_key_column(table, entity).to_pylist()]
    assert [code == NO_ENTITY for code in codes] == [key is None for key in keys]
    numbers = dict(zip(keys, codes, strict=True))
    assert [numbers[key] for key in keys] == codes
    assert sorted({code for code in codes if code >= 0}) == list(range(len({*keys} - {None})))


@given(st.lists(st.tuples(_WORDS, _WORDS)), st.lists(st.tuples(_WORDS, _WORDS)))
def test_numbers_stand_for_keys(first: list[tuple[Any, Any]], second: list[tuple[Any, Any]]) -> None:
    """Of one column and of two, over two tables, with blank ones among them."""
    kind = pa.schema([("card", pa.string()), ("shop", pa.string())])
    tables = [
        pa.Table.from_pylist([dict(zip(kind.names, row, strict=True)) for row in rows], kind)
        for rows in (first, second)
    ]
    _same(tables, _CARD)
    _same(tables, _BOTH)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None, 7, 1], pa.int32()),
        pa.array([1.0, float("nan"), 7.0, 2.5]),
        pa.array(["x", None, "y", "x"]).dictionary_encode(),
        pa.nulls(4),
    ],
    ids=lambda column: str(column.type),
)
def test_columns_of_any_type_meet_in_one_key(column: pa.Array):
    """A table with whole numbers and one with their text have the same entities."""
    kind = "integer" if pa.types.is_floating(column.type) else "string"
    entity = EventEntity(name="card", columns=("card",), type=kind)
    _same([pa.table({"card": column}), pa.table({"card": ["7", "x", "1"]})], entity)
