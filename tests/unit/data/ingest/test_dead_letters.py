"""The file of dead letters: each message once, whatever ended the process that wrote it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import orjson
import pytest

from data.errors import StoreUnavailable
from data.ingest.dead_letters import DeadLetter, DeadLetterFile

LETTER = DeadLetter("t", 1, 7, 1_700_000_000_000, "not JSON", b"nope")


def _add(path: Path, *letters: DeadLetter) -> int:
    with closing(DeadLetterFile(path)) as file:
        return file.add(letters)


def test_a_line_says_where_the_message_was_and_why(tmp_path: Path):
    """Text stands as it is, other bytes in base64."""
    _add(tmp_path / "new" / "t.jsonl", LETTER, LETTER._replace(offset=8, message=b"\xff"))
    first, second = map(orjson.loads, (tmp_path / "new" / "t.jsonl").read_bytes().splitlines())
    assert first == {
        "topic": "t",
        "partition": 1,
        "offset": 7,
        "timestamp_ms": 1_700_000_000_000,
        "reason": "not JSON",
        "message": "nope",
    }
    assert second["message_base64"] == "/w=="


def test_a_message_that_comes_again_is_not_set_aside_twice(tmp_path: Path):
    """Also in another process; the same place of a topic that was made anew is another message."""
    path = tmp_path / "t.jsonl"
    assert _add(path, LETTER) == 1
    assert _add(path, LETTER, LETTER._replace(timestamp_ms=5)) == 1
    assert len(path.read_bytes().splitlines()) == 2


def test_a_line_that_was_cut_off_comes_again_whole(tmp_path: Path):
    """A killed process may leave half a line, which ends before the next begins."""
    path = tmp_path / "t.jsonl"
    _add(path, LETTER)
    path.write_bytes(path.read_bytes()[:-20])
    assert _add(path, LETTER) == 1
    assert orjson.loads(path.read_bytes().splitlines()[-1])["offset"] == 7


def test_a_folder_that_is_none_is_said(tmp_path: Path):
    """As what cannot be kept, and why."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="dead letters cannot be kept: "):
        DeadLetterFile(tmp_path / "file" / "t.jsonl")
