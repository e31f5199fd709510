"""The live line of a search."""

from __future__ import annotations

from tests.support.training.search import trial
from tune.search.progress import TrialProgress


def test_line_tells_done_best_and_time_left(capsys):
    """Off a terminal the last line says how many trials are done, which is best so far, and what is left."""
    with TrialProgress(4, "auc", [trial(0, [0.5])]) as progress:
        progress.advance(trial(1, [0.7]))
        progress.advance(trial(2, [0.6]))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("trials: 3 of 4, best auc 0.7000 (trial 1), ")
    assert line.endswith(" s left")


def test_nothing_is_said_of_a_search_without_trials(capsys):
    """A search that ends before its first trial leaves no line."""
    with TrialProgress(4, "auc", []):
        pass
    assert capsys.readouterr().err == ""
