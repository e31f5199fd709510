"""`rayscore skew --in-time` and `promote --skew-proof URL --in-time` from table, registry and service to exit code."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow.compute as pc
import pytest

from data.cli.terminal import EXIT_ERROR, EXIT_REFUSED, run_cli
from data.settings import load_settings
from data.sources.atomic_output import write_table
from tests.support.serving.window_app import EVENTS_TOKEN, START, SWIPES, swipes_bundle, swipes_table
from tests.support.training.in_time import remove_newest, scratch_events, service_in_time, timed_reports, timed_swipes
from tests.support.training.registry import new_registry
from tune.__main__ import main
from tune.cli import skew_in_time
from tune.registry.registry import HOLDOUT_FOLDER, Registry
from tune.registry.traffic_rules import CHAMPION
from tune.search.mlflow_runs import MlflowRuns

LENIENT = SWIPES + "\n[gates]\nmax_ece = 1\nbeats_chance = false\nskew_rows = 100\n"


def tune(*argv: object) -> int:
    """Run the command as `rayscore tune` does and return the exit code."""
    return run_cli(main, [str(word) for word in argv])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the table, the events beside it, and a registry with the model as version 1 and its holdout."""
    folder = tmp_path_factory.mktemp("in_time")
    swipes = timed_swipes(500)
    reports = timed_reports(swipes)
    write_table(swipes, folder / "swipes.parquet")
    write_table(reports, folder / "reports.parquet")
    (folder / "swipes.toml").write_text(LENIENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSCORE_VAR_DIR", str(folder / "var"))
        settings = load_settings()
    new_registry(settings.var_dir)
    tracker = MlflowRuns(settings.tracking_uri, settings.artifact_dir, "swipes")
    run_id = tracker.start("run", {})
    holdout = swipes_table(swipes.to_pylist(), reports.to_pylist())
    recent = pc.call_function("greater_equal", [holdout.column("swiped_at"), START + timedelta(days=1)])
    write_table(holdout.filter(recent), folder / "holdout" / "holdout.parquet")
    tracker.log_folder(run_id, folder / "holdout", HOLDOUT_FOLDER)
    Registry(settings.tracking_uri, settings.artifact_dir).publish(swipes_bundle(), run_id)
    return folder


@pytest.fixture
def words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What every command of this file is told."""
    monkeypatch.setenv("RAYSCORE_VAR_DIR", str(folder / "var"))
    monkeypatch.setenv("RAYSCORE_EVENTS_TOKEN", EVENTS_TOKEN)
    events = ("--events", f"reports={folder / 'reports.parquet'}")
    return ["--in-time", "--data", folder / "swipes.parquet", *events, "--use-case", folder / "swipes.toml"]


@pytest.fixture
def url(words: list[object]) -> Iterator[str]:
    """The URL of a service that serves the model as version 1."""
    with service_in_time(load_settings(), swipes_bundle(), "1") as url:
        yield url


def test_sound_service_is_proven_and_the_version_promoted(words, url, capsys):
    """The holdout is found in the table by its time; the report has counts and figures, and the gate goes by it."""
    assert tune("skew", "--url", url, *words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "version 1: in time: " in said and " rows, 0 differ; " in said
    assert " of them late and " in said and " rows sent again, " in said
    assert "pr_auc of these rows: " in said and "serving computes what training computed" in said
    assert tune("promote", "--skew-proof", url, "--rows", "50", *words) == EXIT_REFUSED
    assert "50 rows, 0 differ" in capsys.readouterr().out
    assert tune("promote", "--skew-proof", url, *words) == 0
    assert "in time: " in capsys.readouterr().out
    settings = load_settings()
    assert Registry(settings.tracking_uri, settings.artifact_dir).version("swipes", CHAMPION).version == "1"


def test_lost_event_is_a_refusal_that_names_it(words, url, folder, monkeypatch, capsys):
    """An event that is removed from the scratch store meanwhile ends with exit code 1 and its key."""
    removed: list[int] = []
    real = skew_in_time.prove_in_time

    def losing(*given, advance, **more):
        def lose(rows: int) -> None:
            advance(rows)
            if not removed:
                removed.append(remove_newest(scratch_events(folder / "var")))

        return real(*given, advance=lose, **more)

    monkeypatch.setattr(skew_in_time, "prove_in_time", losing)
    assert tune("skew", "1", "--url", url, *words) == EXIT_REFUSED
    said = " ".join(capsys.readouterr().out.split())
    assert "no proof: serving does not compute what training computed" in said
    assert "missing of events swipes of " in said and f" {removed[0]} of " in said


@pytest.mark.parametrize(
    ("left_out", "more", "said"),
    [
        ("--data", (), "name the whole table, with the rows before the holdout, by --data PATH"),
        ("--events", (), "the events of source 'reports' are not given: add --events reports=PATH"),
        ("--in-time", (), "--events: belongs to a proof in time; add --in-time"),
        (None, ("--log", "var"), "--log: not of a proof in time"),
        (None, ("--rows", "0"), "--rows 0: expected 1 or more"),
    ],
)
def test_options_that_do_not_fit(words, left_out, more, said, capsys):
    """What is missing, or of another proof, is said before the service is asked."""
    if left_out is not None:
        at = words.index(left_out)
        words = words[:at] + words[at + (1 if left_out == "--in-time" else 2) :]
    assert tune("skew", "1", "--url", "http://127.0.0.1:9", *words, *more) == EXIT_ERROR
    assert said in " ".join(capsys.readouterr().err.split())


def test_without_a_token_nothing_is_asked(words, monkeypatch, capsys):
    """The scratch stores are opened by the token for events."""
    monkeypatch.delenv("RAYSCORE_EVENTS_TOKEN")
    assert tune("skew", "1", "--url", "http://127.0.0.1:9", *words) == EXIT_ERROR
    assert "set RAYSCORE_EVENTS_TOKEN" in " ".join(capsys.readouterr().err.split())
