"""The files of a folder: what is read, and that everything else is named."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError
from data.sources.parquet import open_source, read_table
from data.sources.table_files import table_files


def put(path: Path, rows: int = 1) -> None:
    """Write a Parquet file, whatever its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"x": range(rows)}), path)


def found(folder: Path) -> tuple[list[str], dict[str, str]]:
    """What is read and what is not, with the reason, by names within the folder."""
    files = table_files(folder)
    read = [str(file.path.relative_to(folder)) for file in files.files]
    return read, {each.name: each.reason for each in files.unread}


@pytest.mark.parametrize(
    "name",
    [
        "a.parquet",
        "a.PARQUET",
        "a.pq",
        "a.parq",
        "a.parquet.snappy",
        "a.snappy.parquet",
        "a.parquet.gz",
        "part-0000",
        "a.b/c d/0.Parquet",
        "noending.2024",
    ],
)
def test_parquet_is_read_whatever_its_name(name: str, tmp_path: Path):
    """A file is Parquet by its ending, in any case, or by its first bytes."""
    put(tmp_path / name, 3)
    assert found(tmp_path) == ([name], {})
    assert read_table(tmp_path).num_rows == 3


def test_every_other_file_is_named_with_the_reason(tmp_path: Path):
    """Hidden, empty, foreign and irregular files are not read, and none of them in silence."""
    put(tmp_path / "a.parquet")
    put(tmp_path / ".hidden.parquet")
    put(tmp_path / "_temporary" / "0" / "b.parquet")
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "empty").touch()
    (tmp_path / "notes.txt").write_text("PARquet")
    (tmp_path / "t.CSV.gz").write_text("a,b")
    os.mkfifo(tmp_path / "pipe")
    read, unread = found(tmp_path)
    assert read == ["a.parquet"]
    assert unread == {
        ".hidden.parquet": "'.' begins a hidden name",
        "_SUCCESS": "'_' begins a hidden name",
        "_temporary/0/b.parquet": "'_' begins a hidden name",
        "empty": "empty",
        "notes.txt": "not Parquet",
        "pipe": "neither a file nor a folder",
        "t.CSV.gz": "CSV: 'rayscore convert' makes Parquet of it",
    }


def test_links_are_followed_once(tmp_path: Path):
    """Linked files and folders are read, each once however often it is linked; the rest of the links are named."""
    table, elsewhere = tmp_path / "t", tmp_path / "elsewhere"
    put(table / "a.parquet")
    put(elsewhere / "sub" / "b.parquet", 2)
    for name, target in (
        ("dead", "gone.parquet"),
        ("again.parquet", "a.parquet"),
        ("linked", "../elsewhere"),
        ("self", "."),
        ("twice", "../elsewhere/sub"),
        ("up", ".."),
    ):
        (table / name).symlink_to(target)
    read, unread = found(table)
    assert read == ["a.parquet", "linked/sub/b.parquet"]
    assert unread == {
        "dead": "a link to gone.parquet, which does not exist",
        "again.parquet": "a link to a.parquet, which is read already",
        "self": "a link to ., which is read already",
        "twice": "a link to ../elsewhere/sub, which is read already",
        "up/elsewhere": "a folder that a link leads to, which is read already",
        "up/t": "a folder that a link leads to, which is read already",
    }


def test_report_of_a_table_says_what_was_read_and_what_was_not(tmp_path: Path):
    """Files, rows and columns of folders in one line; in another the names of what was left, by reason, not endless."""
    put(tmp_path / "t" / "day=1" / "a.parquet", 2)
    for number in range(8):
        (tmp_path / "t" / f"{number}.txt").write_text("x")
    assert open_source(tmp_path / "t").report == [
        f"read: {tmp_path}/t: 1 file, 2 rows; day from the names of folders",
        "not read: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 3 more (not Parquet)",
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone", None, "gone: no such file or folder$"),
        ("t", b"", r"t: the folder holds no Parquet file \(it holds x.csv \(empty\)\); 'rayscore convert'"),
        ("link", None, "link: no such file or folder, but a link to nowhere, which does not exist"),
    ],
)
def test_table_that_is_not_there_is_told(name: str, content: bytes | None, said: str, tmp_path: Path):
    """Nothing there, no Parquet in it, or a dead link: said with what is there instead."""
    (tmp_path / "link").symlink_to("nowhere")
    if content is not None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.csv").write_bytes(content)
    with pytest.raises(DataError, match=said):
        table_files(tmp_path / name)


def test_gzip_under_the_name_of_parquet_is_told(tmp_path: Path):
    """A file that was packed as a whole says what it is and what to do."""
    (tmp_path / "a.parquet.gz").write_bytes(b"\x1f\x8b" + bytes(100))
    with pytest.raises(DataError, match=r"a\.parquet\.gz: gzip, not Parquet; unpack it first"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("log", "name"),
    [
        ("_delta_log/00000000000000000000.json", "Delta Lake"),
        ("metadata/00000-5c.metadata.json", "Apache Iceberg"),
        (".hoodie/hoodie.properties", "Apache Hudi"),
    ],
)
def test_folders_that_keep_replaced_rows_are_refused(log: str, name: str, tmp_path: Path):
    """A table format's files hold rows of earlier versions: to read them all would bring deleted rows back."""
    put(tmp_path / "data" / "0.parquet")
    (tmp_path / log).parent.mkdir()
    (tmp_path / log).touch()
    with pytest.raises(DataError, match=f"a table of {name} .*replaced or deleted rows.*write its rows as plain"):
        table_files(tmp_path)


@pytest.mark.parametrize("name", ["a.parquet~", "a.parquet.bak", "a.parquet.TMP", "a.old"])
def test_backups_are_named_and_not_read(name: str, tmp_path: Path):
    """A copy that a program left beside a file would double its rows."""
    put(tmp_path / "a.parquet")
    put(tmp_path / name)
    assert found(tmp_path) == (["a.parquet"], {name: "a backup, or not finished"})


def test_names_that_are_no_text_are_refused_or_named(tmp_path: Path):
    """A name in Latin-1 cannot be passed on: a Parquet file of it is refused, another file named."""
    put(tmp_path / "a.parquet")
    latin = os.fsencode(tmp_path) + b"/caf\xe9"
    Path(os.fsdecode(latin + b".txt")).touch()
    assert found(tmp_path) == (["a.parquet"], {r"caf\udce9.txt": "the name is not UTF-8"})
    put(tmp_path / "b.parquet")
    os.rename(tmp_path / "b.parquet", os.fsdecode(latin + b".parquet"))
    with pytest.raises(DataError, match=r"caf\\udce9\.parquet: the name is not UTF-8; rename the file"):
        table_files(tmp_path)
    with pytest.raises(DataError, match=r"caf\\udce9: the path is not UTF-8"):
        table_files(Path(os.fsdecode(latin)))


def test_names_stay_on_one_line(tmp_path: Path):
    """A line end in a name is shown escaped, and the file is read all the same."""
    put(tmp_path / "a\nb.parquet", 2)
    (tmp_path / "c\nd").touch()
    source = open_source(tmp_path)
    assert source.rows == 2
    assert source.report[1] == r"not read: c\nd (empty)"


def test_pipe_is_no_missing_file(tmp_path: Path):
    """What is there but neither a file nor a folder is told apart from what is not there."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: neither a file nor a folder; write what comes out of it to a file"):
        table_files(tmp_path / "pipe")
