"""`rayscore score`: what is asked is refused or done, and a run that was ended goes on."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import ConfigError, DataError
from ray_app.__main__ import main
from tests.support.environment.waiting import wait_for
from tests.support.services.application import Workplace
from tests.support.training.models import (
    card_bundle,
    card_table,
    many_card_files,
    optional_merchants,
    train_bundle,
    write_card_table,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle."""
    return card_bundle().save(tmp_path_factory.mktemp("bundle") / "bundle")


def scored_once(bundle: Path, table: Path, out: Path) -> pa.Table:
    """The scores of one file, which needs no cluster."""
    assert main(["score", "--bundle", str(bundle), str(table), str(out)]) == 0
    return pq.read_table(out)


def test_one_piece_is_scored_without_a_cluster(tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]):
    """A small table is scored in the command's own process, into a file or a folder alike, and says so."""
    table = write_card_table(tmp_path / "in.parquet", 500)
    file = scored_once(bundle, table, tmp_path / "out.parquet")
    assert "500 rows scored by card_fraud version file" in capsys.readouterr().out
    assert file.equals(scored_once(bundle, table, tmp_path / "out"))
    assert sorted(item.name for item in tmp_path.iterdir()) == ["in.parquet", "out", "out.parquet"]


@pytest.mark.parametrize(
    ("words", "counted"),
    [
        (
            ["web", "", None, "web ", "NEW"],
            "2 rows with a word that the model was not trained on, such as 'NEW', 'web '",
        ),
        (["01", "01", "01", "1", "01"], "1 rows with a word that the model was not trained on, such as '1'"),
        ([1, 1, 1, 1, 1], "5 rows with a word that the model was not trained on, such as '1'"),
    ],
)
def test_words_never_seen_are_told(
    words: list[object], counted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Another spelling of a word is scored as unseen and counted by column with examples; what is missing is not."""
    use_case = optional_merchants(vocabulary=["web", "01"])
    bundle = train_bundle(card_table(600), use_case, rounds=2).save(tmp_path / "bundle")
    table = card_table(5)
    changed = table.set_column(table.column_names.index("merchant_category"), "merchant_category", pa.array(words))
    pq.write_table(changed, tmp_path / "in.parquet")
    assert scored_once(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet").num_rows == 5
    assert f"  merchant_category: {counted}" in capsys.readouterr().err.splitlines()


def test_failed_run_leaves_the_earlier_output(tmp_path: Path, bundle: Path):
    """A table that cannot be scored changes nothing of the scores that were there."""
    out = tmp_path / "out.parquet"
    before = scored_once(bundle, write_card_table(tmp_path / "in.parquet", 50), out)
    words = card_table(50).drop_columns(["amount"]).append_column("amount", pa.array(["a lot"] * 50))
    pq.write_table(words, tmp_path / "wrong.parquet")
    with pytest.raises(DataError, match="column 'amount' holds string"):
        main(["score", "--bundle", str(bundle), str(tmp_path / "wrong.parquet"), str(out)])
    assert pq.read_table(out).equals(before)
    assert not list(tmp_path.glob(".*"))


def test_table_is_not_scored_onto_itself(tmp_path: Path, bundle: Path):
    """A command that would replace its own input is refused, and the table is as it was."""
    table = write_card_table(tmp_path / "in" / "a.parquet", 50)
    before = table.read_bytes()
    for out in (table, table.parent):
        with pytest.raises(DataError, match="would change the input"):
            main(["score", "--bundle", str(bundle), str(table), str(out)])
    assert [(item.name, item.read_bytes()) for item in table.parent.iterdir()] == [("a.parquet", before)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--concurrency", "0"], "--concurrency 0: expected 1 or more"),
        (["--label", "batch"], "--label batch: expected KEY=VALUE"),
        (["--label", "=batch"], "--label =batch: expected KEY=VALUE"),
    ],
)
def test_placement_that_makes_no_sense_is_refused(options: list[str], words: str, tmp_path: Path):
    """A placement is refused before anything is read."""
    with pytest.raises(ConfigError, match=words):
        main(["score", *options, str(tmp_path / "none.parquet"), str(tmp_path / "out")])


@pytest.mark.ray
def test_killed_run_goes_on(tmp_path: Path, bundle: Path):
    """After kill -9 in the middle no process is left, and the same command keeps the parts that were finished."""
    place = Workplace(tmp_path)
    # Some seconds of work, of which two parts are the beginning: a test that is slow to kill finds it at work. Of fewer
    # rows in all no cluster would be started.
    files, rows = 60, 5_000
    folder = many_card_files(tmp_path / "in", files, rows)
    out, growing = tmp_path / "out", tmp_path / ".out.partial"
    command = ["ray_app", "score", "--bundle", str(bundle), "--concurrency", "1", str(folder), str(out)]
    with place.running(sys.executable, "-m", *command) as child:
        wait_for(lambda: len(list(growing.glob("*.parquet"))) >= 2, "two finished parts")
        child.send_signal(signal.SIGKILL)
        child.wait(60)
    wait_for(lambda: not place.processes(), "Ray's processes to end")
    assert not out.exists()
    kept = {file.name: file.stat().st_mtime_ns for file in growing.glob("part-*.parquet")}
    assert 2 <= len(kept) < files

    done = place.run(*command)
    assert done.returncode == 0, done.stderr
    assert f"resuming: {len(kept)} of {files} parts are done" in done.stderr
    assert not growing.exists()
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    once = scored_once(bundle, folder / "f000.parquet", tmp_path / "once.parquet")
    assert pq.read_table(out).equals(pa.concat_tables([once] * files))
