"""The ONNX model against the booster it came from."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnxmltools.convert import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from data.errors import BundleError
from data.transform.encoding import FLOAT32_MAX
from tune.training.onnx_export import OnnxScorer, adversarial_rows, mean_margins, to_onnx, verify_parity
from tune.training.xgboost_trees import Split, read_bag, splits_of

WIDTH = 5


def trained(rounds=30, label=None, **params):
    """A booster on rows with missing values, and the rows."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(1500, WIDTH)).astype(np.float32)
    x[:, 1] = rng.integers(0, 6, 1500)
    x[rng.random(x.shape) < 0.15] = np.nan
    y = (np.nan_to_num(x[:, 0]) + (x[:, 1] == 2) + rng.normal(size=1500) > 2) if label is None else label
    settings_ = {"objective": "binary:logistic", "tree_method": "hist", "nthread": 1, "verbosity": 0, **params}
    return xgboost.train(settings_, xgboost.DMatrix(x, np.asarray(y, np.uint8)), rounds), x


BOOSTER, ROWS = trained()
SCORER = OnnxScorer(to_onnx([BOOSTER]))


@settings(deadline=None)
@given(arrays(np.float32, (4, WIDTH), elements=st.floats(width=32, allow_infinity=False)))
def test_any_row_scores_as_the_booster_does(rows):
    """NaN, zeros, tiny and huge numbers: ONNX and booster agree to 1e-6."""
    assert SCORER.scores(rows)[:, 0] == pytest.approx(BOOSTER.inplace_predict(rows), abs=1e-6)


@pytest.mark.parametrize(
    "params", [{}, {"base_score": 0.01}, {"max_depth": 1}, {"num_parallel_tree": 3}, {"grow_policy": "lossguide"}]
)
def test_parity_holds_for_every_kind_of_tree(params):
    """Fitted and given base scores, stumps, forests and leaf-wise trees are exported exactly."""
    booster, x = trained(**params)
    assert verify_parity([booster], to_onnx([booster]), x) < 1e-6


def test_sliced_booster_is_exported_to_its_last_round():
    """A booster cut to its best round gives an ONNX model of as many rounds."""
    cut = BOOSTER[:4]
    assert OnnxScorer(to_onnx([cut])).scores(ROWS)[:, 0] == pytest.approx(cut.inplace_predict(ROWS), abs=1e-6)


def test_output_is_one_probability_a_row():
    """The scorer gives float32 of shape (n,), also for one row and for none."""
    for count in (0, 1, 7):
        found = SCORER.scores(ROWS[:count])[:, 0]
        assert (found.shape, found.dtype) == ((count,), np.float32)


def test_tree_without_splits_keeps_the_base_score():
    """Labels that nothing explains make trees of one leaf: ours exports them right, onnxmltools does not.

    This is why the project has a converter of its own.
    """
    booster, x = trained(rounds=1, min_child_weight=1e9, reg_lambda=1e9, base_score=0.2)
    assert verify_parity([booster], to_onnx([booster]), x) < 1e-6
    model = xgboost.XGBClassifier()
    model.load_model(booster.save_raw("ubj"))
    theirs = convert_xgboost(model, initial_types=[("features", FloatTensorType([None, WIDTH]))])
    margin = [a.floats[0] for n in theirs.graph.node for a in n.attribute if a.name == "base_values"]
    assert margin == pytest.approx([0.2], abs=1e-3), "onnxmltools writes the probability where the margin belongs"


def test_difference_is_refused_with_its_size():
    """A model of other rounds is not the booster's: refused, with the largest difference and a row."""
    with pytest.raises(BundleError, match=r"differ by 0\.\d+ in a score \(allowed: 1e-05\)"):
        verify_parity([BOOSTER], to_onnx([BOOSTER[:10]]), ROWS)


