"""Where the tests write their files: into memory, where a machine has plenty."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_ROOT = "PYTEST_DEBUG_TEMPROOT"
"""What pytest makes `tmp_path` and the like below, instead of `/tmp`."""
_MEMORY = Path("/dev/shm")
_PLENTY_BYTES = 8 << 30


def write_to_memory() -> None:
    """Have `tmp_path` in memory, unless the user has said where, or there is too little.

    Each commit of SQLite waits for the disk, and MLflow makes hundreds of them. What a killed process has written
    stays as it does on a disk; only a power cut tells the two apart, and no test makes one.
    """
    if _ROOT not in os.environ and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _PLENTY_BYTES:
        os.environ[_ROOT] = str(_MEMORY)
