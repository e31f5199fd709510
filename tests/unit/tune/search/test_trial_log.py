"""The journal of a search, on a real disk that tears, fills up and is shared."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from data.errors import ConfigError, TrainingFailed
from tests.support.training.search import trial
from tune.search.trial import best_trial
from tune.search.trial_log import TrialLog, TrialLogHead

HEAD = TrialLogHead(key="k", run_id="r", lag=1)

_HOLD = """
import sys
from pathlib import Path
from tune.search.trial_log import TrialLog
with TrialLog(Path(sys.argv[1])).held():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def journal(tmp_path):
    """A journal that has begun."""
    journal = TrialLog(tmp_path / "tune" / "a.jsonl")
    journal.start(HEAD)
    return journal


def test_best_trial_breaks_ties_by_loss_then_number():
    """Of equal scores the smaller loss wins, of equal losses the earlier trial."""
    trials = [trial(0, [0.9], [0.3]), trial(2, [0.9], [0.2]), trial(1, [0.9], [0.2]), trial(3, [0.8], [0.1])]
    assert best_trial(trials).number == 1


def test_torn_line_is_dropped_and_the_next_one_is_whole(journal):
    """What was added is read back; a line cut short by a crash is left out and does not spoil what follows."""
    journal.add(trial(0, [0.5, 0.6]))
    with journal.path.open("a") as file:
        file.write('{"number": 1, "par')
    assert journal.read("k") == (HEAD, [trial(0, [0.5, 0.6])])
    journal.add(trial(1))
    assert journal.read("k") == (HEAD, [trial(0, [0.5, 0.6]), trial(1)])
    journal.finish()
    with pytest.raises(ConfigError, match="nothing to resume"):
        journal.read("k")


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EIO, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_lock_is_told_from_another_search(journal, code, monkeypatch):
    """A lock that fails for another reason than being held is told by that reason, and its file is closed."""

    def fail(file: IO[str], operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("tune.search.trial_log.fcntl.flock", fail)
    with pytest.raises(ConfigError, match=f"cannot be locked: {os.strerror(code)}.*RAYSCORE_VAR_DIR"), journal.held():
        raise AssertionError("the block was entered without the lock")
    opened = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert str(journal.path.with_suffix(".lock")) not in opened


def test_parameters_come_back_to_the_last_digit(journal):
    """TPE goes on from the parameters of the journal, so they must be the same numbers."""
    odd = trial(0, params={"learning_rate": 0.1 + 0.2, "max_depth": 3, "grow_policy": "depthwise"})
    journal.add(odd)
    assert journal.read("k")[1][0].params == odd.params


def test_journal_of_another_search_is_refused(journal):
    """Another table, use case, seed or sampler is another key."""
    with pytest.raises(ConfigError, match="belongs to another search"):
        journal.read("other")


def test_full_disk_is_named_and_finished_trials_stay(journal):
    """A write that fails names the file, the reason and what to do, and leaves whole lines only."""
    journal.add(trial(0))
    before = journal.path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 40, hard))
    try:
        with pytest.raises(TrainingFailed, match=r"a\.jsonl cannot be written: .*--resume"):
            journal.add(trial(1, [0.5] * 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert journal.path.read_bytes() == before


def test_two_searches_do_not_share_a_journal(journal):
    """A second process is refused while the first lives, and let in when it was killed."""
    command = [sys.executable, "-c", _HOLD, str(journal.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ConfigError, match=r"another search writes to .*RAYSCORE_VAR_DIR"), journal.held():
            pass
        other.kill()
        other.wait()
        with journal.held():
            pass
