"""Batch scoring: the scores are those of HTTP, bit for bit, whatever the file leaves to the store."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.distributed.pieces import each_block_here, parquet_pieces
from data.errors import DataError, StoreUnavailable
from data.settings import Settings
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source
from data.transform.encoding import Transform
from ray_app.batch import scoring
from ray_app.batch.scoring import part_name, plan, refused_name, score_rows
from ray_app.inference.models.onnx_model import OnnxModel
from tests.support.serving.predict_app import ServedApp, build_app, local_store, manifest, run, write_store
from tests.support.training.models import card_bundle, card_table
from tests.support.training.scored_tables import scored_here
from tune.registry.bundle import Bundle

ONLINE = ("device_trust_score", "velocity_last_24h", "cardholder_age")
SENT = ("user_id", *manifest().schema_.names)


@pytest.fixture(scope="module")
def store_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that knows two of three users of the table, zeros and gaps among the values."""
    users = sorted(set(card_table(200).column("user_id").to_pylist()))
    values = {
        user: {"device_trust_score": 0 if i % 2 else 77, "velocity_last_24h": i, "cardholder_age": None}
        for i, user in enumerate(users)
        if i % 3
    }
    return write_store(tmp_path_factory.mktemp("store") / "online.db", values)


def score(
    table: pa.Table, folder: Path, store_file: Path, bundle: Bundle | None = None, carry: str = "keys"
) -> pa.Table:
    """Score a table as the command does, chunk by chunk, without Ray."""
    write_table(table, folder / "in.parquet")
    source = open_source(folder / "in.parquet")
    out = folder / "out"
    out.mkdir()
    job = plan(Settings(sqlite_file=store_file), bundle or card_bundle(), "7", scored_here(source, folder), out, carry)
    done = dict(each_block_here(parquet_pieces(source, job.columns), partial(score_rows, job=job)))
    assert sum(counts.rows for counts in done.values()) == table.num_rows
    return pa.concat_tables([pq.read_table(out / part_name(first)) for first in sorted(done)])


def asked(served: ServedApp, table: pa.Table) -> list[dict[str, Any]]:
    """The HTTP answers for the same rows, absent and null fields left out."""
    names = [name for name in SENT if name in table.column_names]
    rows = [{k: v for k, v in row.items() if v is not None and v == v} for row in table.select(names).to_pylist()]
    return run(served.post(rows)).json()


def with_nulls(table: pa.Table) -> pa.Table:
    """The table with every second value of the online columns missing, as null or, in a float column, as NaN."""
    for i, name in enumerate(ONLINE):
        kind, absent = (pa.float64(), float("nan")) if i == 1 else (pa.int64(), None)
        values = [absent if (row + i) % 2 else value for row, value in enumerate(table.column(name).to_pylist())]
        table = table.set_column(table.column_names.index(name), name, pa.array(values, kind))
    return table


def unseen(table: pa.Table) -> pa.Table:
    """The table with a merchant that training never saw, its words dictionary-encoded."""
    words = ["zeppelins" if i % 5 == 0 else word for i, word in enumerate(table["merchant_category"].to_pylist())]
    at = table.column_names.index("merchant_category")
    return table.set_column(at, "merchant_category", pa.array(words).dictionary_encode())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda table: table, id="online columns in the file"),
        pytest.param(lambda table: table.drop_columns(ONLINE), id="absent"),
        pytest.param(with_nulls, id="nulls"),
        pytest.param(unseen, id="unseen words"),
    ],
)
def test_scores_equal_those_of_http(change: Any, tmp_path: Path, store_file: Path):
    """Each row scores the same bits and gets the same label as over HTTP, and its key and version come along."""
    table = change(card_table(200))
    scored = score(table, tmp_path, store_file)
    features = local_store(store_file)
    answers = asked(build_app(features), table)
    features.close()
    assert scored.column("probability").type == pa.float32()
    assert scored.column("probability").to_pylist() == [answer["probability"] for answer in answers]
    assert scored.column("label").to_pylist() == [answer["label"] for answer in answers]
    assert scored.column_names == ["transaction_id", "user_id", "timestamp", "probability", "label", "model_version"]
    for name in ("transaction_id", "user_id", "timestamp"):
        assert scored.column(name) == table.column(name)
    assert set(scored.column("model_version").to_pylist()) == {"7"}


@pytest.mark.parametrize("batch_rows", [1, 64, 100])
def test_scores_do_not_depend_on_batches(
    batch_rows: int, tmp_path: Path, store_file: Path, monkeypatch: pytest.MonkeyPatch
):
    """A block that is scored in several batches, the last one short, has the scores of the whole block, in order."""
    table = with_nulls(card_table(100))
    (tmp_path / "whole").mkdir()
    (tmp_path / "batches").mkdir()
    whole = score(table, tmp_path / "whole", store_file)
    monkeypatch.setattr(scoring, "_BATCH_ROWS", batch_rows)
    assert score(table, tmp_path / "batches", store_file).equals(whole)


