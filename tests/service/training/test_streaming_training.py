"""Large tables, at a small size: streamed into shards, with a sample in memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from data.errors import DataError
from data.feature_views.point_in_time import point_in_time
from data.settings import Settings
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source
from tests.support.training.models import card_table
from tests.support.training.stored_cards import stored_cards
from tune.dataset.encoded_examples import prepare
from tune.dataset.loading import prepared_table
from tune.dataset.streaming import prepare_streaming, rows_in_memory
from tune.dataset.training_table import load_training_table

pytestmark = pytest.mark.ray
ROWS = 4000


def write_files(folder, table, files=4):
    """The table in some files, each a task of its own."""
    size = -(-table.num_rows // files)
    for number in range(files):
        write_table(table.slice(number * size, size), folder / f"{number}.parquet")
    return folder


@pytest.fixture
def cards(tmp_path):
    """Card transactions in four files."""
    return write_files(tmp_path / "cards", card_table(ROWS))


def divided(strategy):
    """The card use case, with a strategy of the split."""
    declared = stored_cards()
    return declared.model_copy(update={"split": declared.split.model_copy(update={"strategy": strategy})})


def values(shards):
    """All rows of the shards in order, labels last."""
    blocks = [np.column_stack([x, y]) for x, y in shards.blocks(0, shards.rows)]
    return np.concatenate(blocks)


@pytest.mark.parametrize("strategy", ["time", "random", "entity"])
def test_whole_table_is_prepared_as_it_is_in_memory(ray_cluster, cards, tmp_path, strategy):
    """A sample of everything, however split: what is prepared, rows and profile too, is that of the table in memory."""
    use_case = divided(strategy)
    source, prepared = prepare_streaming(open_source(cards), use_case, tmp_path / "shards", ROWS)
    whole = load_training_table(cards, use_case)
    expected = prepare(whole, use_case)
    assert source.fingerprint == whole.fingerprint
    assert source.table.equals(whole.table)
    assert prepared.schema == expected.schema
    assert prepared.profile == expected.profile
    assert [part.tolist() for part in prepared.parts] == [part.tolist() for part in expected.parts]
    train = np.column_stack([expected.train.x, expected.train.y])
    assert np.array_equal(values(prepared.shards.train), train, equal_nan=True)
    others = np.concatenate([np.column_stack([part.x, part.y]) for part in (expected.validation, expected.holdout)])
    found = values(prepared.shards.others)
    assert sorted(map(bytes, found)) == sorted(map(bytes, others))
    assert np.array_equal(prepared.holdout.x, expected.holdout.x, equal_nan=True)


def test_sample_is_bounded_and_the_shards_are_not(ray_cluster, cards, tmp_path):
    """A quarter of the rows is searched on, drawn evenly; every train row is on disk for the final fit."""
    use_case = stored_cards()
    source, prepared = prepare_streaming(open_source(cards), use_case, tmp_path / "shards", ROWS // 4)
    assert source.rows == ROWS
    assert source.table.num_rows == pytest.approx(ROWS // 4, rel=0.1)
    assert [len(part) / source.table.num_rows for part in prepared.parts] == pytest.approx([0.6, 0.2, 0.2], abs=0.05)
    assert (prepared.shards.train.rows, prepared.shards.all.rows) == (ROWS * 6 // 10, ROWS)
    again, _ = prepare_streaming(open_source(cards), use_case, tmp_path / "shards", ROWS // 4)
    assert again.table.equals(source.table)
    assert again.fingerprint == source.fingerprint


def test_entity_is_not_shared_between_parts(ray_cluster, cards, tmp_path):
    """Split by entity: no user of the train shards is in validation or holdout."""
    source, prepared = prepare_streaming(open_source(cards), divided("entity"), tmp_path / "shards", ROWS)
    users = np.array(source.table["user_id"])
    train, validation, holdout = (set(users[part]) for part in prepared.parts)
    assert not (train & validation or train & holdout or validation & holdout)
    assert prepared.shards.train.rows == len(prepared.parts.train)


def spoiled():
    """Tables whose third file or whole cannot be learned from, and what is said."""
    whole = card_table(ROWS)
    at = whole.column_names.index("is_fraud")
    labels = whole["is_fraud"].to_numpy().copy()
    third = np.where(np.arange(ROWS) == 2500, 2, labels)
    early = np.where(np.arange(ROWS) < 3100, labels, 0)
    absent = pa.array([None if row == 2500 else label for row, label in enumerate(labels.tolist())])
    words = whole.set_column(whole.column_names.index("amount"), "amount", pa.array(["much"] * ROWS))
    large = pa.array(4_000_000_001 + np.arange(ROWS) % 1000)
    codes = whole.set_column(whole.column_names.index("amount"), "amount", large)
    return [
        (whole.set_column(at, "is_fraud", pa.array(third)), r"2\.parquet: .*'is_fraud' holds 0, 1, 2"),
        (whole.set_column(at, "is_fraud", absent), r"2\.parquet: label column 'is_fraud' is missing in 1 rows"),
        (whole.set_column(at, "is_fraud", pa.array(early)), "the holdout part without both labels .800 rows, 0 of"),
        (words, "column 'amount' holds string, expected numbers"),
        (
            codes,
            "column 'amount': 1,000 different values become [45] in 32-bit floating point.*declare it as a category",
        ),
        (whole.drop_columns(["cardholder_age"]), "column 'cardholder_age' is missing"),
    ]


@pytest.mark.parametrize(
    ("table", "said"), spoiled(), ids=["third label", "null label", "one label", "type", "merged", "column"]
)
def test_bad_table_is_named_and_leaves_nothing(ray_cluster, tmp_path, table, said):
    """What is wrong is told with file and column, and no shard is left."""
    cards = write_files(tmp_path / "cards", table)
    with pytest.raises(DataError, match=said):
        prepare_streaming(open_source(cards), stored_cards(), tmp_path / "var" / "shards", ROWS)
    assert not (tmp_path / "var").exists() or list((tmp_path / "var").iterdir()) == []


def test_size_decides_how_a_table_is_taken_in(ray_cluster, tmp_path, capsys):
    """Up to the rows that the setting allows: in memory. Above: streamed, told, cleared after; and what was read."""
    use_case = stored_cards()
    cards = write_files(tmp_path / "cards", point_in_time(card_table(ROWS), use_case).table)
    with prepared_table(cards, use_case, Settings(var_dir=tmp_path / "var")) as (source, prepared):
        assert (source.sampled_from, prepared.shards) == (None, None)
    assert capsys.readouterr().err == f"read: {cards}: 4 files, {ROWS:,} rows\n"
    fits = rows_in_memory(len(use_case.columns), 1)
    assert fits < ROWS
    with prepared_table(cards, use_case, Settings(var_dir=tmp_path / "var", train_memory_mb=1)) as (source, prepared):
        assert source.table.num_rows < ROWS == source.rows
        assert prepared.shards.train.folder.is_dir()
    assert f"more than the {fits:,} that RAYSCORE_TRAIN_MEMORY_MB=1 allows" in " ".join(capsys.readouterr().err.split())
    assert list((tmp_path / "var" / "shards").iterdir()) == []
