"""The growing output of a pipeline: what is kept, what is not, and how it becomes the output."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source
from data.sources.partial_output import PartialOutput, open_parts, refuse_own_input, write_part

NAMES = [f"part-{i}.parquet" for i in range(3)]


def put(parts: PartialOutput, index: int, job: str = "job") -> None:
    """Put one finished part there."""
    write_part(parts.folder, NAMES[index], pa.table({"x": range(10 * index, 10 * index + 10)}), job)


def write_all(parts: PartialOutput) -> None:
    """Put all parts there."""
    for index in range(len(NAMES)):
        put(parts, index)


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_output_appears_in_order_and_nothing_is_left(name: str, tmp_path: Path):
    """Published parts are the output, in the order of their names, and the hidden folder is gone."""
    with open_parts(tmp_path / name, "job") as parts:
        write_all(parts)
        assert not (tmp_path / name).exists()
        parts.publish(NAMES)
    assert [item.name for item in tmp_path.iterdir()] == [name]
    assert pq.read_table(tmp_path / name).column("x").to_pylist() == list(range(30))


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_parts_outlive_a_run_that_fails(name: str, tmp_path: Path):
    """What was finished before a failure or Ctrl-C is found by the next run of the job, and the output is as before."""
    with pytest.raises(KeyboardInterrupt), open_parts(tmp_path / name, "job") as parts:
        put(parts, 1)
        raise KeyboardInterrupt
    assert not (tmp_path / name).exists()
    with open_parts(tmp_path / name, "job") as parts:
        assert [parts.metadata(name) is not None for name in NAMES] == [False, True, False]
        parts.clear(keep=NAMES[1:2])
        put(parts, 0)
        put(parts, 2)
        parts.publish(NAMES)
    assert pq.read_table(tmp_path / name).column("x").to_pylist() == list(range(30))


def test_parts_of_another_job_are_not_finished(tmp_path: Path):
    """A part of another job, or a broken one, counts for nothing, and is cleared."""
    with open_parts(tmp_path / "out", "job") as parts:
        put(parts, 0, job="another")
        (parts.folder / NAMES[1]).write_bytes(b"PAR1")
        assert not any(map(parts.metadata, NAMES))
        parts.clear()
        assert not list(parts.folder.glob("*.parquet"))


def test_what_a_killed_worker_left_is_not_published(tmp_path: Path):
    """A part whose writer was killed on the way is in no output: the next run would take it for a foreign file."""
    for _ in range(2):
        with open_parts(tmp_path / "out", "job") as parts:
            write_all(parts)
            (parts.folder / f".{NAMES[1]}.4711.partial").write_bytes(b"PAR1")
            parts.publish(NAMES)
        assert sorted(item.name for item in (tmp_path / "out").iterdir()) == NAMES


def test_fresh_forgets_what_is_done(tmp_path: Path):
    """Asked to begin anew, no earlier part is left."""
    with pytest.raises(KeyboardInterrupt), open_parts(tmp_path / "out", "job") as parts:
        write_all(parts)
        raise KeyboardInterrupt
    with open_parts(tmp_path / "out", "job", fresh=True) as parts:
        assert not any(map(parts.metadata, NAMES))


def test_failure_before_the_first_part_leaves_nothing(tmp_path: Path):
    """A run that finished nothing leaves no hidden folder."""
    with pytest.raises(DataError), open_parts(tmp_path / "out", "job"):
        raise DataError("no")
    assert list(tmp_path.iterdir()) == []


def test_second_run_of_the_same_output_is_refused(tmp_path: Path):
    """Two runs do not write one output: the later is refused and the earlier goes on."""
    with open_parts(tmp_path / "out", "job") as parts:
        with pytest.raises(DataError, match="out: another run is writing it"), open_parts(tmp_path / "out", "job"):
            pass
        write_all(parts)
        parts.publish(NAMES)
    assert pq.read_table(tmp_path / "out").num_rows == 30


def test_earlier_output_is_replaced_in_whole(tmp_path: Path):
    """An earlier folder's files do not mix with the new ones, and an earlier file is replaced."""
    out = tmp_path / "out"
    out.mkdir()
    pq.write_table(pa.table({"x": [0]}), out / "part-00099.parquet")
    with open_parts(out, "job") as parts:
        write_all(parts)
        parts.publish(NAMES)
    assert sorted(file.name for file in out.iterdir()) == NAMES


@pytest.mark.parametrize(
    ("name", "reason"), [("thesis", "which is not a Parquet file"), ("dir.parquet", "is a folder"), ("f", "is a file")]
)
def test_place_taken_by_something_else_is_refused(name: str, reason: str, tmp_path: Path):
    """A folder with other files, a folder named as a file and a file named as a folder are refused before scoring."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").touch()
    (tmp_path / "dir.parquet").mkdir()
    (tmp_path / "f").touch()
    with pytest.raises(DataError, match=reason), open_parts(tmp_path / name, "job"):
        pass
    assert not list(tmp_path.glob(".*"))


def test_place_that_cannot_be_written_is_named(tmp_path: Path):
    """An output below a file is refused with its path."""
    (tmp_path / "f").touch()
    with pytest.raises(DataError, match="f/out: cannot be written"), open_parts(tmp_path / "f" / "out", "job"):
        pass


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("in/a.parquet", "in/a.parquet"),
        ("in", "in"),
        ("in", "in/scored"),
        ("in", "in/sub/scored.parquet"),
        ("in/a.parquet", "in"),
        ("in/sub", "in"),
        ("link", "in"),
        ("in", "link"),
        ("linked.parquet", "in/a.parquet"),
        ("folder of links", "in"),
        ("in", "in/../in/scored.parquet"),
        (".in.partial", "in"),
    ],
)
def test_output_that_would_change_its_input_is_refused(source: str, out: str, tmp_path: Path):
    """An output that is the input, lies within it or holds it is refused, by whatever link; the table stays."""
    for name in ("in/a.parquet", "in/sub/b.parquet", ".in.partial/c.parquet"):
        write_table(pa.table({"x": [1]}), tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    (tmp_path / "linked.parquet").symlink_to(tmp_path / "in" / "a.parquet")
    (tmp_path / "folder of links").mkdir()
    (tmp_path / "folder of links" / "b.parquet").symlink_to(tmp_path / "in" / "sub" / "b.parquet")
    with pytest.raises(DataError, match=r"would change the input .*name another output"):
        refuse_own_input(open_source(tmp_path / source), tmp_path / out)


@pytest.mark.parametrize(("source", "out"), [("in/a.parquet", "in/b.parquet"), ("in/sub", "in/b"), ("in", "inner")])
def test_output_beside_its_input_is_fine(source: str, out: str, tmp_path: Path):
    """A neighbour of the table, in its folder too, is an output like any other."""
    for name in ("in/a.parquet", "in/sub/b.parquet"):
        write_table(pa.table({"x": [1]}), tmp_path / name)
    refuse_own_input(open_source(tmp_path / source), tmp_path / out)
