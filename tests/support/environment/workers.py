"""How the tests are divided among the processes of `pytest -n`: what shares an expensive fixture stays together."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path, PurePath
from types import FrameType

import pytest
from xdist.scheduler import LoadScopeScheduling

_SHARING = ("serving", "training", "windows", "cassandra")
"""Folders of `tests/service` whose files have a service, a cluster or a node between them."""
_APART = ("test_distributed_training.py",)
"""Files of those folders that take as long as the rest of theirs: worth a cluster of their own in another process."""
_FIRST = (
    "training",
    "serving",
    "tests/service/training/",
    "tests/service/standalone/test_demo",
    "windows",
    "tests/service/",
    "cassandra",
)
"""What takes longest begins first: a process that got it last would work alone in the end."""


def group_of(nodeid: str) -> str:
    """The group of a test; one process runs all tests of a group.

    Tests of a folder that shares something expensive are one group. Any other file, such as those of
    `tests/service/standalone`, which start all they need themselves, is a group of its own.
    """
    file = PurePath(nodeid.partition("::")[0])
    shares = file.parent.parent.as_posix() == "tests/service" and file.parent.name in _SHARING
    if shares and file.name not in _APART:
        return file.parent.name
    return "cassandra" if file.parent.name == "conformance" else file.as_posix()


class GroupScheduling(LoadScopeScheduling):
    """Hands out whole groups, in the order in which the tests are collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> GroupScheduling:
    """Divide by groups. pytest-xdist's own `loadgroup` finds none with pytest 9: it marks an attribute that is gone."""
    _divides.append(True)
    config.option.loadscopereorder = False  # it would begin with the groups of most tests
    return GroupScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a process of several, put the long groups first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _rank(group_of(item.nodeid)))


def interrupt(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does, which a terminal sends to every process: left alone, the others are killed in mid-test."""
    for pid in _children() if _divides else ():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
    signal.default_int_handler(number, frame)


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


_divides: list[bool] = []
"""Holds something in the process whose children are those that run tests."""


def _rank(group: str) -> int:
    return next((rank for rank, first in enumerate(_FIRST) if group.startswith(first)), len(_FIRST))
