"""Install the virtual environments of the servers that the product is compared with.

Each peer gets a virtual environment of its own with pinned packages, from the package index that pip is set up for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.environments import FOLDER, PACKAGES, NotInstalled, install, python_of
from data.cli.terminal import err, run_cli


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("action", choices=("install", "list"))
    parser.add_argument("peers", nargs="*", choices=[*PACKAGES, []], help=f"of {' '.join(PACKAGES)}; default all")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the environments are made")
    args = parser.parse_args(argv)
    peers = args.peers or list(PACKAGES)
    act = _install if args.action == "install" else _show
    return max(act(peer, args.folder) for peer in peers)


def _install(peer: str, folder: Path) -> int:
    try:
        python_of(peer, folder)
    except NotInstalled:
        err.print(f"{peer}: installing into {folder / peer}", markup=False)
        try:
            install(peer, folder)
        except NotInstalled as exc:
            err.print(str(exc), markup=False, style="red")
            return 1
    err.print(f"{peer}: installed", markup=False)
    return 0


def _show(peer: str, folder: Path) -> int:
    try:
        print(f"{peer}: {python_of(peer, folder)}")
    except NotInstalled as exc:
        print(f"{peer}: {exc}")
    return 0


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
