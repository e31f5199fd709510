"""Folders of CSV: what is read, what is not and why, and the names of what becomes of it."""

from __future__ import annotations

import pytest

from data.errors import DataError
from data.sources.csv import csv_files


def test_endings_count_in_any_case_and_the_rest_is_named(tmp_path):
    """Every entry of a folder is read or named with the reason."""
    for name in ("a.csv", "b.CSV", "c.Tsv", "d.csv.gz", "notes.txt", ".hidden.csv", "e.csv.bak"):
        (tmp_path / name).touch()
    (tmp_path / "below.csv").mkdir()
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere")
    (tmp_path / "linked.csv").symlink_to(tmp_path / "a.csv")
    found = csv_files(tmp_path)
    assert [file.name for file in found.files] == ["a.csv", "b.CSV", "c.Tsv", "d.csv.gz", "linked.csv"]
    assert found.unread == {
        ".hidden.csv": "is hidden",
        "below.csv": "is a folder",
        "e.csv.bak": "does not end in .csv or .tsv",
        "gone.csv": "is a link to nothing",
        "notes.txt": "does not end in .csv or .tsv",
    }


def test_a_file_by_name_is_read_whatever_its_ending(tmp_path):
    """A file that is named needs no ending."""
    (tmp_path / "export").touch()
    assert csv_files(tmp_path / "export").files == (tmp_path / "export",)


def test_missing_input_is_refused(tmp_path):
    """A path that is not there, or a folder without CSV, is refused; what the folder holds is named."""
    with pytest.raises(DataError, match="no such file or folder"):
        csv_files(tmp_path / "gone.csv")
    with pytest.raises(DataError, match=r"holds no \.csv file"):
        csv_files(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"; it holds a\.txt"):
        csv_files(tmp_path)
