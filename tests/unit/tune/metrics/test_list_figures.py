"""The figures of ordered lists, against scikit-learn, by hand, and over every order of ties."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from data.schema.search import Metric
from tune.metrics.list_figures import ListFigures

_RNG = np.random.default_rng(3)
_LISTS = _RNG.permutation(np.repeat(np.arange(40), _RNG.integers(2, 15, 40)))
_GRADES = _RNG.integers(0, 4, len(_LISTS)).astype(np.float32) * (_RNG.random(len(_LISTS)) < 0.5)
_SCORES = np.round(_RNG.normal(size=len(_LISTS)), 1).astype(np.float32)
"""With ties."""


def one_list(grades, scores, at=10):
    """The figures of a single list."""
    return ListFigures(np.array(grades, np.float32), np.array(scores, np.float32), np.zeros(len(grades), int), at)


@pytest.mark.parametrize("at", [1, 5, 10, 100])
def test_ndcg_is_that_of_scikit_learn(at: int):
    """Of every list, ties included, NDCG is scikit-learn's of the gains 2^grade - 1."""
    found = ListFigures(_GRADES, _SCORES, _LISTS, at)
    theirs = [ndcg_score([2.0 ** _GRADES[each == _LISTS] - 1], [_SCORES[each == _LISTS]], k=at) for each in range(40)]
    assert found.ndcg == pytest.approx(theirs, abs=1e-12)
    assert found.value(Metric.NDCG) == pytest.approx(np.mean(np.array(theirs)[found.has_relevant]))


def test_figures_by_hand():
    """Relevant items at the places 2 and 4 of 5: the precisions are 1/2 and 2/4, the first is at 2."""
    found = one_list([0, 2, 0, 1, 0], [5, 4, 3, 2, 1])
    assert found.all()["map"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert found.all()["mrr"] == pytest.approx(1 / 2)
    best = 3 / np.log2(2) + 1 / np.log2(3)
    assert found.all()["ndcg"] == pytest.approx((3 / np.log2(3) + 1 / np.log2(5)) / best)
    assert one_list([0, 2, 0, 1, 0], [5, 4, 3, 2, 1], at=2).all()["map"] == pytest.approx(1 / 2 / 2)


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_ties_count_by_the_mean_over_their_orders(at: int):
    """Each figure of scores with ties is the mean of those of all scores that break them."""
    grades, scores = np.array([0, 1, 0, 3, 1]), np.array([2.0, 1, 1, 1, 1])
    breaks = [one_list(grades, scores + 0.01 * np.array(order), at).all() for order in permutations(range(5))]
    found = one_list(grades, scores, at).all()
    for name, value in found.items():
        assert value == pytest.approx(np.mean([each[name] for each in breaks]))


def test_order_of_the_rows_decides_nothing():
    """The same rows in another order have the same figures."""
    order = _RNG.permutation(len(_LISTS))
    moved = ListFigures(_GRADES[order], _SCORES[order], _LISTS[order], 5).all()
    assert moved == pytest.approx(ListFigures(_GRADES, _SCORES, _LISTS, 5).all(), abs=1e-12)


def test_lists_without_a_relevant_item_are_left_out():
    """Such a list changes no figure; and where there is no other the figures are NaN."""
    both = ListFigures(np.array([1.0, 0, 0, 0]), np.array([1.0, 2, 3, 4]), np.array([0, 0, 1, 1]), 10)
    assert both.all() == one_list([1, 0], [1, 2]).all()
    assert np.isnan(list(one_list([0, 0], [1, 2]).all().values())).all()


def test_drawn_lists_count_as_often_as_they_are_drawn():
    """A resample of lists has the figures of a table in which their rows occur so often."""
    times = _RNG.integers(0, 3, 40)
    found = ListFigures(_GRADES, _SCORES, _LISTS, 5)
    written = [(np.flatnonzero(each == _LISTS), copy) for each in range(40) for copy in range(times[each])]
    rows = np.concatenate([own for own, _ in written])
    numbers = np.repeat(np.arange(len(written)), [len(own) for own, _ in written])
    repeated = ListFigures(_GRADES[rows], _SCORES[rows], numbers, 5)
    assert found.all(times[_LISTS].astype(np.float64)) == pytest.approx(repeated.all())


def test_excess_of_chance_is_standard_under_shuffled_grades():
    """Grades shuffled within their lists give a mean of 0 and a standard deviation of 1; equal scores give 0."""
    found = []
    for _ in range(1000):
        order = np.lexsort((_RNG.random(len(_LISTS)), _LISTS))
        grades = np.empty_like(_GRADES)
        grades[np.argsort(_LISTS, kind="stable")] = _GRADES[order]
        found.append(ListFigures(grades, _SCORES, _LISTS, 5).excess_of_chance())
    assert np.mean(found) == pytest.approx(0, abs=0.1)
    assert np.std(found) == pytest.approx(1, abs=0.08)
    assert ListFigures(_GRADES, np.zeros(len(_LISTS)), _LISTS, 5).excess_of_chance() == 0
    assert ListFigures(_GRADES, _GRADES, _LISTS, 5).excess_of_chance() > 8
