"""Waiting for what another process or thread does, bounded."""

from __future__ import annotations

import time
from collections.abc import Callable

WAIT_S = 180.0
"""Only a bound: a busy machine takes many times as long for the same as an idle one."""


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S, every_s: float = 0.1) -> None:
    """Look every `every_s` s whether `condition` holds; fail, saying `what` was waited for, when it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(every_s)
