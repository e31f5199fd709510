"""`rayscore validate`: which version a table is held against, with a real registry."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.__main__ import main as data_main
from data.cli.terminal import run_cli
from data.sources.parquet import read_table
from ray_app.cli.rayscore import LINE
from tests.support.services.application import Workplace
from tests.support.training.models import card_bundle, card_table
from tests.support.training.stored_cards import STORED_CARDS
from tune.__main__ import main as tune_main
from tune.registry.bundle import Bundle
from tune.registry.registry import Registry

TITLE = "against card_fraud version 1 (challenger, champion): "


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A working directory with a var folder of its own, and a table `t.parquet` of which two rows have a new word."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYSCORE_VAR_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("RAYSCORE_USE_CASE", str(STORED_CARDS))
    table, name = card_table().slice(0, 600), "merchant_category"
    words = ["crypto", "gaming", *table.column(name).to_pylist()[2:]]
    pq.write_table(table.set_column(table.column_names.index(name), name, pa.array(words)), "t.parquet")
    return Workplace(tmp_path)


def typed(*words: str) -> int:
    """The exit code of a `rayscore` command."""
    return run_cli(LINE.main, words)


def test_champion_is_the_default(place: Workplace, capsys: pytest.CaptureFixture[str]):
    """A table is held against the champion; what is new is told and listed with a report, and the exit code stays 0."""
    place.publish_champion()
    assert typed("validate", "t.parquet", "--report", "r.html") == 0
    said = capsys.readouterr().out
    assert f"{TITLE}2 of 600 rows (0.33 %) have a word or a number that is new to it" in said
    assert "merchant_category: a word that it has not learned: 2 rows (0.33 %), such as 'crypto', 'gaming'" in said
    assert (
        read_table("r.bad_rows.parquet")["reasons"].to_pylist()
        == ["against version 1: merchant_category: a word that it has not learned"] * 2
    )
    assert "crypto" in Path("r.html").read_text("utf-8")


def test_version_is_named_as_elsewhere(place: Workplace, capsys: pytest.CaptureFixture[str]):
    """Alias and number name a version, in `python -m tune` too; `none` is no version, and `python -m data` has none."""
    place.publish_champion()
    for asked in ("challenger", "1"):
        assert typed("validate", "t.parquet", "--against", asked) == 0
        assert TITLE in capsys.readouterr().out
    assert run_cli(tune_main, ["validate", "t.parquet"]) == 0
    assert TITLE in capsys.readouterr().out
    assert typed("validate", "t.parquet", "--against", "none") == 0
    assert run_cli(data_main, ["validate", "t.parquet"]) == 0
    assert "against" not in capsys.readouterr().out


def test_version_that_is_not_there_is_an_error(place: Workplace, capsys: pytest.CaptureFixture[str]):
    """A version that was asked for by name and is not registered ends the command with 2 and one line."""
    assert typed("validate", "t.parquet", "--against", "champion") == 2
    said = capsys.readouterr()
    assert "error: --against champion: there is no registry at sqlite:///" in said.err
    assert not said.out
    assert not (place.var / "mlflow.db").exists()
    place.publish_champion()
    assert typed("validate", "t.parquet", "--against", "7") == 2
    assert "version or alias '7', is not in the registry" in capsys.readouterr().err


def test_champion_that_nobody_asked_for_may_be_absent(
    place: Workplace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Without a registry nothing is said; where it has no champion, or does not answer, one line says so."""
    assert typed("validate", "t.parquet") == 0
    assert "held against no model" not in capsys.readouterr().err
    place.publish_champion()
    monkeypatch.setenv("RAYSCORE_MODEL_ALIAS", "steady")
    assert typed("validate", "t.parquet") == 0
    assert "held against no model: model 'card_fraud', version or alias 'steady'," in capsys.readouterr().err
    (place.var / "mlflow.db").write_bytes(b"no database")
    assert typed("validate", "t.parquet") == 0
    assert "held against no model: MLflow at sqlite:///" in capsys.readouterr().err


def test_wholly_missing_feature_ends_with_one(place: Workplace, capsys: pytest.CaptureFixture[str]):
    """A table without a value of a feature that the champion learned from has a problem."""
    place.publish_champion()
    table, name = card_table().slice(0, 600), "cardholder_age"
    gone = table.set_column(table.column_names.index(name), name, pa.nulls(600, pa.int64()))
    pq.write_table(gone, "gone.parquet")
    assert typed("validate", "gone.parquet") == 1
    assert f"{name}: missing in every row, but card_fraud version 1" in capsys.readouterr().out


def test_version_of_before_profiles_is_held_against_by_its_words(place: Workplace, capsys: pytest.CaptureFixture[str]):
    """A version that was registered without a profile of its train rows is compared by its vocabularies."""
    place.publish_champion()
    whole = card_bundle()
    manifest = whole.manifest.model_copy(update={"training_profile": None})
    registry = Registry(place.settings.tracking_uri, place.settings.artifact_dir)
    run = registry.version("card_fraud", "1").run_id
    registry.publish(Bundle.assemble(manifest, whole.onnx, whole.booster, whole.measured, whole.card), run)
    assert typed("validate", "t.parquet") == 0
    said = capsys.readouterr().out
    assert f"{TITLE}2 of 600 rows" in said
    assert "the version was registered without a profile of its train rows: only words are compared" in said
