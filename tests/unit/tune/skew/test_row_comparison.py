"""Comparing one row: what counts as the same, and what is kept of a difference."""

from __future__ import annotations

import numpy as np
import pytest

from data.transform.encoding import Transform
from tests.support.training.models import card_bundle, card_table
from tune.skew.replay_requests import ReplayRequests
from tune.skew.row_comparison import KEPT, RowComparer, SentRow, ServedRow, SkewProof, UsedValue
from tune.training.onnx_export import OnnxScorer

TABLE = card_table(rows=20, seed=5)
EITHER = ("device_trust_score", "velocity_last_24h", "cardholder_age")
MATRIX, SENT = ReplayRequests(TABLE, card_bundle().manifest).slice(0, 20)
WHOLE, OPEN = 0, 1
"""A row whose every value is sent, and one that leaves three to the store."""


def served(sent: SentRow, probability: float | None = None, **used: UsedValue) -> ServedRow:
    """The answer of a sound service whose store holds 1 for all; `used` and `probability` replace parts of it."""
    schema, body = card_bundle().manifest.schema_, sent.body or {}
    features = {
        name: UsedValue(body[name], "request", False) if name in body else UsedValue(1, "online", False)
        for name in schema.names
    }
    features |= used
    vector = Transform(schema).rows([[features[name].value for name in schema.names]])
    score = float(OnnxScorer(card_bundle().onnx).scores(vector)[0, 0])
    return ServedRow("r", [score if probability is None else probability], features)


def compared(row: int, answer: ServedRow, stored=None, wanted: int = 1) -> SkewProof:
    """The proof of one row."""
    comparer = RowComparer(card_bundle(), "1", wanted, stored)
    comparer.compare(MATRIX[[row]], [SENT[row]], [answer])
    return comparer.proof


def faults(proof: SkewProof) -> dict[str, str]:
    """Fields at fault of the only mismatch."""
    (mismatch,) = proof.mismatches
    return {line.name: line.fault for line in mismatch.lines if line.fault}


@pytest.mark.parametrize("row", [WHOLE, OPEN])
def test_same_values_and_score_agree(row):
    """Values sent and values from the store are scored as training would."""
    assert compared(row, served(SENT[row])).passed


def test_score_may_differ_by_rounding_only():
    """A score is the same within a millionth, not within a hundred thousandth."""
    score = served(SENT[WHOLE]).scores[0]
    assert compared(WHOLE, served(SENT[WHOLE], score + 5e-7)).passed
    proof = compared(WHOLE, served(SENT[WHOLE], score + 1e-5))
    assert (proof.differing, faults(proof), proof.mismatches[0].rescored) == (1, {}, True)


def test_value_that_was_sent_must_be_the_one_used():
    """Another value, or the store's in place of the request's, is a fault though the score may agree."""
    sent = SENT[WHOLE].body or {}
    proof = compared(WHOLE, served(SENT[WHOLE], cardholder_age=UsedValue(sent["cardholder_age"], "online", False)))
    assert faults(proof) == {"cardholder_age": "taken from online, not from request"}
    proof = compared(WHOLE, served(SENT[WHOLE], amount=UsedValue(-5.0, "request", False)))
    assert faults(proof) == {"amount": "another value"}


def test_word_that_only_one_side_knows_is_a_fault():
    """A service that calls a word of the vocabulary unknown has another vocabulary."""
    word = (SENT[WHOLE].body or {})["merchant_category"]
    proof = compared(WHOLE, served(SENT[WHOLE], merchant_category=UsedValue(word, "request", True)))
    assert faults(proof) == {"merchant_category": "unknown to the service alone"}


def test_feature_that_the_answer_lacks_is_a_fault():
    """A service that does not name a feature did not use it."""
    answer = served(SENT[WHOLE])
    features = {name: used for name, used in answer.features.items() if name != "amount"}
    assert faults(compared(WHOLE, answer._replace(features=features))) == {
        "amount": "taken from nowhere, not from request"
    }


def test_store_is_held_against_what_it_should_hold():
    """With the table that was materialized, a stored value must be its, and a missing one must be missing there."""
    user = SENT[OPEN].entity or ""
    answer = served(SENT[OPEN])
    assert compared(OPEN, answer, {user: dict.fromkeys(EITHER, 1)}).passed
    wrong = {user: {"device_trust_score": 1, "velocity_last_24h": 2}}
    assert faults(compared(OPEN, answer, wrong)) == {
        "velocity_last_24h": "another value",
        "cardholder_age": "taken from online, not from default",
    }


def test_vector_that_was_scored_counts_where_it_is_told():
    """A vector that differs from the values is a fault of the encoding, shown with both numbers."""
    answer = served(SENT[WHOLE])
    vector = MATRIX[WHOLE].copy()
    assert compared(WHOLE, answer._replace(vector=vector.tolist())).passed
    vector[0] = np.nan
    (mismatch,) = compared(WHOLE, answer._replace(vector=vector.tolist())).mismatches
    assert mismatch.lines[0].fault == "another value"
    assert np.isnan(mismatch.lines[0].online)


def test_proof_needs_enough_rows():
    """Fewer rows than wanted are no proof, whatever they show."""
    assert not compared(WHOLE, served(SENT[WHOLE]), wanted=2).passed


def test_only_so_many_mismatches_are_kept():
    """All are counted, the first ones are kept."""
    comparer = RowComparer(card_bundle(), "1", 1)
    for _ in range(KEPT // 20 + 1):
        comparer.compare(MATRIX, SENT, [served(each, 2.0) for each in SENT])
    assert comparer.proof.differing == KEPT + 20
    assert len(comparer.proof.mismatches) == KEPT
