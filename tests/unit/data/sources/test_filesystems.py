"""Tables behind a URL."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError
from data.sources.atomic_output import write_table
from data.sources.filesystems import absolute, file_size, url
from data.sources.parquet import open_source, read_table


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("s3://bucket/a b/c.parquet", "s3://bucket/a b/c.parquet"),
        (
            "s3://b/c?endpoint_override=127.0.0.1:9000&scheme=http",
            "s3://b/c?endpoint_override=127.0.0.1:9000&scheme=http",
        ),
        ("gs://bucket/folder", "gs://bucket/folder"),
        ("file:///tmp/x", "file:///tmp/x"),
        ("/tmp/x", None),
        ("C:/x", None),
        ("folder/x", None),
    ],
)
def test_address_survives_as_a_path(given, meant):
    """A URL is a URL as text and as a Path; what is none stays a path of this machine."""
    assert url(given) == url(Path(given)) == meant
    assert absolute(Path(given)).is_absolute() == (meant is None)


@pytest.mark.parametrize("scheme", ["file", "local", "memory"])
def test_folder_is_read_like_one_of_this_machine(tmp_path, scheme):
    """PyArrow's file systems and fsspec's: nested files in name order, hidden ones left out, sizes and rows known."""
    inner = f"{tmp_path}/table"
    system = fsspec.filesystem("memory" if scheme == "memory" else "file")
    for name, values in (("b", [3, 4]), ("day1/a", [1, 2]), ("_tmp/c", [9]), (".x", [9])):
        system.makedirs(f"{inner}/{name}".rpartition("/")[0], exist_ok=True)
        with system.open(f"{inner}/{name}.parquet", "wb") as file:
            pq.write_table(pa.table({"x": values}), file)
    source = open_source(Path(f"{scheme}://{inner}"))
    assert [file.name for file in source.files] == ["b.parquet", "a.parquet"]
    assert source.rows == 4
    assert read_table(f"{scheme}://{inner}", ["x"])["x"].to_pylist() == [3, 4, 1, 2]
    assert file_size(source.files[0]) == system.size(f"{inner}/b.parquet")


def test_file_on_a_web_server_is_read(tmp_path):
    """A file that a server on this machine gives out is read over HTTP."""
    write_table(pa.table({"x": [1, 2, 3]}), tmp_path / "t.parquet")
    handler = partial(_Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert read_table(f"{address}/t.parquet")["x"].to_pylist() == [1, 2, 3]
        with pytest.raises(DataError, match=r"gone\.parquet: no such file or folder"):
            open_source(f"{address}/gone.parquet")
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        """Say nothing."""


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nothing://x/y", "nothing://x/y: no file system for this address"),
        ("memory://nowhere/x", "memory://nowhere/x: no such file or folder"),
    ],
)
def test_wrong_address_is_told(address, said):
    """An unknown scheme, or nothing there: the address and the reason."""
    with pytest.raises(DataError, match=said):
        open_source(address)


def test_folder_without_tables_is_told(tmp_path):
    """A folder behind a URL that holds no Parquet file is refused as one of this machine is."""
    with pytest.raises(DataError, match=r"holds no Parquet file"):
        open_source(f"file://{tmp_path}")


@pytest.mark.parametrize("name", ["a b", "50%", "K%C3%B6ln", "#1?", "é", "[x]"])
@pytest.mark.parametrize("scheme", ["file", "local"])
def test_any_name_is_found_again_behind_a_url(tmp_path, scheme, name):
    """Names with blanks, percents and the like, which a URL spells otherwise, are those of the files listed."""
    folder = tmp_path / f"city={name}"
    folder.mkdir()
    write_table(pa.table({"x": [1]}), folder / "0.parquet")
    expected = read_table(tmp_path)
    assert read_table(f"{scheme}://{tmp_path}").equals(expected)
