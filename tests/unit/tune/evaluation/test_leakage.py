"""Alarms of leaks and of features that cannot help."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from data.errors import DataError
from data.schema.use_case import UseCase
from tests.support.training.training_reports import source_of
from tune.dataset.encoded_examples import prepare
from tune.evaluation.leakage import find_alarms, row_hashes

ROWS = 3000


def table(**columns):
    """Noisy rows with event times, a customer each, and more or other columns."""
    rng = np.random.default_rng(0)
    start = datetime(2024, 1, 1)
    amount = rng.normal(size=ROWS)
    base = {
        "id": np.arange(ROWS),
        "who": rng.integers(0, 300, ROWS),
        "at": pa.array([start + timedelta(minutes=i) for i in range(ROWS)]),
        "amount": amount,
        "word": rng.choice(["a", "b", "c"], ROWS),
        "y": (amount + rng.normal(size=ROWS) > 1.5).astype(np.int64),
    }
    return pa.table({**base, **columns})


def use_case(features=(), **keys):
    """A use case of `amount`, `word` and the given features."""
    declared = {"amount": {"type": "number"}, "word": {"type": "category"}, **dict(features)}
    roles = {"key": "id", "event_time": "at", "entity": {"column": "who", "type": "integer"}}
    return UseCase.model_validate({"name": "t", "label": "y", **roles, "features": declared, **keys})


def alarms(rows, declared):
    """What is found in a table."""
    source = source_of(rows, declared)
    return {alarm.column: alarm for alarm in find_alarms(source, prepare(source, declared), declared)}


def test_clean_table_raises_no_alarm():
    """Honest features are passed over."""
    assert alarms(table(), use_case()) == {}


def test_numbers_that_become_one_are_noted_or_refused():
    """A feature that loses a few of its numbers in float32 is noted by name; one that loses most is refused."""
    codes = use_case({"code": {"type": "integer"}})
    some = np.where(np.arange(ROWS) % 100, np.arange(ROWS) % 10, 2**24 + np.arange(ROWS) % 2)
    most = 4_000_000_001 + np.arange(ROWS) % 4
    found = alarms(table(code=some + (np.arange(ROWS) % 200 == 100)), codes)
    assert "12 different values become 11 in 32-bit floating point" in found["code"].text
    assert not found["code"].leak
    with pytest.raises(DataError, match=r"column 'code': 4 different values become 1 .* declare it as a category"):
        alarms(table(code=most), codes)
    assert alarms(table(code=most), use_case({"code": {"type": "category"}})) == {}


@pytest.mark.parametrize("sign", [1, -1])
def test_number_that_gives_the_label_away_is_named(sign):
    """A feature that ranks the label alone, either way round, is a leak by name."""
    rows = table()
    rng = np.random.default_rng(1)
    told = sign * (rows["y"].to_numpy() + rng.normal(size=ROWS) / 10)
    found = alarms(rows.append_column("refunded", pa.array(told)), use_case({"refunded": {"type": "number"}}))
    assert list(found) == ["refunded"]
    assert found["refunded"].leak
    assert "AUC of" in found["refunded"].text


def test_number_that_is_there_for_one_label_only_is_named():
    """A value that only rows with label 1 have leaks by being there."""
    rows = table()
    there = [1.0 if label else None for label in rows["y"].to_pylist()]
    found = alarms(rows.append_column("case", pa.array(there)), use_case({"case": {"type": "number"}}))
    assert found["case"].leak


def test_category_that_gives_the_label_away_is_named_and_an_identifier_is_not():
    """Words are judged on the validation rows: an identifier fits the train rows by chance and is no leak."""
    rows = table()
    told = [f"closed{i % 7}" if label else f"open{i % 5}" for i, label in enumerate(rows["y"].to_pylist())]
    rows = rows.append_column("state", pa.array(told)).append_column("ticket", pa.array([f"t{i}" for i in range(ROWS)]))
    found = alarms(rows, use_case({"state": {"type": "category"}, "ticket": {"type": "category"}}))
    assert found["state"].leak
    assert not found["ticket"].leak
    assert "3,000 different words, of which the model knows 1,000" in found["ticket"].text


def test_value_known_after_the_event_is_named():
    """`known_at` is compared with the event time row by row, nulls left out."""
    rows = table()
    times = rows["at"].to_pylist()
    known = [None if i == 5 else t + timedelta(hours=1) if i < 40 else t for i, t in enumerate(times)]
    found = alarms(rows.append_column("amount_at", pa.array(known)), use_case(known_at={"amount": "amount_at"}))
    assert found["amount"].leak
    assert "after the event in 39 of 3,000 rows ('amount_at' is later than 'at')" in found["amount"].text


def test_known_at_without_times_is_refused():
    """A `known_at` column that holds no times is an error that names it."""
    with pytest.raises(DataError, match="'word'"):
        alarms(table(), use_case(known_at={"amount": "word"}))


def test_copies_of_train_rows_in_the_holdout_are_counted():
    """Holdout rows whose features are those of a train row are told with their share, and so is a repeated key."""
    rows = table()
    copied = rows.take(pa.array([*range(2900), *range(100)]))
    copied = copied.set_column(copied.column_names.index("at"), "at", rows["at"])
    found = alarms(copied, use_case())
    assert "16.7% of the holdout rows have the same features as a train row" in found["all features"].text
    assert "16.7% of the holdout rows have one that train rows have too" in found["id"].text


def test_missing_keys_are_no_copies_of_each_other():
    """Rows without a key share none: '' and null in train and holdout are no leak."""
    keys = [["", None, f"k{i}"][i % 3] for i in range(ROWS)]
    assert alarms(table(id=keys), use_case()) == {}


def test_missing_words_are_not_unknown_ones():
    """'' is missing and no word that the model does not know."""
    words = [["a", "b", "", None][i * 7 % 11 % 4] for i in range(ROWS)]
    assert alarms(table(word=words), use_case()) == {}


def test_random_split_of_repeated_entities_is_told():
    """With a random split, a customer in two parts is a leak; with a split by entity it is none."""
    found = alarms(table(), use_case(split={"strategy": "random"}))
    assert "split.strategy = 'entity'" in found["who"].text
    assert alarms(table(), use_case(split={"strategy": "entity"})) == {}


def test_features_that_cannot_help_are_named():
    """Empty, constant and infinite columns are named, but are no leaks."""
    rows = table(
        empty=pa.array([None] * ROWS, pa.float64()),
        always=np.full(ROWS, 7),
        one=["x"] * ROWS,
        endless=np.where(np.arange(ROWS) < 3, np.inf, np.random.default_rng(3).random(ROWS)),
    )
    kinds = {"empty": "number", "always": "integer", "one": "category", "endless": "number"}
    found = alarms(rows, use_case({name: {"type": kind} for name, kind in kinds.items()}))
    assert {name: alarm.leak for name, alarm in found.items()} == dict.fromkeys(kinds, False)
    assert "no value in any train row" in found["empty"].text
    assert "the same in every train row (7)" in found["always"].text
    assert "the same in every train row ('x')" in found["one"].text
    assert "infinite in 3 rows" in found["endless"].text


def test_row_hashes_tell_rows_apart():
    """Equal rows have equal hashes, whatever the sign of zero and the bits of NaN; others do not collide."""
    rng = np.random.default_rng(4)
    rows = rng.integers(0, 50, (50_000, 4)).astype(np.float32)
    assert len(np.unique(row_hashes(rows))) == len(np.unique(rows, axis=0))
    odd = np.frombuffer(np.uint32(0x7FC00001).tobytes(), np.float32)[0]
    same = row_hashes(np.array([[0.0, np.nan], [-0.0, odd]], np.float32))
    assert same[0] == same[1]
