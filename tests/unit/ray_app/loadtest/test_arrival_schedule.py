"""Arrival schedules and percentiles of the load test: pure functions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.loadtest.arrival_schedule import Profile, arrivals
from ray_app.loadtest.percentiles import QUANTILES, curve, percentiles

EXPECTED = {Profile.CONSTANT: 3000, Profile.RAMP: 1650, Profile.STEP: 2100, Profile.SPIKE: 840}


@pytest.mark.parametrize("profile", Profile)
def test_number_and_order(profile: Profile):
    """A profile asks for the integral of its rate, in order and within the duration."""
    due = arrivals(profile, 100, 30)
    assert len(due) == EXPECTED[profile]
    assert (np.diff(due) > 0).all()
    assert due[0] == 0
    assert due[-1] < 30


def test_constant_is_evenly_spaced():
    """At a constant rate requests are due at the same distance, warm-up before 0 included."""
    due = arrivals(Profile.CONSTANT, 200, 2, warmup_s=0.5)
    assert due == pytest.approx(np.arange(-100, 400) / 200)


def test_step_and_spike_rates():
    """A step goes from a tenth to the full rate at a third, a spike is full from 40 % to 60 %."""
    step = np.histogram(arrivals(Profile.STEP, 100, 30), bins=30, range=(0, 30))[0]
    assert step.tolist() == [10] * 10 + [100] * 20
    spike = np.histogram(arrivals(Profile.SPIKE, 100, 30), bins=30, range=(0, 30))[0]
    assert spike.tolist() == [10] * 12 + [100] * 6 + [10] * 12


def test_ramp_rises_evenly():
    """The ramp's count up to any time is the integral of its rate."""
    due = arrivals(Profile.RAMP, 100, 30)
    assert 10 * due + 1.5 * due**2 == pytest.approx(np.arange(len(due)))


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=300))
def test_percentiles_agree_with_numpy_and_the_definition(values: list[float]):
    """Each percentile is a measured value that its share of all does not exceed, next to numpy's interpolation."""
    data = np.array(values)
    found = percentiles(data)
    for name, share in QUANTILES.items():
        assert found[name] in values
        assert (data <= found[name]).mean() >= share - 1e-9
        assert found[name] <= np.quantile(data, share, method="higher")
    assert found["max"] == data.max()


def test_percentiles_of_nothing():
    """Without values there is no percentile, and an empty curve."""
    assert np.isnan(list(percentiles(np.array([])).values())).all()
    assert len(curve(np.array([]))[0]) == 0


def test_curve_is_the_whole_distribution():
    """The curve gives for each value the share of requests at or below it."""
    shares, values = curve(np.array([3.0, 1.0, 2.0, 4.0]))
    assert shares.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert values.tolist() == [1, 2, 3, 4]
