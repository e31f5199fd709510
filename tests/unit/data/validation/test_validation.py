"""Validation: what is found in a chunk, what only the whole shows, and the report."""

from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.distributed.pieces import each_block_here, parquet_pieces
from data.errors import DataError
from data.schema.features.feature import Feature, FeatureType
from data.schema.use_case import parse_use_case
from data.sources.parquet import open_source
from data.validation import report
from data.validation.bad_rows import bad_rows
from data.validation.column_types import check_source
from data.validation.hits import BAD_ROWS_KEPT
from data.validation.validation import checker, merge

_USE_CASE = parse_use_case(
    """
name = "orders"
label = "fraud"
key = "id"
event_time = "at"
entity = { column = "user" }
[features]
amount = { type = "number", min = 0, max = 100 }
count = { type = "integer", optional = true }
member = { type = "boolean" }
shop = { type = "category", vocabulary = ["food", "fuel"] }
""",
    "orders.toml",
)
_NOW_US = 1_767_225_600_000_000
_START = datetime(2025, 1, 1)


def _columns(rows=6, **changes):
    columns = {
        "id": list(range(rows)),
        "at": [_START + timedelta(minutes=i) for i in range(rows)],
        "user": [f"u{i % 3}" for i in range(rows)],
        "amount": [float(i % 100) for i in range(rows)],
        "count": pa.array([i % 4 for i in range(rows)], pa.int64()),
        "member": [i % 2 == 0 for i in range(rows)],
        "shop": ["food"] * rows,
        "fraud": [i % 2 for i in range(rows)],
    }
    return columns | changes


def _source(folder, *tables):
    for i, columns in enumerate(tables):
        pq.write_table(pa.table(columns), folder / f"{i}.parquet")
    return open_source(folder)


def _validated(source):
    check_source(source, _USE_CASE)
    return merge(source, _USE_CASE, _parts(source, _USE_CASE)[::-1])


def _parts(source, use_case):
    return list(each_block_here(parquet_pieces(source, use_case.columns), checker(use_case, _NOW_US)))


def test_clean_table_is_clean(tmp_path):
    """A table as declared has no finding, and its columns are summed up."""
    done = _validated(_source(tmp_path, _columns(), _columns(at=[datetime(2025, 2, 1)] * 6, id=list(range(6, 12)))))
    assert done.clean
    assert done.rows == 12
    assert (done.columns["amount"].low, done.columns["amount"].high) == (0.0, 5.0)
    assert done.labels.counts == {"0": 6, "1": 6}
    assert "clean" in report.summary(done)


_TIMES = parse_use_case(
    """
name = "orders"
label = "fraud"
event_time = "at"
[features]
hour = { type = "integer", derive = "hour", column = "at" }
weekday = { type = "integer", derive = "weekday", column = "opened", optional = true }
age = { type = "number", derive = "age_days", column = "opened", as_of = "at", min = 0, optional = true }
""",
    "orders.toml",
)


def test_times_that_features_come_from_are_checked_row_by_row(tmp_path):
    """What is no time is counted with its column, once; a missing one where it is required; and a derived range."""
    at = [_START, None, *(_START + timedelta(minutes=i) for i in range(2, 6))]
    opened = ["2024-12-31", "", "soon", "2025-13-01", "2025-01-01T00:04:30Z", None]
    source = _source(tmp_path, _columns(at=at, opened=opened))
    check_source(source, _TIMES)
    done = merge(source, _TIMES, _parts(source, _TIMES))
    assert {key: hits.rows.tolist() for key, hits in done.hits.items()} == {
        ("at", "missing"): [1],
        ("opened", "not a time"): [2, 3],
        ("age", "below the smallest accepted value 0"): [4],
    }
    assert done.bad_rows.tolist() == [1, 2, 3, 4]


