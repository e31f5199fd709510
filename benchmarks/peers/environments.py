"""Virtual environments of the peers, installed from pinned requirements."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

from data.errors import RayscoreError

FOLDER = Path("var/peers")
"""Where environments are unless an option says otherwise."""
ROOT = Path(__file__).parents[2]
"""The project's folder, from which peers import what they share."""
PACKAGES = {
    "bentoml": "bentoml",
    "kserve": "kserve",
    "litserve": "litserve",
    "mlserver": "mlserver",
    "ray-tutorial": "ray",
}
"""The package that each peer with an environment of its own is about."""
_DONE = "installed"


class NotInstalled(RayscoreError):
    """A peer's virtual environment is missing, incomplete or outdated; the message says why, if known."""


def requirements(peer: str) -> Path:
    """Path of a peer's pinned requirements file."""
    return Path(__file__).parent / "requirements" / f"{peer}.txt"


def install(peer: str, folder: Path) -> None:
    """Create a peer's virtual environment anew; a failure is recorded, so that `python_of` can report it.

    Raises:
        NotInstalled: pip could not install it.
    """
    home = folder.absolute() / peer
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(home / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "-r", str(requirements(peer))], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=False
    )
    if done.returncode:
        (home / "failed").write_text(done.stderr[-2000:])
        raise NotInstalled(_failure(peer, done.stderr))
    # The pins as they were installed: when the file changes, the environment is out of date.
    shutil.copyfile(requirements(peer), home / _DONE)


def python_of(peer: str, folder: Path) -> Path:
    """Path of the Python in a peer's virtual environment.

    Raises:
        NotInstalled: it was not created, its installation failed, or its pins have changed since.
    """
    home = folder.absolute() / peer
    if (home / "failed").exists():
        raise NotInstalled(_failure(peer, (home / "failed").read_text()))
    made = home / _DONE
    if not made.exists() or made.read_bytes() != requirements(peer).read_bytes():
        state = "out of date" if made.exists() else "missing"
        raise NotInstalled(f"its environment {home} is {state}: run `python -m benchmarks.peers install {peer}`")
    return home / "bin/python"


def versions(peers: Sequence[str], folder: Path) -> dict[str, str]:
    """Installed version of each peer's package, by package name."""
    found = {}
    for peer in peers:
        site = folder / peer / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        for package in distributions(name=PACKAGES[peer], path=[str(site)]):
            found[f"{peer} ({PACKAGES[peer]})" if peer != PACKAGES[peer] else peer] = package.version
    return found


def _failure(peer: str, said: str) -> str:
    lines = [line for line in said.strip().splitlines() if line.startswith("ERROR")] or said.strip().splitlines()
    return f"pip could not install {peer}: {lines[-1] if lines else 'no reason given'}"
