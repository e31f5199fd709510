"""Child processes of ours, wherever they are started."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from data.distributed.child_process import PACKAGES, child_command, start_child
from ray_app.loadtest.echo_server import echo_server
from tests.support.environment.command_line import write_shadows


def test_child_imports_our_packages(tmp_path: Path):
    """A child started beside a `data.py` and a `numpy.py` imports neither, and finds its words as arguments."""
    command = child_command("ray_app.cli.rayscore", "main", "generate", str(tmp_path / "t.parquet"), "--rows", "100")
    done = subprocess.run(command, cwd=write_shadows(tmp_path), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("working directory")) == (0, 0), done.stderr
    assert "100 transactions" in done.stdout
    assert (PACKAGES / "data").is_dir()


def test_exit_code_is_that_of_the_function(tmp_path: Path):
    """What the function returns is the child's exit code."""
    assert subprocess.run(child_command("ray_app.cli.rayscore", "main", "nothing"), capture_output=True).returncode == 2


@pytest.mark.parametrize("module", ["tune.training.rabit_tracker", "ray_app.prediction_log.writer_process"])
def test_servers_start_beside_shadows(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The tracker and the log's writer start there too, and end when their parent closes the pipe."""
    monkeypatch.chdir(write_shadows(tmp_path))
    with start_child(module, stderr=subprocess.PIPE) as child:
        _, said = child.communicate(b"", timeout=60)
    assert b"working directory" not in said


def test_echo_server_starts_beside_shadows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The load test's own server listens there too, and is gone after the block."""
    monkeypatch.chdir(write_shadows(tmp_path))
    with echo_server() as target:
        assert target.port > 0