def test_column_that_holds_no_times_is_refused_with_the_feature(tmp_path):
    """The type is refused before a value is read, and the error says what is derived from it."""
    with pytest.raises(DataError, match=r"opened.* ISO strings or whole numbers \('weekday' is derived from it\)"):
        check_source(_source(tmp_path, _columns(opened=[1.5] * 6)), _TIMES)


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("amount", [0, 1, None, 3, 4, 5], "missing"),
        ("amount", [0, 1, float("nan"), 3, 4, 5], "missing"),
        ("amount", [0, 1, float("inf"), 3, 4, 5], "infinite"),
        ("amount", [0, 1, -0.5, 3, 4, 5], "below the smallest accepted value 0"),
        ("amount", [0, 1, 100.5, 3, 4, 5], "above the largest accepted value 100"),
        ("count", [0, 1, 1.5, 3, 4, 5], "not a whole number"),
        ("member", [0, 1, 2, 1, 0, 1], "neither true nor false"),
        ("shop", ["food", "fuel", "toys", "food", "fuel", "food"], "category not in the vocabulary"),
        ("fraud", [0, 1, 2, 1, 0, 1], "label is neither 0 nor 1"),
        ("fraud", [0, 1, None, 1, 0, 1], "missing"),
        ("shop", ["food", "fuel", "", "food", "fuel", "food"], "missing"),
        ("user", ["a", "b", None, "d", "e", "f"], "missing"),
        ("user", ["a", "b", "", "d", "e", "f"], "missing"),
        ("user", ["a", "b", " \t", "d", "e", "f"], "missing"),
        ("id", ["a", "b", "", "d", "e", "f"], "missing"),
        ("at", ["2025-01-01", "2025-01-01", " ", "2025-01-01", "2025-01-01", "2025-01-01"], "missing"),
        ("id", [1, 2, 1, 3, 4, 5], "repeats the key of an earlier row"),
        ("at", [_START + timedelta(hours=h) for h in (1, 2, 0, 3, 4, 5)], "earlier than the row before"),
        ("at", [*[_START] * 2, None, *[_START] * 3], "missing"),
        (
            "at",
            [datetime(2025, 1, 1), datetime(2025, 1, 1), *[datetime(2027, 1, 1)] * 4],
            "more than a day in the future",
        ),
    ],
)
def test_bad_row_is_found_with_its_reason(tmp_path, column, values, reason):
    """Each kind of wrong value is found in row 2, and that row is kept with the reason."""
    source = _source(tmp_path, _columns(**{column: values}))
    done = _validated(source)
    assert (column, reason) in done.hits
    kept = bad_rows(source, done)
    assert kept["row_number"][0].as_py() == 2
    assert f"{column}: {reason}" in kept["reasons"][0].as_py()
    assert reason in report.summary(done)


def test_gap_in_an_optional_feature_is_no_problem(tmp_path):
    """Nulls of an optional feature are counted but not held against the table."""
    done = _validated(_source(tmp_path, _columns(count=pa.array([None, 1, 2, 3, 4, 5]))))
    assert done.clean
    assert done.columns["count"].nulls == 1


def test_empty_text_is_counted_apart_from_nulls(tmp_path):
    """'' and null of a column are counted each, and neither is its smallest value."""
    done = _validated(_source(tmp_path, _columns(shop=["food", "", None, "fuel", "", "food"])))
    column = done.columns["shop"]
    assert (column.nulls, column.empties, column.low, column.high) == (1, 2, "food", "fuel")
    assert done.hits[("shop", "missing")].rows.tolist() == [1, 2, 4]
    assert ("shop", "category not in the vocabulary") not in done.hits
    assert "| shop | string | 1 | 0 | 2 | 0 | food | fuel |" in report.render(done, tmp_path / "r.md")


def test_declared_empty_value_is_not_missing(tmp_path):
    """Where '' is a value of the category, it is no finding; null stays one."""
    features = dict(_USE_CASE.features)
    features["shop"] = Feature(name="shop", type=FeatureType.CATEGORY, vocabulary=("food", ""), empty="value")
    use_case = _USE_CASE.model_copy(update={"features": features})
    source = _source(tmp_path, _columns(shop=["food", "", None, "", "", "food"]))
    done = merge(source, use_case, _parts(source, use_case))
    assert {key: hits.rows.tolist() for key, hits in done.hits.items()} == {("shop", "missing"): [2]}


def test_missing_keys_are_not_repeats_of_each_other(tmp_path):
    """Rows without a key are reported as such, once each, in every file."""
    columns = _columns(id=["a", "", None, "", " ", "f"])
    done = _validated(_source(tmp_path, columns, _columns(id=["g", "", None, "i", "j", "k"])))
    assert done.hits[("id", "missing")].rows.tolist() == [1, 2, 3, 4, 7, 8]
    assert ("id", "repeats the key of an earlier row") not in done.hits


def test_what_spans_files_is_found(tmp_path):
    """A key repeated in another file, and a file that starts earlier than the one before ended, are found."""
    done = _validated(_source(tmp_path, _columns(), _columns()))
    assert done.hits[("id", "repeats the key of an earlier row")].rows.tolist() == list(range(6, 12))
    assert done.hits[("at", "earlier than the row before")].rows.tolist() == [6]
    assert done.bad_rows.tolist() == list(range(6, 12))


def test_files_whose_times_are_written_otherwise_are_a_problem(tmp_path):
    """One with a zone in its times and one without are no column of times, although each of them is."""
    zoned = _columns(at=[f"2025-01-01T00:00:0{i}Z" for i in range(6)])
    bare = _columns(at=[f"2025-01-02T00:00:0{i}" for i in range(6)])
    done = _validated(_source(tmp_path, zoned, bare | {"id": list(range(6, 12))}))
    assert [text for text in done.whole if "'at': some of its times name a zone and others none" in text]
    assert not done.clean


