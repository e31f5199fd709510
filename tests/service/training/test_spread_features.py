"""The table in time by Ray Data: the same as in memory, though workers die in its midst and an entity is large."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data.distributed.pieces import Pieces
from data.distributed.ray_data import each_block
from data.feature_views.events.event_tables import EventFiles, read_events
from data.feature_views.point_in_time import point_in_time
from data.feature_views.spread.pipeline import SpreadTableInTime
from data.feature_views.spread.plan import SpreadPlan
from data.schema.use_case import parse_use_case
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source, read_source
from tests.support.training.cards_in_time import CARDS_HEAD

pytestmark = pytest.mark.ray

_USE_CASE = parse_use_case(
    CARDS_HEAD
    + """
[events.swipes]
entities = ["card", "terminal"]
values = { amount = { decimals = 2 } }
[events.reports]
entities = ["terminal"]
key = "report"
time = "t"
delay = "1h"
[features]
amount = { type = "number" }
count = { aggregate = "count", window = "1h", by = "card", events = "swipes" }
mean = { aggregate = "mean", of = "amount", window = "6h", by = "terminal", with_current = true }
reports = { aggregate = "count", window = "6h", events = "reports" }
ratio = { expression = "amount / mean" }
""",
    "x",
)
_ROWS = 20_000


@contextmanager
def _silent(title: str, rows: int) -> Iterator[Callable[[int], None]]:
    yield lambda count: None


@dataclass(frozen=True)
class Dying:
    """A step whose first task takes its worker with it when its work is done, before anybody hears of it."""

    step: Callable[[pa.Table], Any]
    mark: Path

    def __call__(self, block: pa.Table) -> Any:
        """Apply the step."""
        found = self.step(block)
        if not self.mark.exists():
            self.mark.touch()
            os._exit(1)
        return found


@dataclass(frozen=True)
class DyingRunner:
    """Runs steps by Ray Data, of each of which a worker dies once."""

    folder: Path
    steps: Counter[str]

    def __call__(
        self,
        pieces: Pieces[Any],
        step: Callable[[pa.Table], Any],
        in_order: bool = False,
        small_results: bool = False,
    ) -> Iterator[Any]:
        """Yield the results, as `each_block` does."""
        name = type(step).__name__
        self.steps[name] += 1
        dying = Dying(step, self.folder / f"died-{name}-{self.steps[name]}")
        return each_block(pieces, dying, in_order, small_results)


def _tables(folder: Path) -> tuple[Path, Path]:
    """Write swipes, half of them at one terminal, in eight files, and reports of terminals."""
    rng = np.random.default_rng(3)
    terminal = np.where(rng.random(_ROWS) < 0.5, 0, rng.integers(0, 50, _ROWS))
    swipes = pa.table(
        {
            "id": rng.permutation(_ROWS) // 2 * 2 + (rng.random(_ROWS) < 0.9),
            "t": pa.array(rng.integers(0, 200_000, _ROWS) * 1_000_000, pa.timestamp("us")),
            "card": rng.integers(0, 900, _ROWS),
            "terminal": terminal,
            "amount": np.round(rng.gamma(2, 20, _ROWS), 2),
            "y": rng.integers(0, 2, _ROWS),
        }
    )
    for at in range(8):
        write_table(swipes.slice(at * _ROWS // 8, _ROWS // 8), folder / "swipes" / f"{at}.parquet")
    reports = pa.table({"report": np.arange(500), "t": swipes.column("t")[:500], "terminal": terminal[:500]})
    write_table(reports, folder / "reports.parquet")
    return folder / "swipes", folder / "reports.parquet"


def test_workers_that_die_double_no_row(ray_cluster: None, tmp_path: Path):
    """Each step loses a worker after its files are written: it is done again, and the table is that of memory."""
    swipes, reports = _tables(tmp_path)
    files = EventFiles(None, {"reports": open_source(reports)})
    events = read_events(files, _USE_CASE)
    expected = point_in_time(read_source(open_source(swipes)), _USE_CASE, None, events.others)
    for name in ("scratch", "marks"):
        (tmp_path / name).mkdir()
    run = DyingRunner(tmp_path / "marks", Counter())
    plan = SpreadPlan(_USE_CASE, open_source(swipes), files, tmp_path / "scratch", 2_000)
    spread = SpreadTableInTime(plan, run, _silent)
    found = pa.concat_tables(list(spread.tables()))
    assert found.equals(expected.table)
    assert found.schema.equals(expected.table.schema, check_metadata=True)
    assert spread.left_out == expected.left_out
    assert spread.left_out["swipes"].total() > 0
    died = {path.name.split("-")[1] for path in (tmp_path / "marks").iterdir()}
    assert died == {"ScatterRows", "ScatterEvents", "KeepSingleEvents", "SliceByTime", "ComputeWindows", "AddFeatures"}
