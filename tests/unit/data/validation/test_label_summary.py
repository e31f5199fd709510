"""Labels of every kind of target: which values are none, and what the report says of the others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.distributed.pieces import each_block_here, parquet_pieces
from data.errors import DataError
from data.schema.use_case import parse_use_case
from data.sources.parquet import open_source
from data.validation import report
from data.validation.column_types import check_source
from data.validation.validation import checker, merge

_CHURN = 'task = { positive = "yes", negative = "no" }'
_TEAMS = 'task = { kind = "multiclass", classes = ["sales", "billing", "other"] }'
_STARS = 'task = { kind = "multiclass", classes = [1, 2, 3] }'
_MINUTES = 'task = { kind = "regression" }'
_CLAIMS = 'task = { kind = "regression", objective = "tweedie" }'


def validated(folder, task, *parts):
    """The validation of a table in as many files as there are lists of labels."""
    use_case = parse_use_case(f'name = "t"\nlabel = "y"\n{task}\n[features]\nx = {{ type = "number" }}', "t.toml")
    for number, labels in enumerate(parts):
        pq.write_table(pa.table({"y": labels, "x": np.arange(len(labels)) * 1.0}), folder / f"{number}.parquet")
    source = open_source(folder)
    check_source(source, use_case)
    found = each_block_here(parquet_pieces(source, use_case.columns), checker(use_case, 0))
    return merge(source, use_case, list(found))


def faults(done):
    """What is wrong by row: the reasons with their row numbers."""
    return {reason: hits.rows.tolist() for (column, reason), hits in done.hits.items() if column == "y"}


@pytest.mark.parametrize(
    ("task", "labels", "found"),
    [
        (_CHURN, ["yes", "no", "Yes", ""], {"label is none of 'no', 'yes'": [2], "missing": [3]}),
        (_TEAMS, ["sales", None, "billing", "legal", "other"], {"missing": [1], _TEAMS: [3]}),
        (_STARS, [1, 2, 3, 4, 2], {"label is none of 1, 2, 3": [3]}),
        (_MINUTES, [1.5, -2.0, np.inf, 1e39, None], {"label is not a finite number": [2, 3], "missing": [4]}),
        (_CLAIMS, [0.0, 3.5, -1.0], {"label is not a finite number from 0 on": [2]}),
        ("", [0, 1, 2, None], {"label is neither 0 nor 1": [2], "missing": [3]}),
    ],
)
def test_value_that_is_no_label_is_found(tmp_path, task, labels, found):
    """A value beside the declared labels, or no finite number where one is predicted, is a bad row with its reason."""
    expected = {"label is none of 'sales', 'billing', 'other'" if key == _TEAMS else key: found[key] for key in found}
    assert faults(validated(tmp_path, task, pa.array(labels))) == expected


def test_labels_may_be_words_with_a_dictionary(tmp_path):
    """Words in a dictionary, as pandas writes categories, are labels as others are."""
    done = validated(tmp_path, _CHURN, pa.array(["yes", "no", "no"]).dictionary_encode())
    assert done.clean
    assert done.labels.counts == {"no": 2, "yes": 1}


def test_report_counts_classes_by_name(tmp_path):
    """The report shows the rows of each class, of all files, and of values that are none."""
    done = validated(tmp_path, _TEAMS, ["sales", "billing", "other"], ["sales", "legal"])
    assert done.labels.rows() == [
        ["billing", "1", "20.000 %"],
        ["legal", "1", "20.000 %"],
        ["other", "1", "20.000 %"],
        ["sales", "2", "40.000 %"],
    ]
    assert "| sales | 2 | 40.000 % |" in report.render(done, tmp_path / "r.md")


def test_report_shows_the_spread_of_numbers(tmp_path):
    """Of numbers the report has quantiles and mean over all files, without those that are wrong."""
    done = validated(tmp_path, _MINUTES, np.arange(51.0), np.arange(51.0, 101), [np.inf])
    figures = dict(done.labels.rows())
    assert figures["rows"] == "101"
    assert (figures["smallest"], figures["largest"], figures["mean"]) == ("0", "100", "50")
    assert (figures["5% of the rows up to"], figures["50% of the rows up to"]) == ("5", "50")


@pytest.mark.parametrize(
    ("task", "labels", "problem"),
    [
        (_CHURN, ["yes", "yes"], "label 'y' has one class only: every row is yes"),
        (_MINUTES, [2.5, 2.5], "label 'y' has one value only: every row is 2.5"),
        (_STARS, [1, 3, 3], "label 'y': no row is 2, which cannot be learned; add rows, or declare other labels"),
        (_TEAMS, ["other"], "label 'y' has one class only: every row is other"),
    ],
)
def test_labels_with_nothing_to_learn_are_a_problem_of_the_table(tmp_path, task, labels, problem):
    """One class, one value, or a declared class that no row has, is a problem of the whole table."""
    assert validated(tmp_path, task, labels).whole == [problem]


@pytest.mark.parametrize(
    ("task", "labels", "words"),
    [
        (
            _MINUTES,
            ["1", "2"],
            r"expected finite numbers \(it is the label\); convert the column to numbers, or declare",
        ),
        (_MINUTES, pa.array([1, 2], pa.timestamp("s")), "derive .* and name that as the label"),
        (_TEAMS, [1.5, 2.5], "expected 'sales', 'billing', 'other' .*; declare the labels as the column has them"),
        (_TEAMS, [[1], [2]], "expected 'sales', 'billing', 'other' .*; write 1 for what is to be predicted"),
        (_STARS, ["1", "2", "3"], r"expected 1, 2, 3 \(it is the label\); .* classes = \[\"1\", \"2\", \"3\"\]"),
    ],
)
def test_label_column_of_a_wrong_type_is_refused_with_a_way_out(tmp_path, task, labels, words):
    """A column that cannot hold the declared labels stops validation, and what would mend it is told."""
    with pytest.raises(DataError, match=words):
        validated(tmp_path, task, labels)
