"""Pieces of work as Ray tasks."""

from __future__ import annotations

import os

import pytest

from data.distributed.ray_tasks import Placement, has_node, run_tasks
from data.errors import DataError

pytestmark = pytest.mark.ray
ANYWHERE = Placement()


def halved(item: int) -> int:
    """Half of an even number."""
    if item % 2:
        raise DataError(f"{item} is odd")
    return item // 2


def dying(item: int) -> int:
    """A piece of work that takes its worker with it."""
    os._exit(1)


@pytest.mark.parametrize("concurrency", [None, 1, 3])
def test_every_item_has_one_result(ray_cluster: None, concurrency: int | None):
    """However many run at once, each item is done once."""
    assert sorted(run_tasks(range(0, 40, 2), halved, Placement(concurrency))) == list(range(20))


def test_nothing_to_do(ray_cluster: None):
    """No items give no results."""
    assert list(run_tasks([], halved, ANYWHERE)) == []


def test_error_of_ours_reaches_the_caller_in_its_words(ray_cluster: None):
    """The error that a task raised is raised here, not wrapped in a remote traceback."""
    with pytest.raises(DataError, match=r"^7 is odd$"):
        list(run_tasks([2, 7], halved, ANYWHERE))


def test_worker_that_dies_every_time_is_an_error(ray_cluster: None):
    """A piece that kills its worker whenever it is tried ends the run with words of ours."""
    with pytest.raises(DataError, match="a Ray worker failed and its work could not be repeated"):
        list(run_tasks([1], dying, ANYWHERE))


def test_labels_that_no_node_has_are_known(ray_cluster: None):
    """Work without labels runs anywhere; work for a label waits where no node has it."""
    assert has_node(ANYWHERE)
    assert not has_node(Placement(labels={"pool": "moon"}))
