"""Tables as Ray datasets, steps over blocks as operators, and outputs that appear as a whole; on disk and on S3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import data
from data.distributed.parquet_folder import write_folder
from data.distributed.pieces import Pieces, Placement, parquet_pieces
from data.distributed.ray_data import dataset, each_block, has_node
from data.distributed.runner import runner
from data.errors import DataError
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source, read_table
from data.sources.row_origin import FILE, ROW, Origin, with_origin
from ray_app.__main__ import main as ray_app
from tests.support.services.object_store import ObjectStore, object_store
from tests.support.training.models import card_bundle, card_table, write_card_table
from tests.support.training.stored_cards import stored_cards
from tune.dataset.streaming import prepare_streaming

pytestmark = pytest.mark.ray


def numbers(piece: int) -> Iterator[pa.Table]:
    """The rows of a piece: its number, three times."""
    yield with_origin(pa.table({"x": [piece] * 3}), Origin("numbers", 3 * piece))


def broken(piece: int) -> Iterator[pa.Table]:
    """A piece of which the second cannot be read."""
    if piece == 1:
        raise DataError("piece 1 is broken")
    yield from numbers(piece)


def first(block: pa.Table) -> int:
    """The first number of a block."""
    return block["x"][0].as_py()


def odd(block: pa.Table) -> int:
    """The first number of a block, which must be even."""
    if first(block) % 2:
        raise DataError(f"{first(block)} is odd")
    return first(block)


def dying(block: pa.Table) -> int:
    """A step that takes its worker with it."""
    os._exit(1)


@pytest.mark.parametrize("concurrency", [None, 1, 3])
def test_every_piece_has_one_result(ray_cluster: None, concurrency: int | None):
    """However many run at once, each piece is read once, as one block."""
    pieces = Pieces("Numbers", range(20), numbers)
    assert sorted(each_block(pieces, first, placement=Placement(concurrency))) == list(range(20))


def test_small_results_are_those_of_every_piece(ray_cluster: None):
    """Tasks that wait in Ray, not in its budgets, read each piece once as well; in order where that is asked for."""
    pieces = Pieces("Numbers", range(20), numbers)
    assert sorted(each_block(pieces, first, small_results=True)) == list(range(20))
    assert list(each_block(pieces, first, in_order=True, small_results=True)) == list(range(20))
    assert list(each_block(Pieces("Numbers", [], numbers), first, small_results=True)) == []


def test_results_come_in_order_where_that_is_asked_for(ray_cluster: None):
    """In the order of the pieces, whichever is ready first."""
    assert list(each_block(Pieces("Numbers", range(12), numbers), first, in_order=True)) == list(range(12))


def test_nothing_to_read(ray_cluster: None):
    """No pieces give no results."""
    assert list(each_block(Pieces("Numbers", [], numbers), first)) == []


@pytest.mark.parametrize(
    ("pieces", "said"),
    [(Pieces("Numbers", [2, 7], numbers), "7 is odd"), (Pieces("Numbers", [0, 1], broken), "piece 1 is broken")],
)
def test_error_of_ours_reaches_the_caller_in_its_words(
    ray_cluster: None, pieces: Pieces[int], said: str, capfd: pytest.CaptureFixture[str]
):
    """What reading or a step raised is raised here, without Ray's words around it, and nothing is printed."""
    with pytest.raises(DataError, match=f"^{said}$"):
        list(each_block(pieces, odd))
    assert capfd.readouterr().err == ""


def test_worker_that_dies_every_time_is_an_error(ray_cluster: None):
    """A step that kills its worker whenever it is tried ends the run with words of ours."""
    with pytest.raises(DataError, match="a Ray worker failed and its work could not be repeated"):
        list(each_block(Pieces("Numbers", [1], numbers), dying))


def test_labels_that_no_node_has_are_known(ray_cluster: None):
    """Work without labels runs anywhere; work for a label waits where no node has it."""
    assert has_node(Placement())
    assert not has_node(Placement(labels={"pool": "moon"}))


def test_table_is_a_dataset_with_the_origin_of_its_rows(ray_cluster: None, tmp_path: Path):
    """`data.read` gives the declared columns, of every file, with the file and the number of each row in it."""
    for name, rows in (("b", 40), ("a", 30)):
        write_card_table(tmp_path / f"{name}.parquet", rows)
    found = data.read(stored_cards(), tmp_path)
    assert found.schema().names[:3] == [FILE, ROW, "amount"]
    rows = sorted((row[FILE], row[ROW], row["transaction_id"]) for row in found.take_all())
    keys = card_table(40)["transaction_id"].to_pylist()
    expected = [
        (f"{tmp_path}/{name}.parquet", row, keys[row]) for name, n in (("a", 30), ("b", 40)) for row in range(n)
    ]
    assert rows == expected
    # A program's own pipeline over it, as any other of Ray Data.
    assert found.filter(lambda row: row["amount"] > 0).count() == 70


