"""A child process that runs `serve()` of one of our modules, wherever the packages were imported from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CODE = "import importlib, sys; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2]).serve()"


def start_child(module: str, stderr: int | None = None) -> subprocess.Popen[bytes]:
    """Start one with pipes to and from it, and in a session of its own: a Ctrl-C is for its parent.

    Args:
        module: its dotted name.
        stderr: as `subprocess.Popen` takes it; None for the parent's.
    """
    return subprocess.Popen(
        [sys.executable, "-c", _CODE, str(Path(__file__).parents[2]), module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )
