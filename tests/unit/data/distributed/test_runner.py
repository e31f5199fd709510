"""Which work this process does by itself, and which goes to Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pyarrow as pa
import pytest

from data.distributed import runner as module
from data.distributed.pieces import ANYWHERE, Pieces, Placement, each_block_here
from data.distributed.runner import SMALL_ROWS, cluster_for, runner


class _Asked(Exception):
    """A cluster was asked for."""


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has nobody connected, and says when somebody would connect."""

    def ask() -> None:
        raise _Asked

    monkeypatch.setattr(module, "_cluster", ask)
    monkeypatch.setattr(module, "_connected", lambda: False)


def _nothing(piece: int) -> Iterator[pa.Table]:
    return iter(())


@pytest.mark.parametrize(("pieces", "rows"), [(0, 0), (1, None), (1, 10 * SMALL_ROWS), (9, 0), (9, SMALL_ROWS)])
def test_small_work_is_done_here(pieces: int, rows: int | None):
    """A table of up to the stated rows, or of one piece, is worked through by this process."""
    with runner(Pieces("Numbers", range(pieces), _nothing, rows)) as run:
        assert run is each_block_here


@pytest.mark.parametrize(
    ("rows", "placement"), [(SMALL_ROWS + 1, ANYWHERE), (None, ANYWHERE), (1, Placement(labels={"pool": "batch"}))]
)
def test_other_work_goes_to_ray(rows: int | None, placement: Placement):
    """A larger table, one whose rows nobody knows, and any that is to run on nodes with a label, go to a cluster."""
    with pytest.raises(_Asked), runner(Pieces("Numbers", range(2), _nothing, rows), placement):
        pass


def test_connection_that_is_there_is_used(monkeypatch: pytest.MonkeyPatch):
    """A process that is connected to Ray already leaves small work to it as well."""
    monkeypatch.setattr(module, "_connected", lambda: True)
    with pytest.raises(_Asked), runner(Pieces("Numbers", range(2), _nothing, 1)):
        pass


def test_cluster_is_for_large_tables_alone():
    """Whoever needs the cluster for several runners asks by the same number of rows."""
    assert isinstance(cluster_for(SMALL_ROWS), nullcontext)
    with pytest.raises(_Asked):
        cluster_for(SMALL_ROWS + 1)