def test_datasink_of_a_program_commits_as_a_whole(ray_cluster: None, tmp_path: Path):
    """A dataset that is written replaces the folder when all of it is there; one that fails changes nothing."""
    out = tmp_path / "out"
    write_table(pa.table({"x": [99]}), out / "old.parquet")
    with pytest.raises(Exception, match="piece 1 is broken"):
        dataset(Pieces("Numbers", [0, 1], broken)).write_datasink(data.ParquetDatasink(out))
    assert read_table(out)["x"].to_pylist() == [99]
    dataset(Pieces("Numbers", range(3), numbers)).write_datasink(data.ParquetDatasink(out))
    assert read_table(out).to_pydict() == {"x": [0, 0, 0, 1, 1, 1, 2, 2, 2]}
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


def test_folder_appears_after_its_last_block(ray_cluster: None, tmp_path: Path):
    """The way of the commands: rows in order, results as it goes, nothing there before its end or after an error."""
    out = tmp_path / "out"
    pieces = Pieces("Numbers", range(5), numbers)
    with runner(pieces) as run:
        for _ in write_folder(run, pieces, ["numbers"], out, first):
            assert not out.exists()
        assert read_table(out)["x"].to_pylist() == [number for number in range(5) for _ in range(3)]
        wrong = Pieces("Numbers", [0, 1], broken)
        with pytest.raises(DataError):
            list(write_folder(run, wrong, ["numbers"], tmp_path / "other", first))
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


@pytest.fixture(scope="module")
def bucket() -> Iterator[ObjectStore]:
    """An S3 server with a table of three files."""
    with object_store() as store:
        for number in range(3):
            with store.system.open_output_stream(f"tables/in/{number}.parquet") as stream:
                pq.write_table(card_table(2_000), stream, row_group_size=1_000)
        yield store


def test_table_of_an_object_store_is_read_and_written(ray_cluster: None, bucket: ObjectStore):
    """Rows come from S3 and go to S3, and the credentials in the address are not told on."""
    source = open_source(Path(bucket.url("in")))
    pieces = parquet_pieces(source, ["transaction_id"])
    with runner(pieces) as run:
        rows = sum(write_folder(run, pieces, list(source.first_rows), Path(bucket.url("copy")), pa.Table.__len__))
    assert rows == 6_000
    assert bucket.names("copy")[0] == "_SUCCESS"
    assert (
        read_table(bucket.url("copy"))["transaction_id"].to_pylist()
        == 3 * card_table(2_000)["transaction_id"].to_pylist()
    )
    assert source.report[0] == "read: s3://tables/in: 3 files, 6,000 rows"


def test_folder_with_other_objects_is_not_replaced(bucket: ObjectStore, tmp_path: Path):
    """What is no table is never deleted to make room for one, on a disk or behind a URL."""
    (tmp_path / "thesis.txt").write_text("precious")
    with bucket.system.open_output_stream("tables/kept/thesis.txt") as stream:
        stream.write(b"precious")
    for out in (tmp_path, bucket.url("kept")):
        with pytest.raises(DataError, match=r"holds 'thesis\.txt', which is not a Parquet file"):
            data.ParquetDatasink(out)
    card_bundle().save(tmp_path / "bundle")
    with pytest.raises(DataError, match=r"s3://tables/kept: holds 'thesis\.txt'"):
        ray_app(["score", "--bundle", str(tmp_path / "bundle"), bucket.url("in/0.parquet"), bucket.url("kept")])
    assert bucket.names("kept") == ["thesis.txt"]


def test_table_of_an_object_store_is_scored_into_it(ray_cluster: None, bucket: ObjectStore, tmp_path: Path):
    """`score` needs no disk that nodes share: parts, refused rows and output all lie in the bucket."""
    card_bundle().save(tmp_path / "bundle")
    command = ["score", "--bundle", str(tmp_path / "bundle"), bucket.url("in"), bucket.url("scored")]
    assert ray_app(command) == 0
    table = read_table(bucket.url("scored"))
    once = tmp_path / "once.parquet"
    assert ray_app(["score", "--bundle", str(tmp_path / "bundle"), bucket.url("in/0.parquet"), str(once)]) == 0
    assert table["probability"].to_pylist() == 3 * pq.read_table(once)["probability"].to_pylist()
    assert not bucket.names(".scored.partial")


def test_large_table_is_encoded_into_an_object_store(ray_cluster: None, bucket: ObjectStore, tmp_path: Path):
    """Shards that workers write to S3 hold what those on a disk do: nodes that train need not share one."""
    source, use_case = open_source(Path(bucket.url("in"))), stored_cards()
    found = []
    for folder in (Path(bucket.url("shards")), tmp_path / "shards"):
        _, prepared = prepare_streaming(source, use_case, folder, 3_000)
        assert prepared.shards is not None
        shards = prepared.shards.all
        blocks = list(shards.blocks(0, shards.rows))
        found.append(tuple(np.concatenate(arrays).tobytes() for arrays in zip(*blocks, strict=True)))
    assert found[0] == found[1]
    assert len(bucket.names("shards")) == 2 * 2 * 3