def test_string_keys_are_compared(tmp_path):
    """Keys that are words are checked like numbers."""
    done = _validated(_source(tmp_path, _columns(id=["a", "b", "c", "a", "e", "f"])))
    assert done.hits[("id", "repeats the key of an earlier row")].rows.tolist() == [3]


def test_one_class_is_a_problem_of_the_table(tmp_path):
    """Labels of one class only are a problem although no row is bad."""
    done = _validated(_source(tmp_path, _columns(fraud=[0] * 6)))
    assert not done.clean
    assert "one class only: every row is 0" in report.summary(done)
    assert len(done.bad_rows) == 0


_MERGED = parse_use_case(
    'name = "t"\nlabel = "y"\n[features]\nmerchant = { type = "integer" }\namount = { type = "number" }', "t.toml"
)


def _validated_numbers(folder, *merchants):
    tables = [
        {"merchant": part, "amount": [4e9 + i / 2 for i in range(len(part))], "y": [i % 2 for i in range(len(part))]}
        for part in merchants
    ]
    source = _source(folder, *tables)
    return merge(source, _MERGED, _parts(source, _MERGED))


def test_numbers_that_become_one_are_a_problem_of_the_table(tmp_path):
    """Codes beyond 2**24 that float32 cannot tell apart are counted over all files, with the way out."""
    done = _validated_numbers(tmp_path, [4_000_000_001, 4_000_000_002], [4_000_000_003, 4_000_000_004, 4_000_000_001])
    said = "merchant: 4 different values become 1 in 32-bit floating point; declare it as a category"
    assert done.whole == [said]
    assert not done.clean
    assert said in report.summary(done)


def test_rounding_of_amounts_is_a_note(tmp_path):
    """A few of many large amounts that become one are worth a note in every report, and no problem."""
    done = _validated_numbers(tmp_path, [*range(5000)] * 2, [2**24, 2**24 + 1, 2**24 + 4, 2**24 + 5])
    assert done.clean
    assert "note: merchant: at least 4,096 different values become" in report.summary(done)
    assert "Note: merchant: at least" in report.render(done, tmp_path / "r.md")


def test_bad_rows_are_capped_and_the_report_says_so(tmp_path):
    """No more than the first BAD_ROWS_KEPT bad rows are kept; all are counted."""
    rows = BAD_ROWS_KEPT + 500
    source = _source(tmp_path, _columns(rows, amount=[-1.0] * rows))
    done = _validated(source)
    assert len(done.bad_rows) == rows
    assert bad_rows(source, done).num_rows == BAD_ROWS_KEPT
    assert f"the first {BAD_ROWS_KEPT:,} are written out" in report.render(done, tmp_path / "r.md")


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        (
            "amount",
            ["1"] * 6,
            r"column 'amount' holds string, expected numbers \(it is a feature of type 'number'\); "
            "convert the column to numbers, or declare the feature as a category",
        ),
        (
            "amount",
            pa.nulls(6),
            r"column 'amount' holds null, expected numbers \(it is a feature of type 'number'\); no row has a value: "
            "fill the column, or take it out of the use case",
        ),
        ("shop", [1.5] * 6, "column 'shop' holds double, expected strings or integers .* as a number"),
        (
            "fraud",
            ["no", "yes"] * 3,
            r"column 'fraud' holds string, expected 0 and 1, or false and true \(it is the label\); write 1",
        ),
        ("fraud", ["no"] * 6, "column 'fraud' holds string, expected 0 and 1"),
        ("at", [1.5] * 6, "column 'at' holds double, expected timestamps"),
        ("user", [1.5] * 6, "column 'user' holds double"),
    ],
)
def test_wrong_type_is_refused_at_once(tmp_path, column, values, words):
    """A column of a type that cannot hold what is declared stops validation, with file and column."""
    with pytest.raises(DataError, match=words):
        _validated(_source(tmp_path, _columns(**{column: values})))


def test_missing_column_is_refused_at_once(tmp_path):
    """A declared column that is not there stops validation."""
    columns = _columns()
    del columns["shop"]
    with pytest.raises(DataError, match="column 'shop' is missing"):
        _validated(_source(tmp_path, columns))


def test_report_escapes_what_it_shows(tmp_path):
    """Values of the table cannot break the HTML or the Markdown table."""
    done = _validated(_source(tmp_path, _columns(user=["<script>|"] * 6)))
    assert "&lt;script&gt;|" in report.render(done, tmp_path / "r.html")
    assert "<script>\\|" in report.render(done, tmp_path / "r.md")


def test_report_of_another_kind_is_refused(tmp_path):
    """A report that is neither HTML nor Markdown is refused."""
    with pytest.raises(DataError, match=r"must end in \.html or \.md"):
        report.check_name(tmp_path / "r.pdf")
