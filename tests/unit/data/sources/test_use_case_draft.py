"""Drafting a use case: what becomes a feature, what is left out and why."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError
from data.schema.use_case import parse_use_case
from data.sources.use_case_draft import draft

_N = 2000


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A table with a column of every sort."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, _N)
    customer = rng.integers(0, 200, _N)
    columns = {
        "order_id": np.arange(_N),
        "customer": [f"c{i}" for i in customer],
        "when": pa.array(1_735_689_600_000_000 + np.arange(_N) * 1_000_000, pa.timestamp("us")),
        "seconds": np.arange(_N) * 1.0,
        "created": pa.array(["2025-01-01 10:00:00"] * (_N // 2) + ["2025-01-02 10:00:00"] * (_N // 2)),
        "age": customer % 60 + 18,
        "amount": rng.lognormal(3, 1, _N),
        "risk": label + rng.random(_N) * 0.5,
        "balance": pa.array([None if i % 5 == 0 else float(i % 13) for i in range(_N)]),
        "gaps": np.where(np.arange(_N) % 4 == 0, np.nan, 1.0),
        "shop type": pa.array([["food", "fuel", 'a "b"'][i % 3] for i in range(_N)]),
        "coupon": pa.array([["", None, "spring", "sale"][i * 7 % 13 % 4] for i in range(_N)]),
        "member": rng.random(_N) < 0.3,
        "terminal_id": rng.integers(0, 500, _N),
        "note": [f"please call back about case {i % 1500}" for i in range(_N)],
        "token": [f"{i:x}" for i in range(_N)],
        "version": ["v1"] * _N,
        "nothing": pa.nulls(_N, pa.string()),
        "blank": [""] * _N,
        "outcome": ["yes" if y else "no" for y in label],
        "tags": pa.array([["a"]] * _N),
        "bought": label,
    }
    file = tmp_path_factory.mktemp("draft") / "2025-orders.parquet"
    pq.write_table(pa.table(columns), file)
    return file


@pytest.fixture(scope="module")
def text(path):
    """The draft with every role named but the key."""
    return draft(path, "bought", entity="customer", time="when")


def test_draft_is_a_valid_use_case(text):
    """What is written is read by the parser, with the roles in place."""
    use_case = parse_use_case(text, "draft")
    assert use_case.name == "t_2025_orders"
    assert (use_case.label, use_case.event_time, use_case.key) == ("bought", "when", "order_id")
    assert use_case.entity is not None
    assert use_case.entity.column == "customer"
    assert use_case.strategy == "time"


def test_columns_become_features_of_their_type(text):
    """Numbers, integers, words and truth values are declared as such; gaps make a feature optional."""
    features = parse_use_case(text, "draft").features
    found = {name: (feature.type.value, feature.source.value, feature.optional) for name, feature in features.items()}
    assert found == {
        "age": ("integer", "either", False),
        "amount": ("number", "request", False),
        "risk": ("number", "request", False),
        "balance": ("number", "request", True),
        "gaps": ("number", "request", True),
        "shop type": ("category", "request", False),
        "coupon": ("category", "request", True),
        "member": ("boolean", "request", False),
    }


@pytest.mark.parametrize(
    "reason",
    [
        '"order_id": runs with the event time',
        '"seconds": runs with the event time',
        '"created": a time written as text',
        '"terminal_id": an identifier by its name',
        '"note": free text',
        '"token": an identifier',
        '"version": always "v1"',
        '"nothing": empty in every row',
        '"blank": empty in every row',
        '"outcome": gives the label away',
        '"tags": holds list<element: string>',
    ],
)
def test_column_is_left_out_with_its_reason(text, reason):
    """What cannot or must not be a feature is named in a comment with the reason."""
    assert f"# left out: {reason}" in text


def test_empty_text_is_no_word_of_the_draft(text):
    """'' counts as missing and is not among the words; how it would become one is said."""
    line = next(line for line in text.splitlines() if line.startswith("coupon"))
    assert '# 2 different: "sp' in line or '# 2 different: "sa' in line
    assert line.endswith("of them ''; if that is a value: empty = \"value\")")


def test_telltale_number_is_marked(text):
    """A number that ranks the label nearly alone is kept with a warning."""
    line = next(line for line in text.splitlines() if line.startswith("risk"))
    assert "CAREFUL: alone it ranks the label with AUC 1.000" in line


def test_without_entity_everything_comes_from_the_request(path):
    """Without an entity there is no online feature, and without a time the split is at random."""
    use_case = parse_use_case(draft(path, "bought"), "draft")
    assert not use_case.schema_.online
    assert use_case.strategy == "random"


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("sold", "column 'sold' is missing; the table has: order_id"),
        ("outcome", "label 'outcome' must hold 0 and 1, or false and true; it holds"),
        ("age", "label 'age' must hold 0 and 1"),
        ("gaps", "label 'gaps' is missing in 500 rows"),
        ("nothing", "label 'nothing' must hold 0 and 1"),
    ],
)
def test_unfit_label_is_refused(path, label, words):
    """A label that is missing or not binary is refused with the values that it holds."""
    with pytest.raises(DataError, match=words):
        draft(path, label)


def test_label_of_one_class_is_refused(tmp_path):
    """A label that is always 0 teaches nothing."""
    pq.write_table(pa.table({"x": [1, 2], "y": [0, 0]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="one class only"):
        draft(tmp_path / "a.parquet", "y")


def test_table_without_features_is_refused(tmp_path):
    """When every column is left out the error lists the reasons."""
    pq.write_table(pa.table({"x": [7, 7], "y": [0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match='no column is fit to be a feature:\nleft out: "x": always "7"'):
        draft(tmp_path / "a.parquet", "y")
