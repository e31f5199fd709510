"""`rayscore skew` and `promote --skew-proof` from registry and service to exit code."""

from __future__ import annotations

import pytest

from data.cli.terminal import run_cli
from data.settings import load_settings
from data.sources.atomic_output import write_table
from tests.support.training.models import card_bundle
from tests.support.training.registry import new_registry
from tests.support.training.skew import TABLE, listening, other_vocabulary, served_app, stored_table, zero_or_default
from tests.support.training.stored_cards import STORED_CARDS
from tune.__main__ import main
from tune.registry.registry import HOLDOUT_FOLDER, Registry
from tune.registry.traffic_rules import CHAMPION
from tune.search.mlflow_runs import MlflowRuns

RATE = ("--rate", "1e6")


def tune(*argv) -> int:
    """Run the command as `rayscore tune` does and return the exit code."""
    return run_cli(main, [str(word) for word in argv])


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry with the model as version 1, whose holdout is TABLE."""
    monkeypatch.setenv("RAYSCORE_VAR_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("RAYSCORE_USE_CASE", str(STORED_CARDS))
    settings = load_settings()
    new_registry(settings.var_dir)
    tracker = MlflowRuns(settings.tracking_uri, settings.artifact_dir, "card_fraud")
    run_id = tracker.start("run", {})
    write_table(TABLE, tmp_path / "holdout" / "holdout.parquet")
    tracker.log_folder(run_id, tmp_path / "holdout", HOLDOUT_FOLDER)
    made = Registry(settings.tracking_uri, settings.artifact_dir)
    made.publish(card_bundle(), run_id)
    return made


def test_sound_service_is_proven_and_the_version_promoted(registry, tmp_path, capsys):
    """The proof alone says what was compared; a promotion shows it as a gate."""
    with listening(served_app(tmp_path).app) as url:
        assert tune("skew", "--url", url, "--rows", 400, *RATE) == 0
        assert "version 1: 400 rows, 0 differ; 3,200 values: 600 from online, 2,600 from request" in (
            said := capsys.readouterr().out
        )
        assert "serving computes what training computed" in said
        gates = STORED_CARDS.read_text().replace("min_auc = 0.90", "skew_rows = 800")
        (tmp_path / "strict.toml").write_text(gates)
        strict = ("--use-case", tmp_path / "strict.toml")
        assert tune("promote", *strict) == 1
        assert "not made" in capsys.readouterr().out
        assert tune("promote", *strict, "--skew-proof", url, "--rows", 400, *RATE) == 1
        assert "0 of >= 800 rows differ" in capsys.readouterr().out
        assert tune("promote", *strict, "--skew-proof", url, *RATE) == 0
        assert "800 rows, 0 differ" in capsys.readouterr().out
    assert registry.version("card_fraud", CHAMPION).version == "1"


def test_planted_faults_refuse_the_promotion_and_are_named(registry, tmp_path, capsys):
    """A zero taken for missing and codes of another vocabulary: ten rows field by field, both kinds named, exit 1."""
    app = zero_or_default(served_app(tmp_path, bundle=other_vocabulary()).app, velocity_last_24h=1)
    with listening(app) as url:
        assert tune("promote", "--skew-proof", url, "--rows", 400, *RATE) == 1
    said = capsys.readouterr().out
    assert said.count(" online, ") >= 10
    assert "a zero is treated as missing (velocity_last_24h)" in said
    assert "category codes are from another vocabulary (merchant_category)" in said
    assert "is not promoted; the champion stays as it was" in said
    assert registry.version("card_fraud", "1").aliases == ("challenger",)


def test_store_is_held_against_what_was_materialized(registry, tmp_path, capsys):
    """A store that lost what the table has is found, and a zero among it is named."""
    write_table(stored_table(), tmp_path / "as_it_is.parquet")
    write_table(stored_table(velocity_last_24h=0), tmp_path / "with_zeros.parquet")
    use_case = STORED_CARDS.read_text().replace('ttl = "365d"', "")
    (tmp_path / "u.toml").write_text(use_case)
    with listening(served_app(tmp_path).app) as url:
        words = ("skew", "1", "--use-case", tmp_path / "u.toml", "--url", url, "--rows", 400, *RATE)
        assert tune(*words, "--stored", tmp_path / "as_it_is.parquet") == 0
        assert tune(*words, "--stored", tmp_path / "with_zeros.parquet") == 1
    assert "0 should be stored, 7 from online was used" in capsys.readouterr().out


def test_too_few_rows_are_no_proof(registry, tmp_path, capsys):
    """A holdout that gives fewer rows than are asked for is told with what to do."""
    with listening(served_app(tmp_path).app) as url:
        assert tune("skew", "--url", url, *RATE) == 1
    assert (
        "no proof: 800 of 10,000 rows were compared; there are no more; give another table" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["skew"], "name a running service with --url, or a prediction log with --log"),
        (["skew", "--url", "http://127.0.0.1:9", "--rows", "0"], "--rows 0: expected 1 or more"),
        (["skew", "--url", "http://127.0.0.1:9", "--rate", "0"], "--rate 0: expected more than 0"),
        (["skew", "--url", "http://127.0.0.1:9", "--log", "x"], "--log: a proof is made of"),
        (["skew", "--url", "http://127.0.0.1:9"], "http://127.0.0.1:9 does not answer"),
        (["skew", "1", "--log", "none"], "no folder of a prediction log"),
        (["skew", "1", "--log", "x", "--data", "y"], "--data: belongs to a proof by a running service"),
        (["promote", "--rows", "5"], "--rows: belongs to a proof by a running service"),
        (["promote", "--skew-proof", "here"], "here: expected the URL"),
    ],
)
def test_wrong_option_is_told(registry, capsys, words, said):
    """What cannot be proven is exit code 2 with the reason."""
    assert tune(*words) == 2
    assert said in capsys.readouterr().err
