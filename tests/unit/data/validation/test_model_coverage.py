"""Model coverage: which rows of a table a registered version is blind to, and what of it is reported."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.distributed.pieces import each_block_here, parquet_pieces
from data.schema.features.feature import Feature, FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.schema.features.training_profile import TrainingProfile
from data.schema.use_case import parse_use_case
from data.sources.parquet import open_source
from data.transform.derived_time import with_derived
from data.transform.text_model import TextModel
from data.validation import coverage_report, report
from data.validation.bad_rows import bad_row_numbers, bad_rows
from data.validation.hits import BAD_ROWS_KEPT
from data.validation.model_coverage import ABOVE, BELOW, UNKNOWN, TrainedModel, cover, merge_coverage
from data.validation.validation import checker, merge
from tests.support.training.models import times_table, times_use_case
from tune.dataset.encoded_examples import fit_schema
from tune.dataset.profiling import profile_rows

DECLARED = """
name = "orders"
label = "fraud"
[features]
amount = { type = "number", optional = true, min = -50 }
count = { type = "integer", optional = true, default = 99 }
member = { type = "boolean", optional = true }
shop = { type = "category", optional = true }
plan = { type = "category", vocabulary = ["free", "paid", "gold"], optional = true }
"""
USE_CASE = parse_use_case(DECLARED, "orders.toml")
KINDS = {
    "amount": pa.float64(),
    "count": pa.int64(),
    "member": pa.bool_(),
    "shop": pa.string(),
    "plan": pa.string(),
    "fraud": pa.int64(),
}


def orders(rows=8, **changes):
    """Orders of amounts 0.1 to 10, counts 1 to 5, two shops, and no `gold` plan."""
    columns = {
        "amount": [0.1, 10.0] * (rows // 2),
        "count": [1, 5] * (rows // 2),
        "member": [True, False] * (rows // 2),
        "shop": ["food", "fuel"] * (rows // 2),
        "plan": ["free", "paid"] * (rows // 2),
        "fraud": [0, 1] * (rows // 2),
    }
    return pa.table({name: pa.array(values, KINDS[name]) for name, values in (columns | changes).items()})


def trained(table, use_case=USE_CASE):
    """A version that learned from a table, as the registry has it."""
    schema = fit_schema(table, use_case)
    return TrainedModel("orders version 3 (champion)", "3", schema.features, profile_rows(table, schema))


def covered(table, model, use_case=USE_CASE, block=3):
    """A table, in blocks of a few rows that come in the wrong order, held against a version."""
    starts = range(0, table.num_rows, block)
    blocks = [(start, table.slice(start, block)) for start in starts]
    parts = [(start, part.num_rows, cover(part, model, use_case)) for start, part in blocks]
    return merge_coverage(model, use_case, parts[::-1])


def validated(folder, model, *tables):
    """The same tables as files, by the whole of validation."""
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet")
    source = open_source(folder)
    pieces = parquet_pieces(source, USE_CASE.columns)
    return source, merge(source, USE_CASE, list(each_block_here(pieces, checker(USE_CASE, 0, model))), model)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"amount": [0.1, 10.0, 10.01, 5, 5, 5, 5, 5]}, {("amount", ABOVE): [2]}),
        ({"amount": [0.1, 10.0, 0.09, -1, 5, 5, 5, 5]}, {("amount", BELOW): [2, 3]}),
        ({"amount": [0.1, 10.0, math.inf, -math.inf, 5, 5, 5, 5]}, {("amount", ABOVE): [2], ("amount", BELOW): [3]}),
        ({"amount": [math.nan, None, 1, 1, 1, 1, 1, 1]}, {}),
        ({"count": [1, 5, 2, 6, None, 0, 1, 1]}, {("count", ABOVE): [3], ("count", BELOW): [5]}),
        ({"shop": ["food", "toys", "", None, "toys", "Fuel", "fuel", " "]}, {("shop", UNKNOWN): [1, 4, 5, 7]}),
        ({"plan": ["free", "gold", "", None, "none", "paid", "free", "free"]}, {("plan", UNKNOWN): [1, 4]}),
    ],
)
def test_rows_with_something_new_are_found(changes, expected):
    """Numbers beyond the trained range and words that were not learned are found; bounds and missing values are not."""
    found = covered(orders(**changes), trained(orders()))
    assert {key: hits.rows.tolist() for key, hits in found.hits.items()} == expected
    rows = sorted({row for hits in expected.values() for row in hits})
    assert found.blind.tolist() == rows


def test_numbers_are_compared_as_the_model_sees_them():
    """The bound itself is inside, also from a column of 32 bits that holds it less exactly."""
    rounded = orders().set_column(0, "amount", pa.array([0.1, 10.0] * 4, pa.float32()))
    assert not len(covered(rounded, trained(orders())).blind)
    assert not len(covered(orders(), trained(rounded)).blind)


def test_boolean_that_was_always_the_same_has_a_range():
    """A value of a boolean that no train row had is new."""
    found = covered(orders(), trained(orders(member=[False] * 8)))
    assert found.hits[("member", ABOVE)].count == 4


def test_empty_text_is_new_where_the_version_has_it_as_a_value():
    """'' is a word like any other to a version that declares it so, and missing to another."""
    table = orders(shop=["", "food"] * 4)
    valued = parse_use_case(DECLARED.replace("shop = {", 'shop = { empty = "value",'), "orders.toml")
    assert covered(table, trained(orders())).missing["shop"] == 4
    found = covered(table, trained(orders(), valued), valued)
    assert (found.missing["shop"], found.words["shop"]) == (0, {"": 4})


def test_derived_features_are_compared_by_the_times_of_the_table():
    """What comes from a time is held against what came from those of training; what is no time is missing."""
    case, table = times_use_case(), times_table(400)
    model = trained(with_derived(table, case.schema_.derived), case)
    assert not len(covered(table, model, case).blind)
    changed = table.to_pydict()
    changed["opened"][:3] = ["1999-01-01", "soon", None]
    changed["timestamp"][5] += timedelta(hours=20)
    found = covered(pa.table(changed), model, case)
    assert {key: hits.rows.tolist() for key, hits in found.hits.items()} == {
        ("opened_age", ABOVE): [0],
        ("hour", ABOVE): [5],
    }
    assert found.missing["opened_age"] == 40 + 2


def test_row_with_two_new_values_is_counted_once():
    """A row is blind or not, however many of its values are new."""
    table = orders(amount=[99.0, *[5.0] * 7], shop=["toys", *["food"] * 7])
    found = covered(table, trained(orders()))
    assert (found.blind.tolist(), len(found.hits)) == ([0], 2)


def test_version_without_a_profile_knows_words_alone():
    """Of a version registered before there were profiles words are compared, and it is said that nothing else is."""
    model = TrainedModel("orders version 1", "1", trained(orders()).features, None)
    table = orders(amount=[None] * 8, count=[100] * 8, shop=["toys"] * 8, plan=["gold"] * 8)
    found = covered(table, model)
    assert set(found.hits) == {("shop", UNKNOWN)}
    assert found.problems() == []
    assert "only words are compared" in found.notes[0]


def test_features_that_only_one_side_has_are_named():
    """A feature that is new, gone or of another type is not compared, and said not to be."""
    features = dict(USE_CASE.features)
    features["fresh"] = features.pop("count").model_copy(update={"name": "fresh"})
    features["member"] = features["amount"].model_copy(update={"name": "member"})
    now = USE_CASE.model_copy(update={"features": features})
    found = covered(orders(), trained(orders()), now)
    assert [feature.name for feature in found.features] == ["amount", "shop", "plan"]
    said = "; ".join(found.notes)
    assert "not compared: count (the version reads it, the use case does not declare it)" in said
    assert "not compared: member (it is of another type in the version)" in said
    assert "not compared: fresh (the version does not read it)" in said


values = {
    "amount": st.one_of(st.none(), st.floats()),
    "count": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    "member": st.sampled_from([None, True, False]),
    "shop": st.one_of(st.none(), st.text(max_size=3)),
    "plan": st.sampled_from([None, "", "free", "paid", "gold"]),
    "fraud": st.integers(0, 1),
}


@given(st.lists(st.fixed_dictionaries(values), min_size=1, max_size=12), st.integers(1, 12))
def test_train_rows_hold_nothing_new(rows, block):
    """A table of the very rows that a version learned from has no finding, however it is cut into blocks."""
    rows.append({**rows[0], "shop": "a shop"})
    table = pa.Table.from_pylist(rows, pa.schema(list(KINDS.items())))
    found = covered(table, trained(table), block=block)
    assert not found.hits
    assert not len(found.blind)
    assert not any(found.missing_differs(feature.name) for feature in found.features)
    assert found.problems() == []


def test_wholly_missing_feature_is_a_problem_of_the_table(tmp_path):
    """A feature that no row has although the version learned from it is a problem; what is new is none."""
    model = trained(orders(400))
    _, done = validated(tmp_path, model, orders(200, count=[None] * 200, shop=["toys"] * 200))
    assert done.whole == ["count: missing in every row, but orders version 3 (champion) was trained with it"]
    assert not done.hits
    assert not done.clean


def test_feature_that_was_mostly_missing_may_be_missing(tmp_path):
    """A few rows without a feature that most train rows lacked are no problem."""
    model = trained(orders(400, count=[1, *[None] * 399]))
    _, done = validated(tmp_path, model, orders(2, count=[None] * 2))
    assert done.clean


def test_blind_rows_are_told_and_listed_and_no_problem(tmp_path):
    """Summary and report have the counts, examples and ranges; the rows are listed apart from what is wrong."""
    first = orders(count=[1, 5, 9, 1, 1, 1, 1, 1], shop=["toys", "toys", "gold", *["food"] * 5])
    source, done = validated(tmp_path, trained(orders()), first, orders(amount=[-60.0, *[5.0] * 7]))
    assert done.bad_rows.tolist() == [8]
    assert bad_row_numbers(done).tolist() == [0, 1, 2, 8]
    summary = report.summary(done)
    assert "1 problem found; 1 rows have at least one" in summary
    assert (
        "against orders version 3 (champion): 4 of 16 rows (25.00 %) have a word or a number that is new to it"
        in summary
    )
    assert "  shop: a word that it has not learned: 3 rows (18.75 %), such as 'toys', 'gold'" in summary
    assert "  count: above all that it was trained on: 1 rows (6.25 %), up to 9, trained up to 5" in summary
    assert "  amount: below all that it was trained on: 1 rows (6.25 %), down to -60, trained down to 0.1" in summary
    listed = dict(zip(*(bad_rows(source, done)[name].to_pylist() for name in ("row_number", "reasons")), strict=True))
    assert listed[0] == "against version 3: shop: a word that it has not learned"
    assert listed[8].startswith("amount: below the smallest accepted value -50; against version 3: amount: below all")
    page = report.render(done, tmp_path / "r.html")
    assert "<h2>Against orders version 3 (champion)</h2>" in page
    markdown = report.render(done, tmp_path / "r.md")
    assert "| count | 1 to 5 | 0.00 % | 0.00 % | 0 | 1 | 0 | above all that it was trained on: 1 rows" in markdown
    assert "| plan | 2 words | 0.00 % | 0.00 % | 0 | 0 | 0 |  |" in markdown


def test_infinite_value_is_told_as_such(tmp_path):
    """Where an infinity alone is beyond the range, the message says so and not how far the finite numbers go."""
    _, done = validated(tmp_path, trained(orders()), orders(amount=[math.inf, *[5.0] * 7]))
    assert done.coverage
    said = coverage_report.lines(done, done.coverage)
    assert "  amount: above all that it was trained on: 1 rows (12.50 %), up to infinity, trained up to 10" in said


def test_share_of_missing_values_stands_beside_that_of_training(tmp_path):
    """A share of missing values that chance does not explain is told with the one of training."""
    _, done = validated(tmp_path, trained(orders(400)), orders(200, amount=[None, 5.0, 5.0, 5.0] * 50))
    assert done.clean
    assert done.coverage
    assert "  amount: missing in 25.00 % of the rows, 0.00 % when it was trained" in report.summary(done)
    assert len(done.coverage.blind) == 0


def test_unknown_words_of_training_stand_beside_those_of_the_table(tmp_path):
    """Where train rows too had words out of the vocabulary, their share is told."""
    model = trained(orders(plan=["other", *["free"] * 7]))
    _, done = validated(tmp_path, model, orders(plan=["other", "new", *["free"] * 6]))
    said = "plan: a word that it has not learned: 2 rows (25.00 %), such as 'new', 'other'; 12.50 % when it was trained"
    assert said in report.summary(done)


def test_bad_rows_are_kept_before_blind_ones(tmp_path):
    """Of more rows than are written out, those that failed a check are there; the report says that there are more."""
    rows = BAD_ROWS_KEPT + 100
    amounts = np.full(rows, 999.0)
    amounts[-1] = -51.0
    source, done = validated(tmp_path, trained(orders()), orders(rows, amount=amounts))
    kept = bad_rows(source, done)
    assert kept.num_rows == BAD_ROWS_KEPT
    assert kept["row_number"][-1].as_py() == rows - 1
    assert f"the first {BAD_ROWS_KEPT:,} are written out" in report.render(done, tmp_path / "r.md")


def test_text_is_told_as_not_compared():
    """A text that version and use case read alike is named as not compared, and its scores are not."""
    text = Feature(name="note", type=FeatureType.TEXT, optional=True)
    scorer = TextModel(np.empty(0, np.uint32), np.empty((0, 1)), np.zeros(1))
    schema = FeatureSchema(features=(text,)).with_text_scores({"note": (("score", "for score", "words"), scorer)})
    declared = parse_use_case('name = "notes"\nlabel = "y"\n[features]\nnote = { type = "text", optional = true }', "t")
    model = TrainedModel("notes version 1", "1", schema.features, TrainingProfile(rows=1, features={}))
    assert model.comparable(declared) == ()
    assert model.differences(declared) == ["not compared: note (it is a text)"]