def test_adversarial_rows_straddle_every_threshold():
    """Each split's threshold and both its float neighbours are among the rows, and so are the extremes."""
    rows = adversarial_rows([BOOSTER], ROWS)
    first = BOOSTER.trees_to_dataframe().query("Feature != 'Leaf'").iloc[0]
    column, threshold = int(first["Feature"][1:]), np.float32(first["Split"])
    for value in (threshold, np.nextafter(threshold, np.float32(9e9)), np.nextafter(threshold, np.float32(-9e9))):
        assert value in rows[:, column]
    assert np.isnan(rows).all(axis=1).any()
    assert {np.float32(FLOAT32_MAX), np.float32(-FLOAT32_MAX)} <= set(rows[:, 0])


def test_other_objectives_are_refused():
    """Only objectives whose predictions are known are exported."""
    booster, _ = trained(rounds=2, objective="reg:logistic")
    with pytest.raises(BundleError, match="reg:logistic"):
        to_onnx([booster])


WORDS = (3, 12, 60, 1000)
"""Sizes of the vocabularies of `categories`: the first is split one against the rest, the others by sets."""
TYPES = ["q", "q", *("c" for _ in WORDS)]


def categories(rows, seed, words=WORDS):
    """Two numbers and a code of each vocabulary, missing here and there, and labels that all of them explain."""
    rng = np.random.default_rng(seed)
    codes = [rng.integers(0, size, rows) for size in words]
    effects = [np.random.default_rng(size).normal(size=size) for size in words]
    x = np.column_stack([rng.normal(size=(rows, 2)), *codes]).astype(np.float32)
    score = x[:, 0] + sum(effect[code] for effect, code in zip(effects, codes, strict=True))
    x[rng.random(x.shape) < 0.1] = np.nan
    return x, (score + rng.normal(size=rows) > 1).astype(np.uint8)


def native(rounds=12, seed=0, rows=3000, **params):
    """A booster on `categories`; every tenth code of the vocabularies is in no row that it learned from."""
    x, y = categories(rows, seed)
    for column in range(3, x.shape[1]):
        x[x[:, column] % 10 == 9, column] = np.nan
    matrix = xgboost.DMatrix(x, y, feature_types=TYPES, enable_categorical=True)
    given = {"objective": "binary:logistic", "nthread": 1, "verbosity": 0, "max_depth": 5, "seed": seed, **params}
    return xgboost.train(given, matrix, rounds)


def unseen(rows=3000, seed=100):
    """Fresh rows of `categories`: all codes, also those that no booster knows, and some beyond every vocabulary."""
    x, _ = categories(rows, seed)
    for column, size in enumerate(WORDS, start=2):
        x[column * 50 : column * 50 + 50, column] = size + np.arange(50)
    return x


NATIVE, FRESH = native(), unseen()


def sizes(boosters):
    """The sizes of the sets of all splits by category."""
    return {len(split.members) for tree in read_bag(boosters).trees for split in splits_of(tree) if split.members}


def ensemble(model):
    """The attributes of the trees' node, by name."""
    (node,) = [node for node in onnx.load_from_string(model).graph.node if node.op_type == "TreeEnsemble"]
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


@pytest.mark.parametrize("seed", range(6))
def test_bags_with_categories_score_as_their_boosters_do(seed):
    """Whatever the data, a bag of trees of numbers and categories answers with the mean of its boosters' margins."""
    rng = np.random.default_rng(seed)
    shape = {"max_depth": int(rng.integers(1, 8)), "learning_rate": float(rng.uniform(0.05, 1)), "subsample": 0.8}
    shape |= {"max_cat_to_onehot": int(rng.integers(1, 80)), "max_cat_threshold": int(rng.integers(2, 1200))}
    bag = [native(int(rng.integers(1, 15)), 10 * seed + at, **shape) for at in range(int(rng.integers(1, 6)))]
    margins = np.mean([each.inplace_predict(FRESH, predict_type="margin").astype(float) for each in bag], axis=0)
    model = to_onnx(bag)
    assert OnnxScorer(model).scores(FRESH)[:, 0] == pytest.approx(1 / (1 + np.exp(-margins)), abs=1e-6)
    assert verify_parity(bag, model, FRESH) < 1e-6


@pytest.mark.parametrize(("onehot", "largest"), [(2000, 1), (1, 1000)])
def test_one_against_the_rest_and_sets_are_both_exported(onehot, largest):
    """Splits of one category, and of sets that hold most of a thousand, give what XGBoost gives for every code."""
    booster = native(max_cat_to_onehot=onehot)
    found = sizes([booster])
    assert found == {1} if largest == 1 else max(found) > 500
    rows = np.tile(FRESH[:1], (1100, 1))
    for column in range(2, 2 + len(WORDS)):
        rows[:, column] = np.arange(1100)
        expected = booster.inplace_predict(rows)
        assert OnnxScorer(to_onnx([booster])).scores(rows)[:, 0] == pytest.approx(expected, abs=1e-6)
        rows[:, column] = np.nan


def test_one_tree_mixes_both_kinds_of_split():
    """A tree that splits by numbers, single categories and sets sends rows, NaN included, as XGBoost does."""
    booster = native(1, max_depth=7)
    (tree,) = read_bag([booster]).trees
    splits = splits_of(tree)
    assert {bool(split.members) for split in splits} == {True, False}
    assert {split.missing_left for split in splits if split.members} == {True, False}
    assert 1 in sizes([booster])
    assert verify_parity([booster], to_onnx([booster]), FRESH) < 1e-6


def test_plain_arrays_are_scored_by_category():
    """XGBoost scores a plain float array as a matrix with feature types, so that parity is with the real thing."""
    typed = xgboost.DMatrix(FRESH, feature_types=TYPES, enable_categorical=True)
    assert (mean_margins([NATIVE], FRESH) == NATIVE.predict(typed, output_margin=True)).all()
    numbers = FRESH.copy()
    numbers[:, 2:] += 1
    assert (mean_margins([NATIVE], FRESH) != mean_margins([NATIVE], numbers)).mean() > 0.9


def test_wrong_sets_are_found():
    """A model whose sets lack their last code, or go by another default, differs on adversarial rows alone."""
    model = onnx.load_from_string(to_onnx([NATIVE]))
    attributes = {each.name: each for each in model.graph.node[0].attribute}
    values = onnx.numpy_helper.to_array(attributes["membership_values"].t).copy()
    values[np.flatnonzero(np.isnan(values)) - 1] += 2000
    attributes["membership_values"].t.CopyFrom(onnx.numpy_helper.from_array(values))
    with pytest.raises(BundleError, match="differ by"):
        verify_parity([NATIVE], model.SerializeToString(), FRESH[:1])
    model = onnx.load_from_string(to_onnx([NATIVE]))
    (missing,) = [each for each in model.graph.node[0].attribute if each.name == "nodes_missing_value_tracks_true"]
    missing.ints[:] = [1 - value for value in missing.ints]
    with pytest.raises(BundleError, match="differ by"):
        verify_parity([NATIVE], model.SerializeToString(), FRESH[:1])


def test_adversarial_rows_hold_codes_in_and_out_of_each_set():
    """The first and last code of a set, one out of it, one beyond, none: and no category is negative or fractional."""
    rows = adversarial_rows([NATIVE], FRESH[:20])
    for tree in read_bag([NATIVE]).trees:
        for split in splits_of(tree):
            column = rows[:, split.feature]
            if split.members:
                outside = min(set(range(1001)) - set(split.members))
                wanted = {split.members[0], split.members[-1], split.members[-1] + 1, outside}
                assert wanted <= set(column[~np.isnan(column)].astype(int))
                assert np.isnan(column).any()
    codes = rows[:, 2:][~np.isnan(rows[:, 2:])]
    assert ((codes >= 0) & (codes == np.round(codes)) & ~np.signbit(codes)).all()
    beyond = [
        max(split.members) for tree in read_bag([NATIVE]).trees for split in splits_of(tree) if split.feature == 5
    ]
    assert np.nanmax(rows[:, 5]) > max([*beyond, np.nanmax(FRESH[:20, 5])])


def test_adversarial_rows_are_bounded():
    """A bag of more splits than rows are allowed is tried on splits all over, not on those of its first features."""
    bag = [native(60, seed, rows=3000, max_depth=8, learning_rate=0.05) for seed in range(3)]
    rows = adversarial_rows(bag, FRESH)
    assert 5000 < len(rows) <= 20_100
    assert len(np.unique(rows[:, 5])) > 100


def test_roots_and_leaves_are_never_taken_for_each_other():
    """No root's branches have equal numbers, by which ONNX Runtime 1.23 knows a tree of one leaf, and misreads it."""
    bag = [native(30, seed, max_depth=depth, gamma=2) for seed, depth in enumerate((1, 2, 3, 6))]
    found = ensemble(to_onnx([*bag, *bag]))
    for root in found["tree_roots"]:
        assert found["nodes_truenodeids"][root] != found["nodes_falsenodeids"][root]


def test_trees_of_one_leaf_anywhere_in_a_bag():
    """A first tree that is a single leaf of zero, and others of one leaf, keep their weights and the base score."""
    x, y = categories(500, 1)
    matrix = xgboost.DMatrix(x, y, feature_types=TYPES, enable_categorical=True)
    given = {"objective": "binary:logistic", "nthread": 1, "verbosity": 0, "base_score": 0.2}
    zero = xgboost.train({**given, "min_child_weight": 1e9, "reg_lambda": 1e9}, matrix, 2)
    single = xgboost.train({**given, "max_depth": 3, "gamma": 1e9}, matrix, 3)
    assert all(isinstance(tree, float) for tree in read_bag([zero, single]).trees)
    assert not any(isinstance(tree, Split) for tree in read_bag([single]).trees)
    for bag in ([zero], [single], [zero, single], [zero, NATIVE, single]):
        assert verify_parity(bag, to_onnx(bag), FRESH) < 1e-6


def test_bag_of_one_booster_twice_is_that_booster():
    """Weights are divided and the base averaged: the same booster five times over changes no probability."""
    one, five = (OnnxScorer(to_onnx([BOOSTER] * count)).scores(ROWS)[:, 0] for count in (1, 5))
    assert five == pytest.approx(one, abs=1e-6)


def test_bag_takes_boosters_of_other_base_scores():
    """The base scores' log-odds are averaged, not the probabilities."""
    bag = [trained(rounds=3, base_score=base)[0] for base in (0.01, 0.6)]
    assert verify_parity(bag, to_onnx(bag), ROWS) < 1e-6


def test_boosters_that_are_no_bag_are_refused():
    """No boosters, other widths, other categories, and another objective anywhere in the bag."""
    with pytest.raises(BundleError, match="at least one booster"):
        to_onnx([])
    with pytest.raises(BundleError, match=r"booster 1 takes 6 with categories at \[2, 3, 4, 5\], booster 0 takes 5"):
        to_onnx([BOOSTER, NATIVE])
    numbers = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(*categories(300, 3)), 2)
    with pytest.raises(BundleError, match=r"booster 1 takes 6 with categories at \[\]"):
        to_onnx([NATIVE, numbers])
    other, _ = trained(rounds=2, objective="reg:squarederror")
    with pytest.raises(BundleError, match="booster 1 has reg:squarederror, booster 0 binary:logistic"):
        to_onnx([BOOSTER, other])


def test_models_without_categories_carry_no_sets():
    """The optional attributes are there only where needed, and a bag is one node of trees."""
    found = ensemble(to_onnx([BOOSTER, BOOSTER]))
    assert not {"membership_values", "nodes_hitrates"} & set(found)
    assert len(found["tree_roots"]) == 1 + 2 * 30
