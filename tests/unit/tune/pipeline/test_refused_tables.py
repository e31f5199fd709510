"""What a search refuses before it connects to Ray: all that a small table and the use case show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray

from data.errors import ConfigError, RayscoreError
from data.schema.use_case import UseCase
from data.settings import Settings
from data.sources.atomic_output import write_table
from tests.support.training.models import card_table
from tests.support.training.registry import new_registry
from tests.support.training.stored_cards import stored_cards
from tune.pipeline.pipeline import learn
from tune.search.study import SearchPlan


@pytest.fixture(autouse=True)
def starts(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What Ray was asked to start; it refuses to."""
    asked: list[object] = []

    def refuse(**options: object) -> None:
        asked.append(options)
        raise RuntimeError("no Ray here")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return asked


def _with_labels(*labels: int) -> pa.Table:
    table = card_table(300)
    column = table.schema.get_field_index("is_fraud")
    return table.set_column(column, "is_fraud", pa.array(np.resize(labels, 300)))


def _late_labels() -> pa.Table:
    """Rows of label 1 at the end of time alone, which is the holdout."""
    return _with_labels(*[0] * 299, 1)


def _space(**space: object) -> UseCase:
    declared = stored_cards()
    return UseCase.model_validate({**declared.model_dump(), "search": {"metric": "auc", "space": space}})


@pytest.mark.parametrize(
    ("table", "use_case", "said"),
    [
        (card_table(300).drop_columns(["amount"]), stored_cards(), "column 'amount' is missing"),
        (card_table(300).drop_columns(["is_fraud"]), stored_cards(), "column 'is_fraud' is missing"),
        (_with_labels(0, 2), stored_cards(), "label column 'is_fraud' holds 0, 2"),
        (_with_labels(0), stored_cards(), "every row has is_fraud = 0"),
        (_late_labels(), stored_cards(), "leaves the train part without both labels"),
        (card_table(300), _space(max_dpth={"low": 3, "high": 9}), "search.space.max_dpth: XGBoost has no such"),
        (None, stored_cards(), "no such file or folder"),
    ],
)
def test_small_table_is_refused_without_ray(
    tmp_path: Path, starts: list[object], table: pa.Table | None, use_case: UseCase, said: str
):
    """Columns, labels, a part without one of them, the search space and the file itself are looked at first."""
    if table is not None:
        write_table(table, tmp_path / "t.parquet")
    with pytest.raises(RayscoreError, match=said):
        learn(use_case, SearchPlan(tmp_path / "t.parquet", trials=1), Settings(var_dir=tmp_path / "var"))
    assert starts == []


def test_good_table_connects_to_ray_once(tmp_path: Path, starts: list[object]):
    """A table that is fit to learn from is what a cluster is started for; that it did not start is told."""
    settings = Settings(var_dir=new_registry(tmp_path / "var"))
    write_table(card_table(300), tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match="Ray did not start on this machine: no Ray here"):
        learn(stored_cards(), SearchPlan(tmp_path / "t.parquet", trials=1), settings)
    assert len(starts) == 1
