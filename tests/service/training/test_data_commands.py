"""The data commands from end to end, as a user runs them."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.__main__ import main
from data.cli.terminal import run_cli
from data.distributed import runner
from data.distributed.pieces import each_block_here
from data.sources.parquet import read_table


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory of its own, with its own var folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*argv):
    return run_cli(main, [str(part) for part in argv])


def test_help_alone(capsys):
    """Without a command the help is shown, with examples."""
    assert _run() == 0
    assert "examples:" in capsys.readouterr().out


@pytest.mark.ray
def test_from_generation_to_the_online_row(folder, ray_cluster, capsys):
    """Generated rows validate clean, go online, and `get` shows the latest row of an entity."""
    assert _run("generate", "var/t", "--rows", 150_000, "--files", 3, "--end", "today") == 0
    assert _run("validate", "var/t", "--report", "var/r.html") == 0
    assert not (folder / "var" / "r.bad_rows.parquet").exists()
    assert _run("materialize", "var/t") == 0
    capsys.readouterr()
    assert _run("get", "user_5", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    frame = read_table("var/t").to_pandas()
    latest = frame[frame["user_id"] == "user_5"].iloc[-1]
    assert shown["values"] == {"cardholder_age": latest["cardholder_age"]}
    assert shown["event_time"].startswith(latest["timestamp"].isoformat()[:23])
    assert _run("get", "user_5") == 0
    assert "cardholder_age" in capsys.readouterr().out


@pytest.mark.ray
def test_parallel_generation_equals_one_file(folder, ray_cluster):
    """The folder that workers wrote holds the rows of the one file that the driver wrote."""
    assert _run("generate", "many", "--rows", 140_000, "--files", 3, "--seed", 5) == 0
    assert _run("generate", "one.parquet", "--rows", 140_000, "--seed", 5) == 0
    assert read_table("many").equals(read_table("one.parquet"))


@pytest.mark.ray
def test_bad_rows_go_beside_the_report(folder, ray_cluster, capsys):
    """Validation of a bad table exits with 1, and writes the report and the bad rows with their reasons."""
    assert _run("generate", "t.parquet", "--rows", 1000) == 0
    table = read_table("t.parquet")
    hours = table["transaction_hour"].to_pylist()
    hours[7] = 24
    column = table.schema.get_field_index("transaction_hour")
    pq.write_table(table.set_column(column, "transaction_hour", pa.array(hours)), "t.parquet")
    assert _run("validate", "t.parquet", "--report", "r.md") == 1
    assert "transaction_hour: above the largest accepted value 23: 1 rows" in capsys.readouterr().out
    bad = read_table("r.bad_rows.parquet")
    assert bad["row_number"].to_pylist() == [7]
    assert "transaction_hour" in (folder / "r.md").read_text()


def _faulty_table(folder):
    """Write a table of three files, whose faults are in blocks far apart; rows repeat across files."""
    assert _run("generate", "whole.parquet", "--rows", 9000, "--end", "today") == 0
    table = read_table("whole.parquet")
    for name, values in {
        "transaction_hour": {7: 24, 4100: -1, 8999: 99},
        "amount": {12: -5.0, 3000: float("nan"), 8000: float("inf")},
        "transaction_id": {5000: table["transaction_id"][3].as_py()},
        "merchant_category": {1: "", 6001: None},
    }.items():
        column = table.schema.get_field_index(name)
        changed = table[name].to_pylist()
        for row, value in values.items():
            changed[row] = value
        table = table.set_column(column, name, pa.array(changed, table[name].type))
    (folder / "t").mkdir()
    for number in range(3):
        pq.write_table(table.slice(3000 * number, 3000), folder / "t" / f"{number}.parquet", row_group_size=500)


@pytest.mark.ray
@pytest.mark.parametrize("name", ["r.html", "r.md"])
def test_report_is_the_same_with_ray_and_without(folder, ray_cluster, monkeypatch, capsys, name):
    """A table that is checked by Ray's workers and by the command itself has the same report, to the byte."""
    _faulty_table(folder)
    found, ran_here = [], []

    def watched(*given, **how):
        ran_here.append(given)
        return each_block_here(*given, **how)

    monkeypatch.setattr(runner, "each_block_here", watched)
    for connected in (True, False):
        monkeypatch.setattr(runner, "_connected", lambda connected=connected: connected)
        capsys.readouterr()
        assert _run("validate", "t", "--report", name) == 1
        assert bool(ran_here) != connected
        bad_rows = (folder / "r.bad_rows.parquet").read_bytes()
        found.append((capsys.readouterr().out, (folder / name).read_bytes(), bad_rows))
    assert found[0] == found[1]
    assert "repeats the key of an earlier row" in found[0][0]


