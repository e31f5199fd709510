"""The columns of batch scoring for every kind of target: values as HTTP answers them, in types that suit them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.distributed.pieces import each_block_here, parquet_pieces
from data.settings import Settings
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source
from ray_app.batch.scoring import part_name, plan, refused_name, score_rows
from tests.support.serving.made_models import OUTPUTS, ROWS, made_bundle
from tests.support.serving.predict_app import build_app, run
from tests.support.training.scored_tables import scored_here

WORDS = pa.dictionary(pa.int8(), pa.string())
PROBABILITY, VERSION = ("probability", pa.float32()), ("model_version", WORDS)


def score(kind: str, table: pa.Table, folder: Path, carry: str = "keys") -> pa.Table:
    """Score a table as the command does, without Ray, and return its rows."""
    write_table(table, folder / "in.parquet")
    source = open_source(folder / "in.parquet")
    (folder / "out").mkdir()
    job = plan(Settings(), made_bundle(kind), "7", scored_here(source, folder), folder / "out", carry)
    done = dict(each_block_here(parquet_pieces(source, job.columns), partial(score_rows, job=job)))
    parts = [pq.read_table(folder / "out" / part_name(first)) for first in sorted(done)]
    assert all(part.schema.equals(job.schema) for part in parts)
    return pa.concat_tables(parts)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("digits", [PROBABILITY, ("label", pa.int8())]),
        ("words", [PROBABILITY, ("label", WORDS)]),
        (
            "classes",
            [
                ("label", WORDS),
                PROBABILITY,
                *((f"probability_{each}", pa.float32()) for each in ("low", "mid", "high")),
            ],
        ),
        (
            "grades",
            [("label", pa.int64()), PROBABILITY, *((f"probability_{each}", pa.float32()) for each in (3, 1, 2))],
        ),
        ("order", [("score", pa.float32())]),
        ("amount", [("prediction", pa.float32()), ("interval_low", pa.float64()), ("interval_high", pa.float64())]),
    ],
)
def test_columns_have_names_and_types_of_their_kind(kind: str, fields: list[tuple[str, pa.DataType]], tmp_path: Path):
    """Probabilities are float32, labels 0 and 1 int8, other whole ones int64, words a dictionary, ends float64."""
    scored = score(kind, pa.Table.from_pylist(ROWS), tmp_path)
    found = [(field.name, field.type) for field in scored.schema]
    assert found == [("customer", pa.string()), *fields, VERSION]


@pytest.mark.parametrize("kind", OUTPUTS)
def test_values_are_those_of_http(kind: str, tmp_path: Path):
    """Every column of a row has the value, to the bit, that HTTP answers for it."""
    scored = score(kind, pa.Table.from_pylist(ROWS), tmp_path).to_pylist()
    for row, answer in zip(scored, run(build_app(bundle=made_bundle(kind)).post(ROWS)).json(), strict=True):
        told = {f"probability_{label}": each for label, each in answer.get("probabilities", {}).items()}
        told |= {name: answer[name] for name in ("probability", "label", "prediction", "score") if name in answer}
        told |= dict(zip(("interval_low", "interval_high"), answer.get("interval", ()), strict=False))
        assert row == {"customer": row["customer"], **told, "model_version": "7"}


def test_all_columns_give_way_to_a_carried_one(tmp_path: Path):
    """Where one of the names is carried, every column of the answer has the prefix, so that they stay together."""
    table = pa.Table.from_pylist(ROWS).append_column("probability_mid", pa.array([1, 2, 3, 4]))
    scored = score("classes", table, tmp_path, carry="probability_mid")
    names = ["label", "probability", "probability_low", "probability_mid", "probability_high", "model_version"]
    assert scored.column_names == ["probability_mid", *(f"predicted_{name}" for name in names)]
    assert scored.column("probability_mid").to_pylist() == [1, 2, 3, 4]


def test_refused_rows_are_left_out_whatever_is_answered(tmp_path: Path):
    """A row that HTTP would refuse is in no column of words, and is written with its reason."""
    rows = [{**row, "amount": None if at == 1 else row["amount"]} for at, row in enumerate(ROWS)]
    scored = score("words", pa.Table.from_pylist(rows), tmp_path)
    assert scored.column("label").to_pylist() == ["no", "yes", "yes"]
    refused = pq.read_table(tmp_path / "out" / refused_name(0))
    assert refused.column("reasons").to_pylist() == ["amount: missing"]


def test_a_block_without_scored_rows_has_the_same_columns(tmp_path: Path):
    """Of rows that are all refused nothing is left but the columns, words among them."""
    rows = [{**row, "amount": None} for row in ROWS]
    table = pa.Table.from_pylist(
        rows, pa.schema([("customer", pa.string()), ("amount", pa.float64()), ("age", pa.float64())])
    )
    scored = score("classes", table, tmp_path)
    assert scored.num_rows == 0
    assert scored.schema.field("label").type == WORDS
