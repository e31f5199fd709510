"""One proof of a use case at a time: a second is refused by name, and a killed one holds nothing up."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from data.errors import StoreError
from data.settings import Settings
from tests.support.serving.window_app import swipes_bundle, swipes_use_case
from tune.skew.proof_lock import proof_lock
from tune.skew.scratch_stores import ScratchStores

_HOLDER = """
import sys, time
from pathlib import Path
from data.settings import Settings
from tune.skew.proof_lock import proof_lock
with proof_lock(Settings(var_dir=Path(sys.argv[1])), "swipes"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_second_proof_is_refused_until_the_first_ends(tmp_path: Path):
    """The second names use case and process and empties nothing; another use case is free, and so is this one then."""
    settings = Settings(var_dir=tmp_path)

    def opened() -> ScratchStores:
        return ScratchStores(settings, swipes_use_case(), swipes_bundle().manifest)

    with closing(opened()):
        with pytest.raises(StoreError, match=r"another proof in time of 'swipes' is under way \(process \d+ on "):
            opened()
        with proof_lock(settings, "another"):
            pass
    with closing(opened()):
        pass


def test_killed_proof_holds_nothing_up(tmp_path: Path):
    """A proof of another process refuses one here while it lives, and not once it was killed."""
    settings = Settings(var_dir=tmp_path)
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=f"process {holder.pid} on "), proof_lock(settings, "swipes"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with proof_lock(settings, "swipes"):
        pass


def test_stores_that_cannot_be_opened_are_free_again(tmp_path: Path):
    """A proof that fails as it opens its stores leaves no lock behind."""
    blocked = tmp_path / "events.scratch.db"
    blocked.mkdir()
    settings = Settings(var_dir=tmp_path)
    with pytest.raises(StoreError):
        ScratchStores(settings, swipes_use_case(), swipes_bundle().manifest)
    with proof_lock(settings, "swipes"):
        pass
