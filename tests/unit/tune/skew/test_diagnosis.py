"""Naming a fault: each kind is told from the mismatches that it makes."""

from __future__ import annotations

import numpy as np

from tests.support.training.models import card_bundle, card_table
from tune.skew.diagnosis import FaultKind, SkewFault, diagnose
from tune.skew.replay_requests import ReplayRequests
from tune.skew.row_comparison import RowComparer, ServedRow, UsedValue
from tune.training.onnx_export import OnnxScorer

MATRIX, SENT = ReplayRequests(card_table(rows=200, seed=5), card_bundle().manifest).slice(0, 200)
NAMES = card_bundle().manifest.schema_.names
SCORER = OnnxScorer(card_bundle().onnx)


def findings(
    vectors: np.ndarray | None = None, scores: np.ndarray | None = None, told: bool = False, **used: UsedValue
):
    """What is found when these vectors are scored, or these scores answered, and the values are as sent or `used`."""
    vectors = MATRIX if vectors is None else vectors
    scores = SCORER.scores(vectors) if scores is None else scores
    comparer = RowComparer(card_bundle(), "1", 1)
    answers = []
    for sent, score, vector in zip(SENT, scores.tolist(), vectors.tolist(), strict=True):
        body = sent.body or {}
        features = {
            name: UsedValue(body[name], "request") if name in body else UsedValue(1, "online") for name in NAMES
        }
        answers.append(ServedRow("r", score, features | used, vector if told else None))
    whole = [at for at, sent in enumerate(SENT) if set(NAMES) <= set(sent.body or {})]
    comparer.compare(MATRIX[whole], [SENT[at] for at in whole], [answers[at] for at in whole])
    return diagnose(comparer.proof.mismatches, card_bundle())


def without_zeros(columns: list[int]) -> np.ndarray:
    """The vectors with zeros of these columns missing."""
    vectors = MATRIX.copy()
    vectors[:, columns] = np.where(vectors[:, columns] == 0, np.nan, vectors[:, columns])
    return vectors


def test_nothing_is_found_where_nothing_differs():
    """No mismatch, no finding."""
    assert findings() == []


def test_one_zero_feature_is_named_alone():
    """A zero that one feature loses behind the values is told with the feature's name."""
    (finding,) = findings(without_zeros([NAMES.index("foreign_transaction")]))
    assert (finding.kind, finding.features) == (FaultKind.ZERO, ("foreign_transaction",))
    assert "= 0 is scored as missing" in finding.example


def test_shifted_codes_are_named_with_the_code_that_is_used():
    """Codes counted from one instead of zero are another vocabulary."""
    vectors = MATRIX.copy()
    vectors[:, NAMES.index("merchant_category")] += 1
    (finding, *others) = findings(vectors)
    assert (finding.kind, finding.features) == (FaultKind.VOCABULARY, ("merchant_category",))
    assert all(other.rows < finding.rows for other in others)


def test_vectors_that_are_told_need_no_guess():
    """Where the vector is told, zeros and codes are read off it."""
    (zero,) = findings(without_zeros([NAMES.index("transaction_hour")]), told=True)
    assert (zero.kind, zero.features) == (FaultKind.ZERO, ("transaction_hour",))
    vectors = MATRIX.copy()
    vectors[:, NAMES.index("merchant_category")] = 0
    (codes,) = findings(vectors, told=True)
    assert codes.kind is FaultKind.VOCABULARY
    assert "is scored as 0, not" in codes.example


def test_lost_and_changed_values_are_named():
    """A value that the default replaces is dropped; one that is replaced by another is told as such."""
    (dropped,) = findings(amount=UsedValue(None, "default"), scores=SCORER.scores(_missing_amount()))
    assert (dropped.kind, dropped.features) == (FaultKind.DROPPED, ("amount",))
    (changed, *_) = findings(amount=UsedValue(3.5, "request"))
    assert changed.kind is FaultKind.OTHER_VALUE


def test_another_model_stays_unexplained():
    """Scores that no rule gives are said to be of another model or encoding, with both scores of a row."""
    (finding,) = findings(scores=1 - SCORER.scores(MATRIX))
    assert isinstance(finding, SkewFault)
    assert (finding.kind, finding.features) == (FaultKind.UNEXPLAINED, ())
    assert "by the bundle" in finding.example


def _missing_amount() -> np.ndarray:
    vectors = MATRIX.copy()
    vectors[:, NAMES.index("amount")] = np.nan
    return vectors
