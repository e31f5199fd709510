"""`rayscore features`: the table that it writes, what it says of it, and what it refuses in one line."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from data.__main__ import main
from data.cli.commands import features
from data.cli.terminal import run_cli
from data.feature_views.spread import written_table
from data.sources.atomic_output import write_table
from data.sources.parquet import read_table
from tests.support.training.cards_in_time import CARDS_HEAD

_USE_CASE = (
    CARDS_HEAD
    + """
[events.swipes]
entities = ["card"]
values = ["amount"]
[events.logins]
entities = ["card"]
key = "login"
time = "at"
[features]
amount = { type = "number" }
seen = { aggregate = "count", window = "10s", events = "swipes" }
mean = { aggregate = "mean", of = "amount", window = "10s" }
logins = { aggregate = "count", window = "1m", events = "logins" }
ratio = { expression = "amount / mean" }
"""
)
_PLAIN = 'name = "cards"\nlabel = "y"\n[features]\namount = { type = "number" }\n'
_SWIPES = pa.table(
    {
        "id": [1, 2, 3, 4],
        "t": [100, 105, 109, 111],
        "card": ["a", "a", "b", "a"],
        "amount": [1.0, 3.0, 2.0, 6.0],
        "y": [0, 1, 0, 1],
        "note": ["w", "x", "y", "z"],
    }
)
_LOGINS = pa.table({"login": ["l1", "l2", None], "at": [101, 110, 110], "card": ["a", "a", "b"]})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a use case, its table and its other events."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cards.toml").write_text(_USE_CASE)
    write_table(_SWIPES, tmp_path / "swipes.parquet")
    write_table(_LOGINS, tmp_path / "logins.parquet")
    return tmp_path


def _run(*words: str) -> int:
    return run_cli(main, ["features", *words, "--use-case", "cards.toml"])


def test_rows_keep_their_columns_and_get_their_features(folder: Path, capsys: pytest.CaptureFixture[str]):
    """In the order of the table; what is no event is counted with its reason."""
    assert _run("swipes.parquet", "out.parquet", "--events", "logins=logins.parquet") == 0
    written = read_table(folder / "out.parquet")
    assert written.select(_SWIPES.column_names).equals(_SWIPES)
    assert written.column("seen").to_pylist() == [0, 1, 0, 1]
    assert written.column("mean").to_pylist() == [None, 1.0, None, 3.0]
    assert written.column("logins").to_pylist() == [0, 1, 0, 2]
    assert written.column("ratio").to_pylist() == [None, 3.0, None, 2.0]
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "out.parquet: 4 rows",
        "  seen: int64",
        "  mean: double, 2 missing",
        "  logins: int64",
        "  ratio: double, 2 missing",
    ]
    assert "left out: 1 row is no event of 'logins': without login\n" in printed.err
    assert "read: " in printed.err


def test_history_counts_and_is_not_written(folder: Path):
    """The last rows of a table get the same features with the earlier ones as history."""
    write_table(_SWIPES.slice(0, 2), folder / "early.parquet")
    write_table(_SWIPES.slice(2), folder / "late.parquet")
    given = ("--events", "logins=logins.parquet")
    assert _run("swipes.parquet", "whole.parquet", *given) == 0
    assert _run("late.parquet", "out.parquet", "--history", "early.parquet", *given) == 0
    assert read_table(folder / "out.parquet").equals(read_table(folder / "whole.parquet").slice(2))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["swipes.parquet", "out.parquet"], "add --events logins=PATH"),
        (["swipes.parquet", "out.parquet", "--events", "logins.parquet"], "expected NAME=PATH"),
        (["swipes.parquet", "out.parquet", "--events", "login=logins.parquet"], "needed are: logins"),
        (["swipes.parquet", "out.parquet", "--events", "swipes=swipes.parquet"], "needed are: logins"),
        (["swipes.parquet", "out.parquet", *["--events", "logins=logins.parquet"] * 2], "the source is named twice"),
        (["swipes.parquet", "swipes.parquet", "--events", "logins=logins.parquet"], "which is read; name another"),
        (["swipes.parquet", "logins.parquet", "--events", "logins=logins.parquet"], "which is read; name another"),
        (["swipes.parquet", ".", "--events", "logins=logins.parquet"], "is a folder; name a file"),
        (["swipes.parquet", "s3://b/out.parquet", "--events", "logins=logins.parquet"], "is behind a URL; name a file"),
        (["gone.parquet", "out.parquet", "--events", "logins=logins.parquet"], "no such file"),
        (["swipes.parquet", "out.parquet", "--events", "logins=swipes.parquet"], "column 'login' is missing"),
        (["logins.parquet", "out.parquet", "--events", "logins=logins.parquet"], "column 'id' is missing"),
        (
            ["swipes.parquet", "out.parquet", "--history", "logins.parquet", "--events", "logins=logins.parquet"],
            "logins.parquet: column 'id' is missing",
        ),
    ],
)
def test_wrong_input_is_refused_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
):
    """With exit code 2 and nothing written."""
    assert _run(*words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert said in printed.err
    assert not (folder / "out.parquet").exists()
    assert read_table(folder / "swipes.parquet").equals(_SWIPES)
    assert read_table(folder / "logins.parquet").equals(_LOGINS)


def test_a_table_gets_its_features_once(folder: Path, capsys: pytest.CaptureFixture[str]):
    """What is marked is ready; a use case without windows has nothing to add."""
    assert _run("swipes.parquet", "out.parquet", "--events", "logins=logins.parquet") == 0
    assert _run("out.parquet", "again.parquet", "--events", "logins=logins.parquet") == 2
    assert "has its features already" in capsys.readouterr().err
    (folder / "cards.toml").write_text(_PLAIN)
    assert _run("swipes.parquet", "again.parquet") == 2
    assert "no features to add" in capsys.readouterr().err


def test_large_tables_are_spread(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """The same file, the same words, and nothing is left beside it."""
    command = ("swipes.parquet", "out.parquet", "--events", "logins=logins.parquet")
    assert _run(*command) == 0
    memory, said = read_table(folder / "out.parquet"), capsys.readouterr()
    monkeypatch.setattr(features, "MOST_VALUES", 6)
    assert _run(*command) == 0
    spread = read_table(folder / "out.parquet")
    assert spread.equals(memory)
    assert spread.schema.equals(memory.schema, check_metadata=True)
    spread_said = capsys.readouterr()
    assert spread_said.out == said.out
    assert "left out: 1 row is no event of 'logins': without login\n" in spread_said.err
    assert sorted(path.name for path in folder.iterdir()) == [
        "cards.toml",
        "logins.parquet",
        "out.parquet",
        "swipes.parquet",
    ]


def test_spread_that_is_interrupted_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither a part of the output nor what was exchanged on the way to it."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(features, "MOST_VALUES", 6)
    monkeypatch.setattr(written_table, "missing_values", interrupted)
    before = sorted(folder.iterdir())
    assert _run("swipes.parquet", "out.parquet", "--events", "logins=logins.parquet") == 130
    assert sorted(folder.iterdir()) == before
