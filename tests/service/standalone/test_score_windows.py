"""`rayscore score` of a model with windows, and a table that does not fit into memory, in the command's own process."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.cli.terminal import run_cli
from data.settings import Settings
from data.sources.atomic_output import write_table
from data.sources.filesystems import absolute
from data.sources.locked_folder import scratch_folder
from ray_app.__main__ import main
from ray_app.cli.score import windows_place
from tests.support.training.models import train_bundle
from tests.support.training.swipes import swipes_table, swipes_use_case

ROWS, EARLIER = 2500, 500
_LARGE = "Ray Data computes the windows of the rows"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model with windows."""
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    return train_bundle(swipes_table(), swipes_use_case(), rounds=5).save(folder)


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A table of which two rows are refused and one comes twice, and a history of which a row comes twice."""
    monkeypatch.setenv("RAYSCORE_VAR_DIR", str(tmp_path / "var"))
    table = swipes_table(ROWS)
    amounts = table.column("amount").to_pylist()
    amounts[3], amounts[ROWS - 2] = 1e15, 1e15
    table = table.set_column(4, "amount", pa.array(amounts))
    earlier = swipes_table(EARLIER, seed=4).set_column(0, "swipe_id", pa.array(range(ROWS, ROWS + EARLIER)))
    for name, rows in (("in", [table, table.slice(7, 1)]), ("history", [earlier, earlier.slice(9, 1)])):
        write_table(pa.concat_tables(rows), tmp_path / "tables" / f"{name}.parquet")
    return tmp_path / "tables" / "in.parquet", tmp_path / "tables" / "history.parquet"


def score(bundle: Path, tables: tuple[Path, Path], out: Path | str, memory_mb: int, monkeypatch) -> int:
    """Score a table with its history, with so much memory, and return the exit code."""
    monkeypatch.setenv("RAYSCORE_TRAIN_MEMORY_MB", str(memory_mb))
    table, history = map(str, tables)
    return run_cli(main, ["score", "--bundle", str(bundle), "--history", history, table, str(out)])


def words(captured: pytest.CaptureFixture[str]) -> str:
    """What was said on stderr, without line ends."""
    return " ".join(captured.readouterr().err.split())


def test_output_is_that_of_memory(bundle, tables, tmp_path: Path, monkeypatch, capsys):
    """Scores, refused rows and what is left out; the windows lay beside the output, and nothing of them is left."""
    said, found = [], []
    for name, memory_mb in (("large", 1), ("memory", 500)):
        out = tmp_path / name / "out.parquet"
        assert score(bundle, tables, out, memory_mb, monkeypatch) == 0
        said.append(words(capsys))
        found.append([pq.read_table(out), pq.read_table(out.with_name("out.refused.parquet"))])
        assert sorted(item.name for item in out.parent.iterdir()) == ["out.parquet", "out.refused.parquet"]
    assert found[0][0].equals(found[1][0]) and found[0][0].num_rows == ROWS - 1
    assert found[0][1].equals(found[1][1]) and found[0][1].num_rows == 2
    assert (_LARGE in said[0], _LARGE in said[1]) == (True, False)
    for text in said:
        assert "events.swipes: 2 left out: 2 repeated" in text


def test_nothing_is_left_after_an_error(bundle, tables, tmp_path: Path, monkeypatch, capsys):
    """A history that breaks off is named alone, and the folder of the windows is gone."""
    history, out = tables[1], tmp_path / "out" / "out.parquet"
    whole = history.read_bytes()
    history.write_bytes(b"PAR1" + b"\xff" * (len(whole) // 2) + whole[4 + len(whole) // 2 :])
    assert score(bundle, tables, out, 1, monkeypatch) == 2
    said = words(capsys)
    assert _LARGE in said and f"error: {history}: truncated or not a Parquet file" in said
    assert list(out.parent.iterdir()) == []


def test_one_run_at_a_time_computes_the_windows_of_an_output(bundle, tables, tmp_path: Path, monkeypatch, capsys):
    """A second one is refused with the output's name; that of another URL is not, though both end in one name."""
    settings = Settings(var_dir=tmp_path / "var")
    here, there = (f"memory://{tmp_path.name}-{name}/scored" for name in ("a", "b"))
    outputs = [str(tmp_path / "out.parquet"), here, there]
    places = [windows_place(absolute(Path(out)), settings) for out in outputs]
    assert [place.parent for place in places] == [tmp_path, *[tmp_path / "var" / "score"] * 2]
    with scratch_folder(places[0]), scratch_folder(places[1]), scratch_folder(places[2]):
        for out in outputs:
            assert score(bundle, tables, out, 1, monkeypatch) == 2
            assert f"error: {out}: another run is writing it" in words(capsys)
    assert not any(list(place.parent.glob(f".{place.name}*")) for place in places)


def test_output_that_cannot_be_replaced_is_refused_first(bundle, tables, tmp_path: Path, monkeypatch, capsys):
    """Before the windows of the table are computed."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    assert score(bundle, tables, tmp_path / "out", 1, monkeypatch) == 2
    said = words(capsys)
    assert "holds 'notes.txt', which is not a Parquet file" in said and _LARGE not in said
