"""Rows of a table as requests: spelled as a client must, and beside them what training encodes."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from data.errors import DataError
from tests.support.training.models import card_bundle, card_table
from tune.skew.replay_requests import ReplayRequests

EITHER = {"device_trust_score", "velocity_last_24h", "cardholder_age"}
TABLE = card_table(rows=3, seed=5)


def requests(table: pa.Table = TABLE) -> ReplayRequests:
    """Requests to the model under test."""
    return ReplayRequests(table, card_bundle().manifest)


def test_every_row_has_two_forms():
    """What may come from either side is sent in one form and left to the store in the other."""
    made = requests()
    assert made.forms == 6
    left_out = [not EITHER & (sent.body or {}).keys() for start in (0, 3) for sent in made.slice(start, 3)[1]]
    assert left_out == [False, True, False, True, False, True]


def test_row_carries_entity_and_features_and_nothing_else():
    """Label, key and event time stay at home; the row's number and entity are kept beside it."""
    matrix, sent = requests().slice(1, 5)
    assert [each.row for each in sent] == [1, 2]
    assert matrix.shape == (2, 8)
    assert (sent[1].body or {}).keys() == {"user_id", *card_bundle().manifest.schema_.names}
    assert sent[1].entity == TABLE.column("user_id")[2].as_py()


def test_absent_values_are_left_out_and_infinities_cannot_be_sent():
    """A null or NaN is a field left out; a row with an infinity has no request."""
    amounts = pa.array([None, math.nan, math.inf])
    _, sent = requests(TABLE.set_column(TABLE.column_names.index("amount"), "amount", amounts)).slice(0, 3)
    assert ["amount" in (each.body or {}) for each in sent[:2]] == [False, False]
    assert sent[2].body is None


def test_missing_column_is_told():
    """A table without a feature's column is refused by name."""
    with pytest.raises(DataError, match="column 'amount' is missing"):
        requests(TABLE.drop_columns(["amount"])).slice(0, 1)
