"""Child processes that run the function `serve()` of one of our modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Not `python -m`: the child has to import the packages from where this process did, and under Ray (a working directory
# that it unpacked) or in a test that is not the current folder.
_CODE = "import importlib, sys; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2]).serve()"


def start_child(module: str, stderr: int | None = None) -> subprocess.Popen[bytes]:
    """Start a child process with pipes on its stdin and stdout.

    It gets a session of its own, so that Ctrl-C in the terminal reaches the parent only, which ends the child itself.

    Args:
        module: dotted name of the module whose `serve()` the child calls.
        stderr: as `subprocess.Popen` takes it; None inherits the parent's.
    """
    return subprocess.Popen(
        [sys.executable, "-c", _CODE, str(Path(__file__).parents[2]), module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )
