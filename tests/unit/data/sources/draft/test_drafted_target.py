"""The kind of target that a draft finds in the label column."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError
from data.schema.use_case import parse_use_case
from data.sources.draft.column_profile import Column
from data.sources.draft.drafted_target import draft_target
from data.sources.draft.use_case_draft import draft
from data.sources.parquet import open_source
from data.validation.column_types import check_source

_RNG = np.random.default_rng(0)
_AMOUNTS = np.where(np.arange(300) % 5 < 3, 0.0, _RNG.lognormal(3, 1, 300))


def target(values, kind=None):
    """What a label column with these values is to a draft."""
    return draft_target(Column("y", pa.chunked_array([pa.array(values)])), kind)


def task_of(values, kind=None):
    """The line of the draft that declares the kind."""
    return target(values, kind).task or ""


@pytest.mark.parametrize("values", [[0, 1] * 30, [False, True] * 30, [1.0, 0.0] * 30, [1.0, -0.0, 0.0] * 20])
def test_label_of_0_and_1_needs_no_task(values):
    """Labels 0 and 1, in numbers or as truth values, are what a use case predicts that says nothing."""
    found = target(values)
    assert found.task is None
    assert (found.classes, found.metric, set(found.label)) == (2, "auc", {0.0, 1.0})
    assert found.remark == f"1 in {sum(map(bool, values))} rows, {100 * np.mean(values):.3f} %"


@pytest.mark.parametrize(
    ("values", "positive", "negative"),
    [
        (["no", "yes", "yes"], '"yes"', '"no"'),
        (["bad", "good", "bad"], '"bad"', '"good"'),
        (["red", "blue", "red"], '"blue"', '"red"'),
        (["blue", "red", "blue"], '"red"', '"blue"'),
        (["0", "1", "1"], '"1"', '"0"'),
        ([1, 2, 1], "2", "1"),
        ([1, 2, 2], "1", "2"),
        ([-1, 1, 1], "1", "-1"),
        ([0, 2, 2], "2", "0"),
        ([Decimal("1"), Decimal("2"), Decimal("1")], "2", "1"),
    ],
)
def test_two_other_values_are_declared(values, positive, negative):
    """Of two labels the positive one is known by what it says, else it is the rarer one; how to swap them is told."""
    found = target(values * 20)
    assert found.task == (
        f"task = {{ positive = {positive}, negative = {negative} }}  # if {negative} is to be predicted: swap the two"
    )
    assert found.remark.startswith(f"{positive} in {int(found.label.sum())} rows")


def test_rare_positive_label_is_searched_by_precision_and_recall():
    """Below a tenth of positive rows the metric is PR-AUC, whatever the labels are called."""
    assert target(["yes"] + ["no"] * 19).metric == "pr_auc"


def test_words_are_classes_in_the_order_of_the_alphabet():
    """Three words or more are classes, their shares beside them; the figures that suit them can be asked for."""
    found = target(["b", "c", "a", "b"] * 40)
    assert found.task == 'task = { kind = "multiclass", classes = ["a", "b", "c"] }  # in the order of the answers'
    assert found.remark == '"b" in 50.0 %, "a" in 25.0 %, "c" in 25.0 %'
    assert (found.classes, found.metric, found.label[:4].tolist()) == (3, "neg_log_loss", [1, 2, 0, 1])
    assert found.gates == "min_accuracy (the most frequent class alone has 0.500), min_macro_f1, max_ece"


def test_rare_class_is_told():
    """A class of few rows is named in the draft."""
    assert task_of(["a", "b"] * 50 + ["c"] * 3).endswith('few rows: 3 of "c"; join classes that are rare')


@pytest.mark.parametrize("values", [[1, 2, 3], [1.0, 2.0, 3.0], [Decimal("1"), Decimal("2"), Decimal("3")]])
def test_few_whole_numbers_are_classes_unless_each_has_few_rows(values):
    """Whole numbers of few different values with enough rows are classes; the draft says how they become numbers."""
    found = task_of(values * 20)
    assert found.startswith('task = { kind = "multiclass", classes = [1, 2, 3] }')
    assert 'if they are amounts or counts: task = { kind = "regression" }' in found
    assert target(values * 19).classes is None


@pytest.mark.parametrize(
    ("values", "declared", "words"),
    [
        (np.arange(60) - 7, "", "less: objective = "),
        (np.arange(60), "", 'if they are counts: objective = "poisson"'),
        (_RNG.normal(size=60), "", 'objective = "absolute"'),
        (_AMOUNTS, ', objective = "tweedie"', '60.0 % are 0, the others skewed amounts; else: objective = "squared"'),
        (np.where(_AMOUNTS, 5 + _RNG.random(300), 0), "", 'objective = "absolute"'),
    ],
)
def test_other_numbers_are_predicted(values, declared, words):
    """Other numbers are a regression by squares; amounts of which many are 0 and the rest skewed one by Tweedie."""
    found = target(values)
    assert task_of(values).startswith(f'task = {{ kind = "regression"{declared} }}  # ')
    assert words in task_of(values)
    assert found.metric == ("d2_tweedie" if declared else "r2")
    assert f"max_rmse (the mean alone has {values.std():.4g})" in (found.gates or "")


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        (["1.5", "2", "n/a", "7"] * 30, None, r"holds numbers and words \('n/a'\) alike: correct the words"),
        (
            [f"{i}.5" for i in range(60)],
            None,
            "holds 60 different numbers written as text: convert the column",
        ),
        (["2024-01-01", "2024-01-02", "2024-01-03"] * 9, None, "holds times: write 1 where it tells"),
        ([f"w{i}" for i in range(101)] * 9, None, "holds 101 different words in 909 rows: too many for classes"),
        (["a", "b", "c", "d"], None, "holds 4 different words in 4 rows: too many"),
        ([1.0, 2.0, None], None, "label 'y' is missing in 1 rows: drop those rows"),
        ([3, 3], None, r"has one class only \(3\)"),
        ([1, 2, 3] * 9, "binary", r"holds 3 different values \(1, 2, 3\), and a binary one has two: write 1 for what"),
        ([1, 2] * 9, "multiclass", "and one of several classes has 3 to 100"),
        (["a", "b"] * 9, "regression", "holds string: convert the column to numbers, or declare"),
        ([1.5, np.inf, 1e300], "regression", "is not a finite number in 2 rows: drop those rows"),
    ],
)
def test_label_that_is_none_is_refused_with_a_way_out(values, kind, words):
    """Numbers among words, numbers and times as text, too many words, gaps, or another kind than asked for."""
    with pytest.raises(DataError, match=words):
        target(values, kind)


@pytest.mark.parametrize(
    ("values", "kind", "task"),
    [
        ([1, 2, 3] * 30, "regression", 'kind = "regression"'),
        ([0.5, 1.5, 2.5], "multiclass", "classes = [0.5, 1.5, 2.5]"),
        (["1", "2", "n/a"] * 9, "multiclass", 'classes = ["1", "2", "n/a"]'),
        ([1, 2, 1], "regression", 'kind = "regression"'),
    ],
)
def test_kind_that_is_asked_for_overrules_what_is_found(values, kind, task):
    """The kind can be said where the values show another one."""
    assert task in task_of(values, kind)


@pytest.mark.parametrize(
    "labels",
    [
        ["yes", "no"] * 150,
        ['say "hi"', "a # b", "c\nd"] * 100,
        [1, 5, 9] * 100,
        pa.array(["a", "b", "c"] * 100).dictionary_encode(),
        _AMOUNTS,
        np.arange(300) % 97 / 7,
    ],
    ids=["two", "words", "numbers", "dictionary", "amounts", "fractions"],
)
def test_draft_of_any_kind_is_read_and_fits_its_table(tmp_path, labels):
    """What is drafted for a label of any kind is a use case that the table passes, columns and all."""
    file = tmp_path / "t.parquet"
    noise = np.random.default_rng(1).integers(0, 9, 300)
    pq.write_table(pa.table({"y": labels, "code": noise, "word": [f"w{i % 4}" for i in noise], "x": noise / 7}), file)
    use_case = parse_use_case(draft(file, "y"), "draft")
    assert use_case.features.keys() == {"code", "word", "x"}
    check_source(open_source(file), use_case)
