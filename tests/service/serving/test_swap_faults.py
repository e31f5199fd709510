"""Things die in the middle of a swap, and nobody who asks for a prediction notices."""

from __future__ import annotations

import json
import resource

import pytest

from data.prediction_log.files import read_log
from tests.support.environment.processes import children
from tests.support.environment.waiting import wait_for
from tests.support.load.checked_load import checking
from tests.support.services import http_client
from tests.support.services.model_swaps import (
    BODIES,
    GOOD,
    NAME,
    away,
    kill_one,
    load,
    replicas,
    swap,
    unharmed,
    wait_replaced,
)

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("champion_alone")]


def test_a_model_replica_killed_in_mid_swap_costs_nothing(versions, expected):
    """kill -9 of one of two model replicas while a version is loaded: no failure, and the new one holds all."""
    with checking(load(versions, expected, 14)) as future:
        victim = kill_one(versions, "Model")
        swap(versions, 50)
        wait_replaced(versions, victim, "Model", 2)
        seen = future.result()
    unharmed(seen)
    assert set(seen.versions) == {"1", GOOD}


def test_control_killed_in_mid_swap_loses_nothing(versions, expected):
    """kill -9 of Control: answers go on by the rules in force, and the change written meanwhile is taken up after."""
    swap(versions, 50)
    rules = versions.look("rules")
    versions.wait_settled()
    with checking(load(versions, expected, 14)) as future:
        victim = kill_one(versions, "Control")
        versions.tag(
            json.dumps({**rules, "epoch": rules["epoch"] + 1, "challengers": [{"version": GOOD, "weight": 100}]})
        )
        wait_for(lambda: bool(set(replicas(versions, "Control")) - {victim}), "another Control")
        wait_for(lambda: versions.ask(BODIES[0]).json()["model"]["epoch"] > rules["epoch"], "the change to be in force")
        seen = future.result()
    unharmed(seen)
    assert versions.look("rules")["challengers"][0]["weight"] == 100


def test_a_gateway_killed_in_mid_swap_is_replaced_by_one_of_the_same_epoch(versions, expected):
    """kill -9 of a gateway: no failure until it is replaced, and the new one answers by the rules in force at once."""
    swap(versions, 50)
    victim = kill_one(versions, "Gateway")
    with checking(load(versions, expected, 10)) as future:
        swap(versions, 100)
        wait_replaced(versions, victim, "Gateway", 2)
        seen = future.result()
    unharmed(seen)
    with checking(load(versions, expected, 2)) as future:
        seen = future.result()
    unharmed(seen)
    assert set(seen.versions) == {GOOD}


def test_the_registry_down_in_mid_swap_stops_nothing(versions, expected):
    """A change that needs no bundle is made without the registry, which is told when it is back."""
    swap(versions, 10)
    versions.wait_settled()
    with away(versions.database):
        wait_for(lambda: versions.look()["registry"]["problem"] is not None, "the registry to be missed")
        with checking(load(versions, expected, 3)) as future:
            swap(versions, 90)
            seen = future.result()
        owed = versions.look()["registry"]["owed"]
    unharmed(seen)
    assert owed
    versions.wait_settled()
    assert json.loads(versions.registry.tags(NAME)["rayscore.traffic"])["challengers"][0]["weight"] == 90


def test_a_full_disk_costs_the_log_its_rows_and_nobody_an_answer(versions, expected):
    """While the disk refuses its writes, rows of the log are counted as lost and answers go on; then so does it."""

    def refuse(most: int) -> None:
        gateways = replicas(versions, "Gateway")
        for pid in [pid for gateway in gateways for pid in children(gateway, "ray_app.prediction_log.writer_process")]:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    def counts_lost() -> bool:
        text = http_client.get(f"{versions.place.url}/metrics", timeout=30).text
        lost = [line for line in text.splitlines() if "log_rows_total" in line and 'outcome="lost"' in line]
        return any(float(line.rpartition(" ")[2]) > 0 for line in lost)

    def logged() -> bool:
        tables = [file.table for file in read_log(versions.place.var / "predictions")]
        return any("room-again" in table.column("request_id").to_pylist() for table in tables)

    refuse(1)
    try:
        with checking(load(versions, expected, 3)) as future:
            wait_for(counts_lost, "lost rows to be counted")
            seen = future.result()
    finally:
        refuse(resource.RLIM_INFINITY)
    unharmed(seen)
    assert versions.ask(BODIES[0], **{"x-request-id": "room-again"}).status_code == 200
    wait_for(logged, "the log to go on")


def test_memory_is_bounded(versions, expected):
    """After all of that no replica holds more than the rules name, once the grace is over."""
    wait_for(lambda: versions.look()["versions"].keys() == {"1"}, "the old versions to be dropped")
    wait_for(
        lambda: all(replica["held"].keys() == {"1"} for replica in versions.look()["replicas"]), "replicas to follow"
    )
