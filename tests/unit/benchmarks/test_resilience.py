"""How the resilience benchmark reads its samples: when answers are good again, and what was on its way."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.resilience import main
from benchmarks.servers.replica_starts import phases
from data.cli.terminal import run_cli
from tests.support.load.paced_load import Outcome
from tests.support.training.models import card_bundle


def outcome(latency_ms: dict[tuple[float, float], float], status: dict[float, int] | None = None) -> Outcome:
    """Ten seconds at 100/s: 1 ms each but within the given times, 200 but at the given ones."""
    due = np.arange(1000) / 100
    latency = np.full(1000, 0.001)
    for (since, until), value in latency_ms.items():
        latency[(due >= since) & (due < until)] = value / 1000
    codes = np.full(1000, 200)
    for at, code in (status or {}).items():
        codes[round(at * 100)] = code
    return Outcome(0.0, due, np.zeros(1000), latency, codes, 0.1)


def test_back_is_the_first_good_second() -> None:
    """Slow answers and failures after the event count until a whole second is without."""
    assert outcome({}).back_after(4.0, 5.0) == 0
    assert outcome({(4.0, 5.95): 50.0}).back_after(4.0, 5.0) == pytest.approx(2.0, abs=0.11)
    assert outcome({}, {6.05: 500}).back_after(6.0, 5.0) == pytest.approx(0.1, abs=0.01)


def test_never_back_is_infinite() -> None:
    """Answers that stay slow to the end are never back."""
    assert math.isinf(outcome({(4.0, 10.0): 50.0}).back_after(4.0, 5.0))


def test_what_was_under_way_is_known_by_its_times() -> None:
    """A request counts from when it was sent until it was answered."""
    assert outcome({(3.9, 4.0): 200.0}).under_way(4.005) == 10
    assert outcome({(3.9, 4.0): 200.0}).under_way(4.505) == 0


def test_failures_are_no_latencies() -> None:
    """A quick refusal does not lower the percentile of the answers."""
    seen = outcome({(0.0, 10.0): 20.0}, {at / 100: 503 for at in range(500)})
    assert seen.failed == 500
    assert seen.p99_ms() == pytest.approx(20.0)


def test_a_replicas_start_is_taken_apart(tmp_path: Path) -> None:
    """Each step of a replica's start takes some time in a fresh process."""
    bundle = tmp_path / "bundle"
    bundle.write_bytes(card_bundle().to_bytes())
    assert all(seconds > 0 for seconds in phases(bundle))


def test_an_unknown_trial_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A trial that does not exist is refused with those that do."""
    with pytest.raises(SystemExit) as left:
        run_cli(main, ["--trials", "kill,flood"])
    assert left.value.code == 2
    assert "no trial flood; there are step, overload, kill, idle, scale, start" in capsys.readouterr().err
