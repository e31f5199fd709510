"""What all deployments' replicas do."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from ray_app.deployments.replica import freeze_heap


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """Leaves the collector of this process as it was."""
    yield
    gc.unfreeze()


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_a_frozen_heap_is_not_looked_at_again():
    """What is loaded is no work for further collections; garbage goes before, and what becomes garbage later, too."""
    before, kept = weakref.ref(_Cycle()), [[at] for at in range(1000)]
    freeze_heap()
    assert before() is None
    assert gc.get_freeze_count() > len(kept)
    assert not any(each is kept for each in gc.get_objects())
    after = weakref.ref(_Cycle())
    gc.collect()
    assert after() is None
