"""Drafting a use case: what becomes a feature, what is left out and why."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError
from data.schema.use_case import load_use_case, parse_use_case
from data.sources.draft.use_case_draft import draft
from data.sources.synthetic.generators import GENERATORS
from data.sources.synthetic.plan import GenerationPlan, shards

_N = 2000


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A table with a column of every sort."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, _N)
    customer = rng.integers(0, 200, _N)
    risk = label + rng.random(_N) * 0.5
    columns = {
        "order_id": np.arange(_N),
        "customer": [f"c{i}" for i in customer],
        "when": pa.array(1_735_689_600_000_000 + np.arange(_N) * 1_000_000, pa.timestamp("us")),
        "seconds": np.arange(_N) * 1.0,
        "created": pa.array(["2025-01-01 10:00:00"] * (_N // 2) + ["2025-01-02 10:00:00"] * (_N // 2)),
        "opened": pa.array(["2019-03-01T08:00Z", "2020-02-29", None, "2021-07-04 23:30"] * (_N // 4)),
        "birthday": pa.array((np.arange(_N) % 97 * 111).astype(np.int32)).cast(pa.date32()),
        "delivered": ["2024-05-31"] * (_N - 1) + ["soon"],
        "age": customer % 60 + 18,
        "amount": rng.lognormal(3, 1, _N),
        "risk": risk,
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
        "flagged": risk > 1.25,
        "merchant": 4_000_000_001 + rng.integers(0, 4, _N),
        "branches": 4_000_000_001 + np.arange(_N) % 1500,
        "mcc_code": rng.choice([4829, 5411, 5812, 7995], _N),
        "price": [f"{i % 1200 / 4:.2f}" for i in range(_N)],
        "__index_level_0__": np.arange(_N) % 1000,
        "row": np.arange(_N) % 500,
        "tags": pa.array([["a"]] * _N),
        "bought": label,
    }
    file = tmp_path_factory.mktemp("draft") / "2025-orders.parquet"
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata({"pandas": '{"index_columns": ["row"]}'}), file)
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
    assert use_case.materialized is not None, "what the store may hold has a schedule"
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
        "flagged": ("boolean", "request", False),
        "merchant": ("category", "request", False),
        "note": ("text", "request", False),
        "mcc_code": ("integer", "request", False),
        "opened_hour": ("integer", "request", True),
        "opened_weekday": ("integer", "request", True),
        "opened_age_days": ("number", "request", True),
        "birthday_weekday": ("integer", "request", False),
        "birthday_age_days": ("number", "request", False),
    }


@pytest.mark.parametrize(
    "reason",
    [
        '"order_id": runs with the event time',
        '"seconds": runs with the event time',
        '"created": a time later than the event time in 2,000 rows: it was not known by then',
        "\"delivered\": times, but 1 values are none, such as 'soon'; correct them to derive from it",
        '"terminal_id": an identifier by its name',
        '"token": an identifier',
        '"version": always "v1"',
        '"nothing": empty in every row',
        '"blank": empty in every row',
        '"outcome": gives the label away',
        '"tags": holds list<element: string>; derive numbers from it, such as its length',
        '"branches": 1,500 different values become 7 in 32-bit floating point',
        '"price": 1,200 different numbers written as text; convert the column to numbers',
        '"__index_level_0__": the row index that pandas wrote',
        '"row": the row index that pandas wrote: it counts the rows',
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


@pytest.mark.parametrize(
    ("column", "remark"),
    [
        ("flagged", 'CAREFUL: nearly a function of "risk", which ranks the label with AUC 1.000: is it known'),
        ("merchant", "as numbers 4 different values become 1 in 32-bit floating point"),
        ("mcc_code", '; a code or an amount? if a code: type = "category"'),
        ("amount", "min = 0 }  # "),
        (
            "opened_hour",
            'derive = "hour", column = "opened", optional = true }  # 0 to 23, 3 different, missing in 500 rows',
        ),
        ("birthday_age", '{ type = "number", derive = "age_days", column = "birthday", as_of = "when" }  # 9'),
    ],
)
def test_line_of_a_feature_says_what_to_look_at(text, column, remark):
    """Copies of leaks, numbers that float32 merges, codes and bounds are told beside the feature."""
    assert remark in next(line for line in text.splitlines() if line.startswith(column))


def generated(folder, use_case, entities):
    """Write the generated table of a shipped use case."""
    plan = GenerationPlan(rows=20_000, seed=0, entities=entities, days=90, end_us=1_767_225_600_000_000)
    pq.write_table(pa.concat_tables(GENERATORS[use_case].tables(shards(plan, 1)[0])), folder / "t.parquet")


@pytest.mark.parametrize(
    ("name", "time", "missed"),
    [("delivery_time", "ordered_at", {"weekday"}), ("ticket_routing", "created_at", set())],
)
def test_draft_of_a_generated_table_finds_its_kind(tmp_path, name, time, missed):
    """Of the generated tables with a number and with classes to predict the draft has the task that is shipped."""
    generated(tmp_path, name, 5000)
    shipped = load_use_case(name)
    text = draft(tmp_path, shipped.label, time=time)
    drafted = parse_use_case(text, "draft")
    assert "CAREFUL" not in text
    assert "a code or" not in text
    assert (drafted.task, drafted.metric, drafted.key) == (shipped.task, shipped.metric, shipped.key)
    types = {feature.name: feature.type for feature in shipped.features.values() if feature.name not in missed}
    assert {feature.name: feature.type for feature in drafted.features.values()} == types


def test_draft_of_the_generated_transactions_has_nothing_to_ask(tmp_path):
    """Of the product's own transactions no column is taken for a code or a leak, and the bounds are those shipped."""
    generated(tmp_path, "card_fraud", 444)
    text = draft(tmp_path, "is_fraud", "user_id", "timestamp")
    assert "CAREFUL" not in text
    assert "a code or" not in text
    shipped = {each.name: each for each in load_use_case("card_fraud").features.values() if not each.is_computed}
    drafted = parse_use_case(text, "draft").features
    assert drafted.keys() == shipped.keys()
    bounds = {name: (feature.min, feature.max) for name, feature in drafted.items()}
    # Nobody sees from the values that an age is not below zero.
    assert bounds | {"cardholder_age": (0, 130)} == {name: (each.min, each.max) for name, each in shipped.items()}


