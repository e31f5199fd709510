"""The `rayscore` command as pip installs it, and a folder in which its imports would go wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[3]
OURS = ("data.py", "tune.py", "ray_app.py")
SHADOWS = (*OURS, "numpy.py", "ray.py")


def entry_point() -> str:
    """`module:function` of the console script, as the project declares it."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]["rayscore"]


def write_script(folder: Path) -> tuple[str, str]:
    """Write the script that pip makes of the entry point, and return the command that runs it, here unnamed by PATH."""
    module, _, function = entry_point().partition(":")
    script = folder / "bin" / "rayscore"
    script.parent.mkdir()
    script.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n", "utf-8")
    return sys.executable, str(script)


def write_shadows(folder: Path, names: Iterable[str] = SHADOWS) -> Path:
    """Write modules of the names of ours, and of libraries, which say so and end whoever imports them."""
    for name in names:
        (folder / name).write_text(f"raise SystemExit('{name} of the working directory was imported')\n", "utf-8")
    return folder
