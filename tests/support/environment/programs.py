"""Programs that some tests run for real; a test says by a marker which it needs.

Where one is missing the test is skipped, in one line a program; with REQUIRE_TOOLS=1 it fails instead.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

from tests.support.services import cassandra, kafka


def missing_tool(marker: str) -> str | None:
    """What keeps tests with this marker from being run here, and how to have it; None where all is there."""
    if marker in _SERVERS:
        return _SERVERS[marker]()
    absent = [program for program in _PROGRAMS[marker] if shutil.which(program) is None]
    if not absent:
        return None
    package = _PACKAGES[marker]
    return f"REAL {marker.upper()} TESTS NOT RUN: {absent[0]} is missing; have them with `apt-get install {package}`"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look before the fixtures do: skips from one place make one line in the summary, those of fixtures one a test."""
    for marker in (*_SERVERS, *_PROGRAMS):
        if item.get_closest_marker(marker) and (reason := missing_tool(marker)):
            unavailable(reason)


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it with REQUIRE_TOOLS=1."""
    if os.environ.get("REQUIRE_TOOLS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


_SERVERS = {"cassandra": cassandra.missing, "kafka": kafka.missing}
_PROGRAMS = {"prometheus": ("prometheus", "promtool"), "chromium": ("chromium", "chromedriver")}
_PACKAGES = {"prometheus": "prometheus", "chromium": "chromium chromium-driver"}
