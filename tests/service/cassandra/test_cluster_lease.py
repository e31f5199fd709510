"""A lease in a real cluster: one holder at a time, for as long as it lives and little longer."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.errors import StoreError
from data.online_store.cassandra.lease import ClusterLease
from tests.support.environment.waiting import wait_for
from tests.support.services.cassandra import Node
from tune.skew.proof_lock import proof_lock

pytestmark = pytest.mark.cassandra
_LASTS_S = 3
_HOLDER = """
import sys, time
from data.online_store.cassandra.lease import ClusterLease
from data.settings import Settings
with ClusterLease(Settings.model_validate_json(sys.argv[1]), "killed", "one that dies", 3).held() as other:
    print(other, flush=True)
    time.sleep(600)
"""


def _holder_of(node: Node, name: str) -> str | None:
    with ClusterLease(node.settings(), name, "another", _LASTS_S).held() as other:
        return other


def test_lease_is_renewed_and_given_back(cassandra_node: Node):
    """Past its time others still learn who has it; other names are free; after the block so is this one."""
    with ClusterLease(cassandra_node.settings(), "kept", "one that lives", _LASTS_S).held() as other:
        assert other is None
        time.sleep(2 * _LASTS_S)
        assert _holder_of(cassandra_node, "kept") == "one that lives"
        assert _holder_of(cassandra_node, "free") is None
    assert _holder_of(cassandra_node, "kept") is None


def test_lease_of_a_killed_process_runs_out(cassandra_node: Node):
    """It is held for as long as the process lives, and free some seconds after it was killed."""
    command = [sys.executable, "-c", _HOLDER, cassandra_node.settings().model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "None\n"
        assert _holder_of(cassandra_node, "killed") == "one that dies"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    wait_for(lambda: _holder_of(cassandra_node, "killed") is None, "the lease to run out")


def test_second_proof_is_refused_by_name(cassandra_node: Node, tmp_path: Path):
    """A proof over the cluster keeps another of its use case out, whatever folder that is of."""
    settings = cassandra_node.settings()
    elsewhere = settings.model_copy(update={"var_dir": tmp_path})
    with (
        proof_lock(settings, "swipes"),
        pytest.raises(StoreError, match="another proof in time of 'swipes' is under way"),
        proof_lock(elsewhere, "swipes"),
    ):
        pass
