"""The search on a real Ray cluster, and its journal."""

from __future__ import annotations

import pytest

from data.errors import ConfigError
from data.usecase import Metric, Range, Search, load_use_case
from tests.support_model import card_table
from tune.examples import prepare
from tune.search import plan_workers, search
from tune.space import sample
from tune.table import TrainingTable, fingerprint
from tune.trial import Journal, JournalHead, Trial, best_trial

DECLARED = Search(
    metric=Metric.AUC,
    max_rounds=40,
    early_stopping_rounds=15,
    space={"max_depth": Range(low=1, high=6, integer=True), "learning_rate": Range(low=0.01, high=0.5, log=True)},
)


def trial(number, history, losses=None):
    """A finished trial."""
    return Trial(
        number=number, params={}, history=history, losses=losses or [0.5] * len(history), seconds=1, stopped_early=False
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Encoded card transactions."""
    table = card_table(2000)
    labels = table.column("is_fraud").to_numpy().astype("uint8")
    path = tmp_path_factory.mktemp("data")
    return prepare(TrainingTable(table, labels, path, fingerprint(table)), load_use_case("card_fraud"))


def run(prepared, finished, scratch, trials=8):
    """Search with one worker and return the trials in the order of finishing."""
    found = []
    search(DECLARED, prepared.train, prepared.validation, trials, 1, finished, found.append, scratch, 1)
    return found


@pytest.mark.ray
def test_resumed_search_ends_as_an_unbroken_one(ray_cluster, prepared, tmp_path):
    """Trials have the seed's parameters; going on after three of eight gives the same trials and the same best."""
    whole = run(prepared, [], tmp_path)
    assert sorted(each.number for each in whole) == list(range(8))
    assert all(each.params == sample(DECLARED.space, 1, each.number) for each in whole)
    assert any(each.stopped_early for each in whole)
    rest = run(prepared, whole[:3], tmp_path)
    keep = {"seconds"}
    assert [each.model_dump(exclude=keep) for each in rest] == [each.model_dump(exclude=keep) for each in whole[3:]]
    assert best_trial([*whole[:3], *rest]).number == best_trial(whole).number
    assert list(tmp_path.iterdir()) == [], "Ray Tune's own files are removed"


@pytest.mark.ray
def test_finished_search_runs_nothing(ray_cluster, prepared, tmp_path):
    """With all trials done there is nothing to run."""
    assert run(prepared, [trial(0, [0.5])], tmp_path, trials=1) == []


def test_workers_fill_the_cores():
    """Trials at once times threads of each never exceed the free cores."""
    assert plan_workers(8, 20, None) == (8, 1)
    assert plan_workers(8, 3, None) == (3, 2)
    assert plan_workers(8, 20, 2) == (2, 4)
    with pytest.raises(ConfigError, match="--concurrency 9: the cluster has 8 free CPUs"):
        plan_workers(8, 20, 9)
    with pytest.raises(ConfigError, match="no free CPU"):
        plan_workers(0, 20, None)


def test_best_trial_breaks_ties_by_loss_then_number():
    """Of equal scores the smaller loss wins, of equal losses the earlier trial."""
    trials = [trial(0, [0.9], [0.3]), trial(2, [0.9], [0.2]), trial(1, [0.9], [0.2]), trial(3, [0.8], [0.1])]
    assert best_trial(trials).number == 1


def test_journal_keeps_finished_trials_and_drops_a_torn_line(tmp_path):
    """What was added is read back; a line cut short by a crash is left out; finishing forgets all."""
    journal = Journal(tmp_path / "tune" / "a.jsonl")
    journal.start(JournalHead(key="k", run_id="r"))
    journal.add(trial(0, [0.5, 0.6]))
    with journal.path.open("a") as file:
        file.write('{"number": 1, "par')
    head, trials = journal.read("k")
    assert (head.run_id, trials) == ("r", [trial(0, [0.5, 0.6])])
    journal.finish()
    with pytest.raises(ConfigError, match="nothing to resume"):
        journal.read("k")


def test_journal_of_another_search_is_refused(tmp_path):
    """Another table, use case or seed is another key."""
    journal = Journal(tmp_path / "a.jsonl")
    journal.start(JournalHead(key="k", run_id="r"))
    with pytest.raises(ConfigError, match="belongs to another search"):
        journal.read("other")
