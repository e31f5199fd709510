"""Batch scoring of a model with windows: of the table and its history, or as the table holds them already."""

from __future__ import annotations

import functools
import re
import shutil
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.distributed.pieces import Pieces, each_block_here, parquet_pieces
from data.errors import ConfigError, DataError
from data.feature_views.events.table_mark import with_mark
from data.feature_views.point_in_time import with_windows
from data.schema.events.event_paths import NOTHING_BESIDE, EventPaths
from data.schema.use_case import parse_use_case
from data.settings import Settings
from data.sources.atomic_output import write_table
from data.sources.parquet import Chunk, open_source
from data.transform.encoding import Transform
from ray_app.batch.scoring import part_name, plan, refused_name, score_rows
from ray_app.batch.written_windows import Scratch
from ray_app.inference.models.onnx_model import OnnxModel
from tests.support.training.models import card_bundle, card_table, train_bundle
from tests.support.training.scored_tables import scored_here
from tests.support.training.swipes import SWIPES, swipes_table
from tune.registry.bundle import Bundle

USE_CASE = parse_use_case(SWIPES.replace('amount_ratio = { expression = "amount / card_mean_3d" }', ""), "x")


@functools.cache
def bundle() -> Bundle:
    """A model of the swipes without the expression, which the pipeline computes."""
    return train_bundle(swipes_table(), USE_CASE)


def expected(table: pa.Table) -> list[float]:
    """The scores of rows that hold their windows."""
    return OnnxModel(bundle()).score(Transform(bundle().manifest.schema_).matrix(table)).ravel().tolist()


def planned(
    table: pa.Table, folder: Path, events: EventPaths = NOTHING_BESIDE, carry: str = "keys", memory_mb: int = 500
):
    """The job that scores a table, and its source."""
    write_table(table, folder / "in.parquet")
    source = open_source(folder / "in.parquet")
    (folder / "out").mkdir(exist_ok=True)
    settings = Settings(train_memory_mb=memory_mb)
    return plan(settings, bundle(), "7", scored_here(source, folder, events), folder / "out", carry), source


def score(table: pa.Table, folder: Path, events: EventPaths = NOTHING_BESIDE, carry: str = "keys") -> pa.Table:
    """Score a table as the command does, block by block, without Ray."""
    job, source = planned(table, folder, events, carry)
    done = dict(each_block_here(parquet_pieces(source, job.columns), partial(score_rows, job=job)))
    return pa.concat_tables([pq.read_table(folder / "out" / part_name(first)) for first in sorted(done)])


def test_scores_are_those_of_the_point_in_time_table(tmp_path: Path):
    """Every row is scored with the windows that training would have given it, in one row group or in many."""
    table = swipes_table(300)
    scored = score(table, tmp_path)
    assert scored.column("probability").to_pylist() == expected(with_windows(table, USE_CASE).table)


def test_history_counts_and_is_not_scored(tmp_path: Path):
    """Today's rows without labels have yesterday's as events: the scores of the whole table."""
    table = swipes_table(300)
    write_table(table.slice(0, 200), tmp_path / "history.parquet")
    today = table.slice(200).drop_columns(["fraud"])
    scored = score(today, tmp_path, EventPaths(tmp_path / "history.parquet"))
    early = table.slice(0, 200)
    whole = with_windows(table.slice(200).set_column(5, "fraud", pa.nulls(100, pa.int64())), USE_CASE, early).table
    assert scored.column("probability").to_pylist() == expected(whole)
    assert scored.num_rows == 100


def test_a_marked_table_is_taken_as_it_is(tmp_path: Path):
    """Windows that the table holds are scored, whatever they say."""
    table = with_windows(swipes_table(200), USE_CASE).table
    at = table.column_names.index("card_count_1d")
    table = table.set_column(at, "card_count_1d", pa.array([9] * 200))
    marked = table.cast(with_mark(table.schema, USE_CASE))
    assert score(marked, tmp_path).column("probability").to_pylist() == expected(table)


def test_a_column_of_the_name_of_a_window_is_carried_and_not_scored(tmp_path: Path):
    """What an unmarked table calls by a window's name is another thing; the output has it as it was."""
    table = swipes_table(200).append_column("card_count_1d", pa.array(["own"] * 200))
    scored = score(table, tmp_path, carry="card_count_1d")
    assert scored.column("card_count_1d").to_pylist() == ["own"] * 200
    assert scored.column("probability").to_pylist() == expected(with_windows(swipes_table(200), USE_CASE).table)


def test_refused_rows_are_no_events(tmp_path: Path):
    """A row that HTTP would refuse is written apart with its reason, and is in nobody's window."""
    table = swipes_table(200)
    amounts, cards = table.column("amount").to_pylist(), table.column("card").to_pylist()
    amounts[3], cards[10] = 1e15, "x" * 2000
    table = table.set_column(4, "amount", pa.array(amounts)).set_column(2, "card", pa.array(cards))
    scored = score(table, tmp_path)
    refused = pq.read_table(tmp_path / "out" / refused_name(0))
    assert refused.column("reasons").to_pylist() == [
        "amount: out of range for 2 decimal places",
        "card: not written as a key of type 'string'",
    ]
    good = table.take([row for row in range(200) if row not in (3, 10)])
    assert scored.column("probability").to_pylist() == expected(with_windows(good, USE_CASE).table)


def test_windows_of_a_large_table_are_those_of_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Refused rows are no events, labels may be absent, and each block finds the windows of its rows on disk."""
    table = swipes_table(5000)
    amounts = table.column("amount").to_pylist()
    amounts[3], amounts[4998] = 1e15, 1e15
    table = table.set_column(4, "amount", pa.array(amounts))
    write_table(table.slice(0, 2500), tmp_path / "history.parquet")
    today, events = table.slice(2500).drop_columns(["fraud"]), EventPaths(tmp_path / "history.parquet")
    for folder, memory_mb in (("large", 1), ("memory", 500)):
        (tmp_path / folder).mkdir()
        job, source = planned(today, tmp_path / folder, events, memory_mb=memory_mb)
        score_each(job, source, 700)
    large, memory = (scores(tmp_path / folder / "out") for folder in ("large", "memory"))
    assert large == memory and len(memory) == 2499
    assert "5,000 rows and events are more than the " in " ".join(capsys.readouterr().err.split())


def test_of_a_large_table_every_row_may_be_refused(tmp_path: Path):
    """Each is written apart with its reason, none is scored, as in memory."""
    table = swipes_table(2500)
    table = table.set_column(4, "amount", pa.array([1e15] * 2500))
    write_table(swipes_table(100), tmp_path / "history.parquet")
    refused = []
    for folder, memory_mb in (("large", 1), ("memory", 500)):
        (tmp_path / folder).mkdir()
        job, source = planned(table, tmp_path / folder, EventPaths(tmp_path / "history.parquet"), memory_mb=memory_mb)
        score_each(job, source, 1000)
        assert scores(tmp_path / folder / "out") == []
        parts = [pq.read_table(tmp_path / folder / "out" / refused_name(first)) for first in (0, 1000, 2000)]
        refused.append(pa.concat_tables(parts).drop_columns(["__file__"]))
    assert refused[0].equals(refused[1]) and refused[0].num_rows == 2500


def test_errors_of_a_large_table_are_those_of_memory(tmp_path: Path):
    """A broken file is named alone, the table where its values are at fault, whatever fits into memory."""
    table, history = swipes_table(2500), tmp_path / "history.parquet"
    texts = ["2024-01-01T10:00:00Z", *["2024-01-01T10:00:00"] * 2499]
    mixed = table.set_column(1, "at", pa.array(texts))
    words = table.set_column(4, "amount", pa.array(["a lot"] * 2500))
    for wrong, beside, said in [
        (table, False, rf"^{history}: truncated or not a Parquet file"),
        (mixed, True, r"^\S+in\.parquet: column 'at': some of its times name a zone and others none"),
        (words, True, r"^\S+in\.parquet: column 'amount'"),
    ]:
        write_table(swipes_table(100) if beside else table, history)
        if not beside:
            break_pages(history)
        told = [refusal(wrong, tmp_path / f"{memory_mb}", memory_mb, history) for memory_mb in (1, 500)]
        for text in told:
            assert re.search(said, text), text


def refusal(table: pa.Table, folder: Path, memory_mb: int, history: Path) -> str:
    """What is said of a table that cannot be scored."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with pytest.raises(DataError) as refused:
        planned(table, folder, EventPaths(history), memory_mb=memory_mb)
    return str(refused.value)


