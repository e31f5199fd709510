"""Kinds of target as a use case declares them."""

from __future__ import annotations

import pytest

from data.errors import ConfigError
from data.schema.use_case import SHIPPED, UseCase, load_use_case, parse_use_case


def declared(*lines):
    """The use case with these lines at the top."""
    text = "\n".join(['name = "t"', 'label = "y"', *lines, "[features]", 'x = { type = "number" }'])
    return parse_use_case(text, "t.toml")


@pytest.mark.parametrize(
    ("task", "labels", "expected", "fault"),
    [
        ("{}", (0, 1), "0 and 1, or false and true", "label is neither 0 nor 1"),
        ('{ positive = "yes", negative = "no" }', ("no", "yes"), "'no', 'yes'", "label is none of 'no', 'yes'"),
        ('{ kind = "multiclass", classes = [3, 1, 2] }', (3, 1, 2), "3, 1, 2", "label is none of 3, 1, 2"),
        ('{ kind = "regression" }', None, "finite numbers", "label is not a finite number"),
        (
            '{ kind = "regression", objective = "poisson" }',
            None,
            "finite numbers from 0 on",
            "label is not a finite number from 0 on",
        ),
    ],
)
def test_kind_says_what_its_labels_are(task, labels, expected, fault):
    """Labels are in the order of their codes, and messages have words for them and for what is none."""
    found = declared(f"task = {task}").task
    assert (found.labels, found.expected, found.fault) == (labels, expected, fault)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            ['task = { kind = "rankng" }'],
            r"task \(line 3\): kind must be 'binary', 'multiclass', 'regression' or 'ranking'",
        ),
        (['task = { positive = "yes" }'], "give both positive and negative"),
        (["task = { positive = 1, negative = 1 }"], "positive and negative are both 1"),
        (['task = { positive = "1", negative = 0 }'], "must be of one type"),
        (['task = { positive = "x", negative = "" }'], "neither '' nor NaN is a label"),
        (['task = { kind = "multiclass", classes = ["a", "b"] }'], "classes"),
        (['task = { kind = "multiclass", classes = ["a", "b", "a"] }'], "classes names 'a' twice"),
        (['task = { kind = "multiclass", classes = [0.0, 1.0, nan] }'], "neither '' nor NaN is a label"),
        (['task = { kind = "regression", quantil = 0.5 }'], r"task.quantil \(line 3\): .* did you mean 'quantile'"),
        (['task = { kind = "regression" }', 'search = { metric = "auc" }'], "'auc' is not of a regression target"),
        (['task = { kind = "regression" }', "gates = { min_auc = 0.9 }"], "gates.min_auc: a regression target has no"),
        (["gates = { min_r2 = 0.9 }"], "gates.min_r2: a binary target has no such figure; known: max_ece, min_auc"),
        (['task = { kind = "regression" }', 'calibration = "platt"'], "'platt' is not for a regression target"),
        (['task = { kind = "regression" }', 'decision = { metric = "balanced_accuracy" }'], "has no threshold"),
    ],
)
def test_what_does_not_fit_the_kind_is_refused(lines, words):
    """Labels that are none, and a metric, a limit, a calibration or a decision of another kind, are refused."""
    with pytest.raises(ConfigError, match=words):
        declared(*lines)


@pytest.mark.parametrize("name", SHIPPED)
def test_use_case_that_is_written_out_whole_is_read_again(name):
    """A use case of any kind is the same after it was dumped with every key, of other kinds too."""
    use_case = load_use_case(name)
    assert UseCase.model_validate(use_case.model_dump()) == use_case