def test_age_needs_an_event_time_and_no_name_of_the_table_is_taken_twice(tmp_path):
    """Without an event time a date gives no age, and what the table has already is not derived again."""
    rows = 40
    days = pa.array((np.arange(rows) * 11).astype(np.int32)).cast(pa.date32())
    columns = {"day": days, "day_weekday": np.arange(rows) % 7, "x": np.arange(rows) % 5, "y": np.arange(rows) // 3 % 2}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    text = draft(tmp_path / "a.parquet", "y")
    assert parse_use_case(text, "draft").features.keys() == {"day_weekday", "x"}
    assert '# left out: "day": a time from which nothing that varies can be derived' in text


def test_dates_outside_the_calendar_are_told_and_not_derived_from(tmp_path):
    """A date that no calendar has is shown as Arrow writes it."""
    days = pa.array([2**31 - 1, *range(39)], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"day": days, "x": np.arange(40) % 5, "y": np.arange(40) // 3 % 2}), tmp_path / "a.parquet")
    text = draft(tmp_path / "a.parquet", "y")
    assert "# left out: \"day\": times, but 1 values are none, such as '<value out of range: 2147483647>'" in text


def test_without_entity_everything_comes_from_the_request(path):
    """Without an entity there is no online feature, and without a time the split is at random."""
    use_case = parse_use_case(draft(path, "bought"), "draft")
    assert not use_case.schema_.online
    assert use_case.materialized is None
    assert use_case.strategy == "random"


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("sold", "column 'sold' is missing; the table has: order_id"),
        ("opened", "label 'opened' is missing in 500 rows"),
        ("tags", "label 'tags' must hold labels or numbers; it holds list<element: string>: write 1 for"),
        ("gaps", "label 'gaps' is missing in 500 rows"),
        ("nothing", "label 'nothing' must hold labels or numbers; it is missing in every row"),
    ],
)
def test_unfit_label_is_refused(path, label, words):
    """A label that is missing, or of a type that no kind of target has, is refused."""
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


@pytest.mark.parametrize("role", ["entity", "key"])
def test_entity_and_key_must_be_written_as_one(role, tmp_path):
    """A list or a fraction is no key: file, column and what to do are told."""
    path = tmp_path / "t.parquet"
    for values in ([[1], [2]], [0.5, 1.5], [{"a": 1}, None]):
        pq.write_table(pa.table({"x": values, "y": [0, 1]}), path)
        with pytest.raises(DataError, match=rf"t\.parquet: column 'x' holds .*, expected strings or integers .*{role}"):
            draft(path, "y", **{role: "x"})


def test_time_that_gives_the_label_away_is_left_out(tmp_path):
    """A column of few different times may be a copy of the label as any other."""
    path = tmp_path / "t.parquet"
    label = [i % 2 for i in range(40)]
    pq.write_table(
        pa.table({"x": pa.array(label, pa.timestamp("s")), "n": [i % 7 for i in range(40)], "y": label}), path
    )
    assert '"x": gives the label away' in draft(path, "y")
