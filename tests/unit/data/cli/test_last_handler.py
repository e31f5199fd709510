"""The last handler: whatever a command raises, its user gets one message, exit code 2 and a report without secrets."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.cli.crash_report import explain, plain
from data.cli.terminal import run_cli
from data.errors import DataError

ROOT = Path(__file__).parents[4]


class RemoteError(Exception):
    """As Ray raises what a worker raised: its text is the worker's traceback, its cause the worker's exception."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"\x1b[36mray::work()\x1b[39m\nTraceback (most recent call last):\n  File 'x.py'\n{cause}")
        self.cause = cause


def failed(exc: BaseException, *argv: str) -> int:
    """The exit code of a command that raises."""

    def main(words: object) -> int:
        raise exc

    return run_cli(main, argv)


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the reports."""
    monkeypatch.setenv("RAYSCORE_VAR_DIR", str(tmp_path))
    return tmp_path / "reports"


@pytest.mark.parametrize(
    ("exc", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/data/t.parquet"), "/data/t.parquet: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "free some space"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/data"), "name a file"),
        (MemoryError(), "memory of this machine was not enough"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "save the file as UTF-8"),
        (sqlite3.DatabaseError("file is not a database"), "mlflow.db is the registry"),
        (ModuleNotFoundError("No module named 'xgboost'"), "install rayscore anew"),
        (KeyError("amount"), "a fault of rayscore"),
        (RemoteError(OSError(errno.ENOSPC, "No space left on device", "/x")), "/x: No space left on device"),
        (RemoteError(KeyError("amount")), "KeyError: 'amount'"),
    ],
)
def test_user_is_told_what_to_do(exc: BaseException, words: str, reports: Path, capsys: pytest.CaptureFixture[str]):
    """The message says what went wrong and what to do, and names the report, which has the traceback."""
    assert failed(exc, "validate", "t.parquet") == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert "validate t.parquet" in said
    (report,) = reports.iterdir()
    assert str(report) in said
    assert "Traceback (most recent call last)" in report.read_text("utf-8")


def test_innermost_cause_is_told(reports: Path, capsys: pytest.CaptureFixture[str]):
    """Of an exception that was raised from another, the user reads the other."""
    outer = RuntimeError("(sqlalchemy.exc.X) see https://sqlalche.me")
    outer.__cause__ = sqlite3.OperationalError("database is locked")
    assert failed(outer) == 2
    said = capsys.readouterr().err
    assert "database is locked" in said
    assert "sqlalche" not in said


def test_our_error_in_a_worker_is_told_as_it_is(reports: Path, capsys: pytest.CaptureFixture[str]):
    """An error of ours that Ray wrapped reads as if it had been raised here."""
    assert failed(RemoteError(DataError("t.parquet: row 7: no amount"))) == 2
    assert capsys.readouterr().err.startswith("error: t.parquet: row 7: no amount (in ")


def test_our_error_with_a_traceback_in_its_text_shows_none(reports: Path, capsys: pytest.CaptureFixture[str]):
    """A text of ours that quotes a worker's traceback is cut to its last line; the whole is in the report."""
    assert failed(DataError("a worker failed:\nTraceback (most recent call last):\n  File 'x.py'\nOSError: gone")) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert len(list(reports.iterdir())) == 1


def test_report_has_no_secrets(reports: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Neither message nor report holds a secret setting, a secret option, or a user in an address."""
    monkeypatch.setenv("RAYSCORE_ADMIN_TOKEN", "an-admin-token-of-ours")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a-ray-token-of-ours")
    raised = ValueError("an-admin-token-of-ours and a-ray-token-of-ours at http://user:pass@mlflow:5000")
    assert failed(raised, "skew", "--token", "option-token", "--api-key=option-key") == 2
    (report,) = reports.iterdir()
    for text in (report.read_text("utf-8"), capsys.readouterr().err):
        assert "http://***@mlflow:5000" in text
        for secret in ("an-admin-token", "a-ray-token", "user:pass", "option-token", "option-key"):
            assert secret not in text


def test_report_goes_elsewhere_when_the_var_folder_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """With wrong settings, or a var folder that cannot be made, the report is in the temporary folder."""
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("RAYSCORE_VAR_DIR", str(tmp_path / "file" / "var"))
    assert failed(KeyError("x"), "list") == 2
    monkeypatch.setenv("RAYSCORE_VAR_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("RAYSCORE_MAX_BATCH", "many")
    assert failed(KeyError("x"), "show") == 2
    assert len(list((tmp_path / "rayscore-reports").iterdir())) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_interrupted_import_is_an_interrupt(reports: Path, capsys: pytest.CaptureFixture[str]):
    """A library that Ctrl-C stops while it is imported says that it could not be: that is exit code 130."""
    broken = ImportError("numpy could not be imported")
    broken.__cause__ = KeyboardInterrupt()
    assert failed(broken) == 130
    assert failed(KeyboardInterrupt()) == 130
    assert not reports.exists()
    assert capsys.readouterr().err.count("interrupted") == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(text=st.text(), kind=st.sampled_from([ValueError, KeyError, OSError, RuntimeError, UnicodeError]))
def test_any_text_becomes_one_line(text: str, kind: type[Exception]):
    """Whatever an exception says, what the user reads of it is one line of bounded length."""
    found = explain(RemoteError(kind(text)))
    assert len(found.what.splitlines()) <= 1
    assert len(found.what) < 600
    assert found.to_do
    assert len(plain(text).splitlines()) <= 1


_FRAME = """
import sys, types
sys.path.insert(0, {root!r})
from data.cli.command_line import Command, CommandGroup, CommandLine
one = types.ModuleType("one")
sys.modules["one"] = one
exec({code!r}, one.__dict__)
one.add_arguments = lambda parser: None
sys.argv = ["rayscore", "one"]
sys.exit(CommandLine("rayscore", "x", (CommandGroup("x", (Command("one", "one", "one"),)),), "").execute())
"""


def command(code: str) -> list[str]:
    """A command line with one command, whose `run` is in the code of its module."""
    return [sys.executable, "-c", _FRAME.format(root=str(ROOT), code=code)]


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        ("import warnings\ndef run(args):\n  warnings.warn('old')\n  return 0", 0, ""),
        ("class Gone:\n  def __del__(self): raise ValueError('late')\ndef run(args):\n  Gone()\n  return 0", 0, ""),
        ("import sys\ndef run(args): sys.exit(7)", 7, ""),
        (
            "import threading\ndef work(): raise ValueError('aside')\n"
            "def run(args):\n  t = threading.Thread(target=work); t.start(); t.join()\n  return 0",
            0,
            "note: work in the background failed: ValueError: aside\n",
        ),
        ("import os, signal\ndef run(args): os.kill(os.getpid(), signal.SIGTERM)", 130, "interrupted"),
        ("import sys\ndef run(args):\n  raise BrokenPipeError(32, 'Broken pipe')", 2, "Broken pipe"),
        (
            "import sys\nsys.stdout = open('/dev/full', 'w')\ndef run(args): print('x', flush=True)",
            2,
            "free some",
        ),
    ],
    ids=["warning", "finalizer", "exit", "thread", "sigterm", "pipe of a server", "full"],
)
def test_python_says_nothing_by_itself(code: str, exit_code: int, said: str, tmp_path: Path):
    """Warnings, threads, finalizers, signals and a full disk end in no words of Python's own, and the right code."""
    environment = {**os.environ, "RAYSCORE_VAR_DIR": str(tmp_path)}
    done = subprocess.run(command(code), env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == exit_code, done.stderr
    assert done.stderr == said or (said and said in done.stderr)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_reader_that_left_ends_the_command_in_silence():
    """`rayscore ... | head` has nothing on stderr when head leaves."""
    code = "from data.cli.terminal import say\ndef run(args):\n  while True: say('x' * 1000)"
    child = subprocess.Popen(command(code), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout and child.stderr
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == ""
    assert child.wait(60) == 2


def test_ctrl_c_while_modules_are_imported():
    """Ctrl-C between the start of the interpreter and the command ends it with code 130 and no word."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport data.cli\nraise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "")
