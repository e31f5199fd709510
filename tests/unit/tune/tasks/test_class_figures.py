"""Figures of several classes against scikit-learn, and what a model of shuffled labels comes to."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

from data.schema.search import Metric
from tune.metrics.class_figures import ClassFigures, excess_of_chance

CLASSES = 4


def drawn(rows: int = 400, seed: int = 0):
    """Codes and probabilities that know something of them; the last class is rare."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, rows, p=[0.5, 0.3, 0.17, 0.03]).astype(np.uint8)
    margins = rng.normal(size=(rows, CLASSES)) + 1.5 * (labels[:, None] == np.arange(CLASSES))
    powers = np.exp(margins)
    return labels, (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def test_figures_equal_scikit_learn():
    """Accuracy, macro F1, log loss and the mean one-against-rest AUC are scikit-learn's."""
    labels, scores = drawn()
    found, answers = ClassFigures(labels, scores).all(), scores.argmax(axis=1)
    exact = scores.astype(np.float64) / scores.astype(np.float64).sum(axis=1, keepdims=True)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, answers))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, answers, average="macro"))
    assert found["log_loss"] == pytest.approx(log_loss(labels, exact), abs=1e-5)
    assert found["auc_ovr"] == pytest.approx(roc_auc_score(labels, exact, multi_class="ovr"), abs=1e-6)
    assert found["neg_log_loss"] == -found["log_loss"]


@pytest.mark.parametrize("metric", [Metric.NEG_LOG_LOSS, Metric.MACRO_F1, Metric.ACCURACY])
def test_resample_counts_equal_repeated_rows(metric):
    """A metric of counted rows equals that of the rows written out that often."""
    labels, scores = drawn(60)
    counts = np.random.default_rng(1).integers(0, 4, 60)
    written = np.repeat(np.arange(60), counts)
    expected = ClassFigures(labels[written], scores[written]).value(metric)
    assert ClassFigures(labels, scores).value(metric, counts.astype(float)) == pytest.approx(expected)


def test_class_that_no_row_has_does_not_count():
    """A class without rows and answers is left out of the mean F1, as scikit-learn leaves it out."""
    labels, scores = drawn(200)
    scores[:, 3] = 0
    kept = labels != 3
    found = ClassFigures(labels[kept], scores[kept]).value(Metric.MACRO_F1)
    assert found == pytest.approx(f1_score(labels[kept], scores[kept].argmax(axis=1), average="macro"))


def test_excess_of_chance_is_a_standard_normal_for_shuffled_labels():
    """Over many shuffles its mean is 0 and its spread 1; a model that knows the labels is far above."""
    labels, scores = drawn(300)
    rng = np.random.default_rng(2)
    shuffled = [excess_of_chance(rng.permutation(labels), scores) for _ in range(2000)]
    assert abs(np.mean(shuffled)) < 0.1
    assert 0.93 < np.std(shuffled) < 1.07
    assert excess_of_chance(labels, scores) > 10
    assert excess_of_chance(labels, np.full_like(scores, 0.25)) == 0
