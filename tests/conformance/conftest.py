"""The stores that every case of this folder is run over."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.settings import Settings


@pytest.fixture(params=["sqlite", pytest.param("cassandra", marks=pytest.mark.cassandra)])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of each driver in turn."""
    if request.param == "sqlite":
        return Settings(store="sqlite", var_dir=tmp_path)
    return request.getfixturevalue("cassandra_node").settings()