def break_pages(path: Path) -> None:
    """Damage a Parquet file up to its footer."""
    whole = path.read_bytes()
    path.write_bytes(b"PAR1" + b"\xff" * (len(whole) // 2) + whole[4 + len(whole) // 2 :])


def test_windows_that_a_machine_cannot_read_are_named_with_the_remedy(tmp_path: Path):
    """A worker that does not share the disk says which folder it needs."""
    job, source = planned(swipes_table(2500), tmp_path, memory_mb=1)
    shutil.rmtree(tmp_path / "windows")
    with pytest.raises(DataError, match=r"^\S+/windows\.parquet: the windows cannot be read here .*share this folder"):
        score_each(job, source, 2500)


def test_history_decides_where_the_windows_of_few_rows_are_computed(tmp_path: Path):
    """What is read for them is all that is counted: the rows, and the events beside them."""
    write_table(swipes_table(300), tmp_path / "in.parquet")
    write_table(swipes_table(5000, seed=4), tmp_path / "history.parquet")
    table = scored_here(open_source(tmp_path / "in.parquet"), tmp_path, EventPaths(tmp_path / "history.parquet"))
    asked = []

    def scratch(pieces: Pieces[Chunk]) -> Scratch:
        asked.append((pieces.rows, len(pieces.pieces)))
        return table.scratch(pieces)

    plan(Settings(train_memory_mb=1), bundle(), "7", table._replace(scratch=scratch), tmp_path / "out")
    assert asked == [(5300, 2)]


def score_each(job, source, rows: int) -> None:
    """Score a table in blocks of so many rows."""
    for block in parquet_pieces(source, job.columns).read(source.chunks[0]):
        for first in range(0, block.num_rows, rows):
            score_rows(block.slice(first, rows), job)


def scores(folder: Path) -> list[float]:
    """The scores of all parts, in order."""
    parts = sorted(folder.glob("part-*.parquet"))
    return [score for part in parts for score in pq.read_table(part).column("probability").to_pylist()]


def test_what_cannot_be_computed_is_refused_with_the_remedy(tmp_path: Path):
    """A column that windows need, and events that no window needs."""
    with pytest.raises(DataError, match=r"in\.parquet: column 'terminal' is missing"):
        planned(swipes_table(50).drop_columns(["terminal"]), tmp_path)
    with pytest.raises(ConfigError, match="--events other: events of that name are not needed"):
        planned(swipes_table(50), tmp_path, EventPaths(None, {"other": tmp_path / "in.parquet"}))
    write_table(card_table(50), tmp_path / "cards.parquet")
    cards = scored_here(open_source(tmp_path / "cards.parquet"), tmp_path, EventPaths(tmp_path / "in.parquet"))
    with pytest.raises(ConfigError, match="the model has no windows"):
        plan(Settings(), card_bundle(), "7", cards, tmp_path)


def test_another_history_is_another_job(tmp_path: Path):
    """Parts of a run with other events are not taken for those of this one."""
    write_table(swipes_table(50), tmp_path / "history.parquet")
    alone = planned(swipes_table(50), tmp_path)[0].fingerprint
    assert planned(swipes_table(50), tmp_path, EventPaths(tmp_path / "history.parquet"))[0].fingerprint != alone
