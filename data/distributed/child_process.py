"""A child process that runs a function of one of our modules, wherever the packages were imported from.

Python puts the working directory first on the path of a child that is started by `-m` or `-c`: a `data.py` there, or a
folder `data/`, would be imported in place of our package. So the child's path is set before anything is imported.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGES = Path(__file__).parents[2]
"""The folder from which our packages were imported."""

# The entry "" is the working directory.
_CODE = """
import sys
root, function, module, *words = sys.argv[1:]
sys.path[:] = [root, *filter(None, sys.path)]
sys.argv = [module, *words]
import importlib
sys.exit(getattr(importlib.import_module(module), function)())
"""


def child_command(module: str, function: str, *words: str) -> list[str]:
    """Return the command line of a child that calls a function of a module, which finds `words` in `sys.argv`."""
    return [sys.executable, "-c", _CODE.strip(), str(PACKAGES), function, module, *words]


def start_child(module: str, stderr: int | None = None) -> subprocess.Popen[bytes]:
    """Start `serve()` of a module with pipes to and from it, and in a session of its own: a Ctrl-C is for its parent.

    Args:
        module: dotted name of the module whose `serve()` the child calls.
        stderr: as `subprocess.Popen` takes it; None inherits the parent's.
    """
    return subprocess.Popen(
        child_command(module, "serve"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )
