"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import HealthCheck, settings

from ray_app.inference.features.feature_fetch import LocalFeatures
from tests.support.environment.programs import pytest_runtest_setup as pytest_runtest_setup
from tests.support.environment.temporary_files import write_to_memory
from tests.support.environment.workers import interrupt
from tests.support.environment.workers import pytest_collection_modifyitems as pytest_collection_modifyitems
from tests.support.environment.workers import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler
from tests.support.services.cassandra import cassandra_node as cassandra_node
from tests.support.services.kafka import kafka_broker as kafka_broker
from tests.support.serving.predict_app import STORED, ServedApp, build_app, local_store, write_store

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
# Serve looks at its replicas ten times a second, which takes an eighth of a CPU per service.
os.environ.setdefault("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", "0.5")
# At the 20 ms of our services every idle replica takes a twentieth of a CPU to report that nothing happened.
os.environ.setdefault("RAY_SERVE_METRICS_EXPORT_INTERVAL_MS", "500")
# Below a thousand log files Ray looks for new ones ten times a second, which is most of what its log monitor does.
os.environ.setdefault("RAY_LOG_MONITOR_MANY_FILES_THRESHOLD", "0")
os.environ.setdefault("LOG_NAME_UPDATE_INTERVAL_S", "2")
# Threads of XGBoost that have nothing to do wait for more at full speed, and take the CPU from those that have.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# The tests start hundreds of processes: each would compile our packages anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
write_to_memory()
# Before any test module is read: what it decorates keeps the profile of that moment. How long an example takes says
# something of the machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
# Ended by SIGTERM, the tests stop what they have started, as they do after Ctrl-C.
signal.signal(signal.SIGTERM, interrupt)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFeatures]:
    """A SQLite store that knows `u1`."""
    file = write_store(tmp_path_factory.mktemp("store") / "online.db", {"u1": STORED})
    with closing(local_store(file)) as stage:
        yield stage


@pytest.fixture(scope="module")
def served(features: LocalFeatures) -> ServedApp:
    """The HTTP application over that store."""
    return build_app(features)