def test_store_is_used_where_the_file_has_nothing(tmp_path: Path, store_file: Path):
    """Scores with and without the online columns differ: the store's values are really taken."""
    table = card_table(100)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    full = score(table, tmp_path / "a", store_file)
    bare = score(table.drop_columns(ONLINE), tmp_path / "b", store_file)
    assert full.column("probability") != bare.column("probability")


def test_rows_that_http_refuses_are_told_by_column_and_reason(tmp_path: Path, store_file: Path):
    """What HTTP answers with 422 is left out of the scores, counted by column and reason, and kept with both."""
    table = card_table(50)
    for name, row, wrong in (
        ("amount", 3, -1.0),
        ("amount", 4, None),
        ("transaction_hour", 4, 7.5),
        ("user_id", 7, None),
    ):
        values = table.column(name).to_pylist()
        values[row] = wrong
        kind = pa.float64() if name == "transaction_hour" else table.schema.field(name).type
        table = table.set_column(table.column_names.index(name), name, pa.array(values, kind))
    scored = score(table, tmp_path, store_file)
    kept = [row for row in range(50) if row not in (3, 4, 7)]
    assert scored.column("transaction_id") == table.column("transaction_id").take(pa.array(kept))
    refused = pq.read_table(tmp_path / "out" / refused_name(0))
    assert refused.column("__row__").to_pylist() == [3, 4, 7]
    assert refused.column("reasons").to_pylist() == [
        "amount: below the smallest accepted value 0",
        "amount: missing; transaction_hour: not a whole number",
        "user_id: missing",
    ]
    rows = table.select([name for name in SENT if name in table.column_names]).to_pylist()
    served = build_app(None)
    for row, item in enumerate(rows):
        sent = {name: value for name, value in item.items() if value is not None}
        assert run(served.post(sent)).status_code == (200 if row in kept else 422)


def test_carried_column_named_as_the_reasons_is_kept_beside_them(tmp_path: Path, store_file: Path):
    """Refused rows that have a column `reasons` keep it, and what is wrong with them stands in `reasons_2`."""
    table = card_table(3).append_column("reasons", pa.array(["mine"] * 3))
    at = table.column_names.index("amount")
    score(table.set_column(at, "amount", pa.array([-1.0, 1.0, 1.0])), tmp_path, store_file, carry="all")
    refused = pq.read_table(tmp_path / "out" / refused_name(0))
    assert refused.column("reasons").to_pylist() == ["mine"]
    assert refused.column("reasons_2").to_pylist() == ["amount: below the smallest accepted value 0"]


def test_words_never_seen_are_counted(tmp_path: Path, store_file: Path):
    """A word that the model was not trained on is scored as over HTTP, and counted by column with examples."""
    source = write_table(unseen(card_table(200)), tmp_path / "in.parquet") or open_source(tmp_path / "in.parquet")
    (tmp_path / "out").mkdir()
    job = plan(Settings(sqlite_file=store_file), card_bundle(), "7", scored_here(source, tmp_path), tmp_path / "out")
    ((_, counts),) = each_block_here(parquet_pieces(source, job.columns), partial(score_rows, job=job))
    assert counts.unseen == {"merchant_category": 40}
    assert counts.unseen_words == {"merchant_category": ["zeppelins"]}
    assert not counts.refused_rows


def test_table_of_features_alone(tmp_path: Path, store_file: Path):
    """A table with every feature needs neither key, entity, event time nor store."""
    table = card_table(20).select(list(manifest().schema_.names))
    assert score(table, tmp_path, tmp_path / "none.db").column_names == ["probability", "label", "model_version"]


def test_missing_required_column_is_named(tmp_path: Path, store_file: Path):
    """A table without a required feature is refused with file and column before anything is scored."""
    with pytest.raises(DataError, match=r"in\.parquet: column 'amount' is missing; the table has: "):
        score(card_table(20).drop_columns(["amount"]), tmp_path, store_file)


def test_missing_entity_is_named_when_the_store_is_needed(tmp_path: Path, store_file: Path):
    """A table that leaves features to the store must have the entity."""
    with pytest.raises(DataError, match=r"in\.parquet: column 'user_id' is missing"):
        score(card_table(20).drop_columns(["user_id", "cardholder_age"]), tmp_path, store_file)


def test_missing_store_is_a_clear_error(tmp_path: Path):
    """When online values are needed and there is no store, the error says where it was looked for and what to do."""
    with pytest.raises(StoreUnavailable, match=r"no online store at .*none\.db; .*materialize"):
        score(card_table(20).drop_columns(ONLINE), tmp_path, tmp_path / "none.db")
    assert list((tmp_path / "out").iterdir()) == []


