"""The whole of a search as one call: what it refuses before it touches anything."""

from __future__ import annotations

import pytest

from data.errors import ConfigError
from data.settings import Settings
from data.usecase import load_use_case
from tests.support_model import write_card_table
from tune.pipeline import learn
from tune.study import Plan, journal_of


def test_second_search_is_refused_and_leaves_the_shards_of_the_first(tmp_path):
    """While one search holds the journal, another of the use case ends at once, and what the first reads stays."""
    use_case = load_use_case("card_fraud")
    settings = Settings(var_dir=tmp_path / "var", train_memory_mb=1)
    shard = settings.var_dir / "shards" / use_case.name / "00000-000.x.npy"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"rows")
    plan = Plan(write_card_table(tmp_path / "cards.parquet", rows=20_000), trials=1)
    with (
        journal_of(use_case, settings).held(),
        pytest.raises(ConfigError, match=r"another search writes to .*wait for its end"),
    ):
        learn(use_case, plan, settings)
    assert shard.read_bytes() == b"rows"
