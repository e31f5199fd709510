"""Generated impressions: whole sessions, whose order who knows the user tells better than popularity does."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from data.schema.use_case import load_use_case
from data.sources.synthetic.generators import GENERATORS
from data.sources.synthetic.plan import BLOCK_ROWS, GenerationPlan, shards
from tests.support.training.models import train_bundle


def generated(count: int) -> pa.Table:
    """The rows of a plan."""
    plan = GenerationPlan(rows=count, seed=0, entities=400, days=90, end_us=1_767_225_600_000_000)
    return pa.concat_tables(GENERATORS["product_ranking"].tables(shards(plan, 1)[0])).combine_chunks()


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    """A small table."""
    return generated(12_000)


def test_model_is_better_than_popularity(rows):
    """NDCG of the first 10 is better than by the mean grade of the product, by its interval, as the gate asks for."""
    manifest = train_bundle(
        rows, load_use_case("product_ranking"), rounds=100, max_depth=4, learning_rate=0.06
    ).manifest
    assert manifest.metrics["ndcg"] > 0.6
    assert manifest.baselines["popularity"].low > 0.1


def test_sessions_are_whole():
    """A session has one user, one time and one device, no product twice, 10 to 20 rows, and spans no blocks."""
    frame = generated(BLOCK_ROWS + 500).to_pandas()
    sessions = frame.groupby("session_id", sort=False)
    assert (sessions[["user_id", "shown_at", "device"]].nunique() == 1).all().all()
    assert (sessions["product_id"].nunique() == sessions.size()).all()
    sizes = sessions.size().to_numpy()
    assert sizes.max() <= 20
    assert (np.sort(sizes)[2:] >= 10).all()
    assert frame["shown_at"].is_monotonic_increasing


def test_few_are_clicked_and_fewer_bought(rows):
    """Most impressions come to nothing, and most sessions have something that was clicked."""
    frame = rows.to_pandas()
    shares = frame["grade"].value_counts(normalize=True)
    assert shares[0] > 0.8 > shares[1] > shares[2] > 0.01
    assert (frame.groupby("session_id")["grade"].max() > 0).mean() > 0.6
