"""Description of the machine and the package versions of a measurement."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path


def describe(module: str, argv: Sequence[str], packages: Sequence[str]) -> str:
    """Markdown list of command, date, machine and versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    command = shlex.join(["python", "-m", module, *argv])
    return "\n".join(
        (
            f"- command: `{command}`",
            f"- date: {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
            f"- machine: {len(os.sched_getaffinity(0))} cores, {_cpu_model()}, {memory:.0f} GiB, {platform.system()}",
            f"- versions: Python {sys.version.split()[0]}, {versions}",
        )
    )


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(found, platform.machine())