@pytest.mark.ray
def test_folder_of_csv_is_converted_whole_or_not_at_all(folder, ray_cluster, capsys):
    """A folder of CSV becomes a folder of Parquet; a broken file later leaves the earlier output."""
    (folder / "csv").mkdir()
    (folder / "csv" / "a.csv").write_text("x,y\n1,a\n")
    (folder / "csv" / "b.CSV").write_text("x;y\n2;b\n3;c\n")
    (folder / "csv" / "notes.txt").touch()
    assert _run("convert", "csv", "out") == 0
    assert capsys.readouterr().out.splitlines() == [
        "out: 3 rows; x int64, y string",
        "  b.CSV: delimiter semicolon",
        "  not read: notes.txt does not end in .csv or .tsv",
    ]
    assert read_table("out")["x"].to_pylist() == [1, 2, 3]
    (folder / "csv" / "b.CSV").write_text("x,y\n2,b\n3\n")
    assert _run("convert", "csv", "out") == 2
    assert "b.CSV, line 3: Expected 2 columns" in capsys.readouterr().err
    assert read_table("out")["x"].to_pylist() == [1, 2, 3]


def test_single_csv_is_converted(folder, capsys):
    """A CSV file becomes a Parquet file without Ray, and the outcome says what was not as usual."""
    (folder / "a.csv").write_text("# made by hand\nzip;amount;note\n00123;12,5;\n94107;NA;x\n10001;-inf;y\n")
    assert _run("convert", "a.csv", "a.parquet") == 0
    assert capsys.readouterr().out.splitlines() == [
        "a.parquet: 3 rows; zip string, amount double, note string",
        "  zip: text, since '00123' (line 3) would become 123; --types zip=integer reads it as a number",
        "  amount: 1 'NA' read as missing",
        "  amount: 1 infinite",
        "  note: 1 empty",
        "  a.csv: delimiter semicolon, decimal comma, 1 line before the header left out",
    ]
    assert read_table("a.parquet")["zip"].to_pylist() == ["00123", "94107", "10001"]
    assert _run("convert", "a.csv", "a.parquet", "--types", "zip=integer", "--delimiter", ";", "--comment", "#") == 0
    assert read_table("a.parquet")["zip"].to_pylist() == [123, 94107, 10001]


def test_draft_writes_a_file_that_loads(folder, capsys):
    """A drafted file is written where --out says and can be used by the other commands."""
    pq.write_table(pa.table({"x": [1.5, 2.5, 3.5] * 5, "y": [0, 1, 1] * 5}), "t.parquet")
    assert _run("draft", "t.parquet", "--label", "y", "--out", "case.toml") == 0
    assert _run("get", "1", "--use-case", "case.toml") == 2
    assert "nothing to materialize" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("validate", "gone.parquet"), "gone.parquet: no such file or folder"),
        (("materialize", "gone"), "no such file or folder"),
        (("convert", "gone.csv", "out.parquet"), "gone.csv: no such file or folder"),
        (("generate", "a.parquet", "--files", "2"), "is one file; name a folder"),
        (("generate", "a.parquet", "--end", "soon"), "--end soon: expected a date"),
        (("get", "user_1"), "online.db"),
        (("get", "user_1", "--use-case", "gone.toml"), "no use case 'gone.toml'"),
    ],
)
def test_what_cannot_run_says_why(folder, capsys, argv, words):
    """A command that cannot run exits with 2, one clear message and no output."""
    assert _run(*argv) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert [file.name for file in folder.rglob("*") if file.is_file()] == []


@pytest.mark.ray
def test_unknown_entity_exits_with_1(folder, ray_cluster, capsys):
    """An entity without a row is told apart from an error."""
    assert _run("generate", "t.parquet", "--rows", 500, "--end", "today") == 0
    assert _run("materialize", "t.parquet") == 0
    assert _run("get", "nobody") == 1
    assert "no row for 'nobody' in view card_fraud@" in capsys.readouterr().err


def test_wrong_option_is_explained():
    """A value that argparse refuses ends with its usage line, not a traceback."""
    env = os.environ | {"RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-m", "data", "generate", "x", "--rows", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 2
    assert "0 is not 1 or more" in done.stderr
    assert "Traceback" not in done.stderr
