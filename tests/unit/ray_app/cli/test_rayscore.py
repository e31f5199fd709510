"""`rayscore`: the console script, its help, what it says to a mistyped command, and what a shell completes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from ray_app.cli.rayscore import LINE, main
from tests.support.environment.command_line import ROOT, entry_point, write_script, write_shadows
from tune.__main__ import main as tune_main

COMMANDS = (
    *("generate", "convert", "validate", "features", "draft", "materialize", "get", "ingest", "log"),
    *("tune", "list", "show", "compare", "skew", "promote", "rollout", "traffic"),
    *("demo", "score", "late", "loadtest", "env"),
)


@pytest.fixture(autouse=True)
def hooks() -> Iterator[None]:
    """Give the tests' own handlers back: the entry point installs the command's."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    unraisable, in_thread, uncaught = sys.unraisablehook, threading.excepthook, sys.excepthook
    yield
    sys.unraisablehook, threading.excepthook, sys.excepthook = unraisable, in_thread, uncaught
    for number, handler in before.items():
        signal.signal(number, handler)


def typed(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of the entry point."""
    monkeypatch.setattr(sys, "argv", ["rayscore", *words])
    try:
        return main()
    except SystemExit as left:
        assert isinstance(left.code, int)
        return left.code


def completed(tmp_path: Path, line: str) -> set[str]:
    """What a shell is given to complete the line with."""
    answer = tmp_path / "answer"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "IFS": "\n"}
    environment = {**os.environ, **asked, "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    command = write_script(tmp_path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return {word.strip() for word in answer.read_text("utf-8").splitlines()}


def test_entry_point_resolves():
    """What pyproject.toml declares as the console script is a function of ours."""
    module, _, function = entry_point().partition(":")
    assert getattr(import_module(module), function) is main


def test_script_runs_from_any_folder(tmp_path: Path):
    """The installed script prints the exports of `env` beside files that are named like our packages."""
    command = [*write_script(tmp_path), "env"]
    done = subprocess.run(command, cwd=write_shadows(tmp_path), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "export RAY_SERVE_ENABLE_HA_PROXY=" in done.stdout


@pytest.mark.skipif(sys.version_info < (3, 11), reason="-P came with Python 3.11")
def test_module_runs_beside_its_namesake_where_python_looks_past_it(tmp_path: Path):
    """`python -P -m data` is our commands beside a `data.py`."""
    command = [sys.executable, "-P", "-m", "data", "generate", "t.parquet", "--rows", "10"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=write_shadows(tmp_path), env=environment, capture_output=True, text=True)
    assert (done.returncode, (tmp_path / "t.parquet").is_file()) == (0, True), done.stderr


def test_every_command_is_there():
    """The table has the commands of all three packages, each once, with the search called `tune`."""
    assert tuple(LINE.commands) == COMMANDS


def test_help_lists_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The help, which is also shown without a command, has each command with what it does in one line."""
    assert typed(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert typed(monkeypatch) == 0
    assert capsys.readouterr().out == shown
    for command in LINE.commands.values():
        assert f"  {command.name} " in shown
        assert f" {command.help}\n" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The help of a command names it as it was typed, and says more than its usage."""
    assert typed(monkeypatch, command, "--help") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: rayscore {command} [-h]")
    assert len(shown.split("\n\n")) > 2


def test_help_names_the_program_that_was_typed(capsys: pytest.CaptureFixture[str]):
    """Under `python -m tune` the usage says so, with the search as the command that is meant by no name."""
    for words in (["--trials", "many"], ["search", "--trials", "many"]):
        with pytest.raises(SystemExit, match="2"):
            tune_main(words)
        assert capsys.readouterr().err.startswith("usage: python -m tune search [-h]")


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`--version` prints the version that is installed."""
    assert typed(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith("rayscore ")


def test_version_of_bare_sources(tmp_path: Path):
    """Where the package is not installed, as in a job that takes its code along, `--version` says so."""
    for name in ("data", "tune", "ray_app"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("argcomplete", "rich", "pygments", "markdown_it", "mdurl"):
        (tmp_path / name).symlink_to(Path(import_module(name).__file__ or "").parent)
    # Without site-packages there is no metadata of any package.
    command = [sys.executable, "-S", "-m", "ray_app", "--version"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "rayscore (run from its sources, not installed)\n", done.stderr


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("rollot", "unknown command 'rollot'; did you mean 'rollout'? `rayscore --help` lists them all"),
        ("xyzzy", "unknown command 'xyzzy'; `rayscore --help` lists them all"),
    ],
)
def test_unknown_command(word: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A mistyped command ends with exit code 2 and the one that was meant, where one is close."""
    assert typed(monkeypatch, word, "--rows", "5") == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--rows", "5"], ["--"], ["-q", "env"]])
def test_options_without_a_command(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Options that no command precedes are refused with exit code 2, never with a traceback."""
    assert typed(monkeypatch, *words) == 2
    assert "rayscore: error: " in capsys.readouterr().err


def test_default_command_does_not_swallow_a_mistyped_one(capsys: pytest.CaptureFixture[str]):
    """`python -m tune promot` is a mistake, not a search."""
    with pytest.raises(SystemExit, match="2"):
        tune_main(["promot"])
    assert "unknown command 'promot'; did you mean 'promote'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rayscore ro", {"rollout"}),
        ("rayscore rollout r", {"resume", "rollback"}),
        ("rayscore generate --e", {"--end", "--entities"}),
        ("rayscore loadtest --profile s", {"step", "spike"}),
    ],
)
def test_shell_completes(tmp_path: Path, line: str, words: set[str]):
    """The Tab key offers commands, actions, options, and values of options that take one of a few."""
    assert completed(tmp_path, line) == words


def test_shell_completes_every_command(tmp_path: Path):
    """After the program's name, every command is offered."""
    assert completed(tmp_path, "rayscore ") >= set(COMMANDS)
