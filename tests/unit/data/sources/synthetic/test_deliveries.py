"""Generated deliveries: minutes that the row explains in part, and far ones less than near ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from xgboost import XGBRegressor

from data.sources.synthetic.generators import GENERATORS
from data.sources.synthetic.plan import GenerationPlan, shards

_LEARNED, _ROWS = 16_000, 20_000


@pytest.fixture(scope="module")
def rows():
    """The rows of one plan."""
    plan = GenerationPlan(rows=_ROWS, seed=0, entities=50, days=90, end_us=1_767_225_600_000_000)
    return pa.concat_tables(GENERATORS["delivery_time"].tables(shards(plan, 1)[0])).combine_chunks()


@pytest.fixture(scope="module")
def errors(rows):
    """Errors of a model in the later rows, in minutes, and the minutes."""
    names = ["hour", "distance_km", "items", "estimated_prep", "open_orders", "floor", "prepaid"]
    known = [rows[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in names]
    known += [rows[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in ("vehicle", "weather")]
    features, minutes = np.column_stack(known), rows["minutes"].to_numpy()
    model = XGBRegressor(n_estimators=150, max_depth=4, learning_rate=0.08, n_jobs=1)
    model.fit(features[:_LEARNED], minutes[:_LEARNED])
    return minutes[_LEARNED:] - model.predict(features[_LEARNED:]), minutes[_LEARNED:]


def test_row_explains_most_of_the_minutes(errors):
    """A model that has learned the earlier deliveries explains most of the variance of the later ones, not all."""
    missed, minutes = errors
    assert 0.65 < 1 - missed.var() / minutes.var() < 0.9


def test_far_deliveries_spread_wider(rows, errors):
    """The errors of far deliveries are twice those of near ones: one width of interval does not suit both."""
    missed, distance = np.abs(errors[0]), rows["distance_km"].to_numpy()[_LEARNED:]
    assert np.median(missed[distance > 5]) > 2 * np.median(missed[distance < 2])


def test_weather_is_the_same_for_everybody(rows):
    """Deliveries of one hour have one weather."""
    frame = rows.select(["ordered_at", "weather"]).to_pandas()
    assert (frame.groupby(frame["ordered_at"].dt.floor("1h"))["weather"].nunique() == 1).all()
    assert set(frame["weather"]) == {"clear", "rain", "snow"}