def test_column_of_another_type_names_file_and_column(tmp_path: Path, store_file: Path):
    """A column that cannot hold its feature is refused with file, column, type and what was expected."""
    table = card_table(20)
    at = table.column_names.index("amount")
    wrong = table.set_column(at, "amount", pa.array(["a lot"] * 20))
    with pytest.raises(DataError, match=r"in\.parquet: column 'amount' holds string, expected numbers"):
        score(wrong, tmp_path, store_file)


def test_output_gives_way_to_columns_of_its_names(tmp_path: Path, store_file: Path):
    """A carried column keeps its name and values; the output's own columns then have a prefix, all of them."""
    table = card_table(20).rename_columns({"is_fraud": "label"})
    scored = score(table, tmp_path, store_file, carry="label")
    assert scored.column("label") == table.column("label")
    assert scored.column_names == ["label", "predicted_probability", "predicted_label", "predicted_model_version"]


@pytest.mark.parametrize(
    ("carry", "carried"),
    [
        ("keys", ["transaction_id", "user_id", "timestamp"]),
        ("all", card_table(1).column_names),
        ("is_fraud, amount", ["is_fraud", "amount"]),
    ],
)
def test_columns_are_carried_by_choice(carry: str, carried: list[str], tmp_path: Path, store_file: Path):
    """Keys, all columns, or those named come along, unchanged in values and type; nothing else does."""
    table = card_table(30)
    scored = score(table, tmp_path, store_file, carry=carry)
    assert scored.column_names == [*carried, "probability", "label", "model_version"]
    for name in carried:
        assert scored.column(name) == table.column(name)
        assert scored.schema.field(name).type == table.schema.field(name).type


def test_odd_columns_are_carried(tmp_path: Path, store_file: Path):
    """Lists, structs, dictionaries, decimals, dates and nulls of the input come out as they went in."""
    table = card_table(4)
    odd = {
        "tags": pa.array([["a"], [], None, ["b", "c"]]),
        "place": pa.array([{"x": 1.5, "y": 2}, None, {"x": None, "y": 0}, {"x": 0.0, "y": 1}]),
        "word": pa.array(["a", "b", None, "a"]).dictionary_encode(),
        "price": pa.array([1, None, 3, 4]).cast(pa.decimal128(22, 2)),
        "day": pa.array([1, 2, None, 4], pa.int32()).cast(pa.date32()),
        "wide": pa.array([2**64 - 1, 0, None, 1], pa.uint64()),
        "small": pa.array([-128, 127, None, 0], pa.int8()),
        "nothing": pa.nulls(4),
        "a.b": pa.array([1, 2, 3, None]),
    }
    for name, values in odd.items():
        table = table.append_column(name, values)
    scored = score(table, tmp_path, store_file, carry=",".join(odd))
    for name, values in odd.items():
        assert scored.column(name).to_pylist() == values.to_pylist()
        assert scored.schema.field(name).type == table.schema.field(name).type


def test_column_to_carry_that_is_not_there_is_named(tmp_path: Path, store_file: Path):
    """A name after --carry that the table lacks is refused, with the columns that there are."""
    with pytest.raises(DataError, match=r"in\.parquet: column 'colour' is missing; the table has: transaction_id, "):
        score(card_table(3), tmp_path, store_file, carry="amount,colour")


def test_batches_and_row_groups_change_no_score(tmp_path: Path, store_file: Path):
    """A chunk longer than several batches scores as the inference path scores it in one go, rows in order."""
    table = card_table(140_000)
    scored = score(table, tmp_path, store_file)
    model = OnnxModel(card_bundle())
    expected = model.score(Transform(manifest().schema_).matrix(table))
    assert scored.column("transaction_id") == table.column("transaction_id")
    assert scored.column("probability").to_numpy().tobytes() == expected.tobytes()


def test_part_that_cannot_be_scored_is_not_there(tmp_path: Path, store_file: Path):
    """A chunk whose pages are damaged is refused by its file's name, and leaves neither a part nor a beginning."""
    table = card_table(5000)
    pq.write_table(table, tmp_path / "in.parquet", compression="none", use_dictionary=False)
    whole = (tmp_path / "in.parquet").read_bytes()
    source = open_source(tmp_path / "in.parquet")
    job = plan(Settings(sqlite_file=store_file), card_bundle(), "7", scored_here(source, tmp_path), tmp_path / "out")
    (tmp_path / "in.parquet").write_bytes(b"PAR1" + b"\xff" * (len(whole) // 2) + whole[4 + len(whole) // 2 :])
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"in\.parquet: truncated or not a Parquet file"):
        list(each_block_here(parquet_pieces(source, job.columns), partial(score_rows, job=job)))
    assert list((tmp_path / "out").iterdir()) == []
