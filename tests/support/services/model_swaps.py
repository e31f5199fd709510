"""A service with several versions in its registry, and an admin API, to be changed while it answers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from ray_app.control.messages import GATEWAY
from tests.support.environment.waiting import wait_for
from tests.support.load.checked_load import Asked, Checked
from tests.support.services import http_client
from tests.support.services.application import ONLINE_FEATURES, REQUEST_FEATURES, Workplace
from tests.support.training.models import card_bundle, card_table, train_bundle
from tests.support.training.registry import new_registry
from tests.support.training.stored_cards import stored_cards
from tune.registry.bundle import Bundle, Probe
from tune.registry.registry import Registry
from tune.registry.rollout_spec import (
    ORDER_TAG,
    ROLLOUT_TAG,
    RolloutAction,
    RolloutOrder,
    RolloutState,
    new_rollout,
    parse_rollout,
    parse_slo,
)
from tune.registry.traffic_rules import CHAMPION, TRAFFIC_TAG
from tune.search.mlflow_runs import MlflowRuns

TOKEN = "a-token-for-the-tests"
GOOD, WRONG_SCORES, OTHER_CONTRACT, ANOTHER_GOOD = "2", "3", "4", "5"
"""Versions beside the champion, version 1: two that can serve, and two that cannot."""
NAME = "card_fraud"

COLUMNS = ("user_id", *REQUEST_FEATURES, *ONLINE_FEATURES)
BODIES = [json.dumps(row).encode() for row in card_table(500).select(COLUMNS).to_pylist()]
RATE = 60.0
MANY = b"[" + b",".join(BODIES) + b"]"


def bad_bundles(good: Bundle) -> list[Bundle]:
    """The bundle with other scores recorded for its probe rows, and with a feature that need not be sent any more."""
    manifest = good.manifest
    probe = Probe(rows=manifest.probe.rows, scores=[[1 - p for p in row] for row in manifest.probe.scores])
    first, *rest = manifest.schema_.features
    looser = manifest.schema_.model_copy(update={"features": (first.model_copy(update={"optional": True}), *rest)})
    return [
        Bundle.assemble(
            manifest.model_copy(update={"probe": probe}), good.onnx, good.booster, good.measured, good.card
        ),
        Bundle.assemble(
            manifest.model_copy(update={"schema_": looser}), good.onnx, good.booster, good.measured, good.card
        ),
    ]


class Versions:
    """The registry of a workplace with its versions, and the admin API of its service."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        place.environment["RAYSCORE_ADMIN_TOKEN"] = TOKEN
        new_registry(place.var)
        settings = place.settings
        self.registry = Registry(settings.tracking_uri, settings.artifact_dir)
        self.database = place.var / "mlflow.db"

    def publish(self, rounds: int = 30) -> None:
        """Register a champion, another version that can serve, and those that cannot."""
        self.place.publish_champion(card_bundle())
        second, another = (train_bundle(card_table(seed=seed), stored_cards(), rounds) for seed in (8, 9))
        settings = self.place.settings
        for bundle in (second, *bad_bundles(second), another):
            run = MlflowRuns(settings.tracking_uri, settings.artifact_dir, "test").start("test", {})
            self.registry.publish(bundle, run)

    def ask(self, body: bytes, **headers: str) -> httpx.Response:
        """One prediction."""
        given = {"content-type": "application/json", **headers}
        return http_client.post(f"{self.place.url}/predict", content=body, headers=given, timeout=30)

    def look(self, name: str = "status") -> Any:
        """What the admin API shows, as soon as there is a Control to show it."""
        answers: list[httpx.Response] = []

        def shown() -> bool:
            answers[:] = [self._admin("GET", name)]
            return answers[0].status_code != 503

        wait_for(shown, "a Control that answers")
        assert answers[0].status_code == 200, answers[0].text
        return answers[0].json()

    def act(self, name: str, **told: Any) -> httpx.Response:
        """What the admin API answers to an action."""
        return self._admin("POST", name, told)

    def change(self, name: str, **told: Any) -> None:
        """Have a change made, and wait until it is in force, also when that takes longer than the admin API waits."""
        answer = self.act(name, **told)
        assert answer.status_code in (200, 202), answer.text
        declared = answer.json()["rules"]

        def in_force() -> bool:
            status = self.look()
            rules = status["rules"]
            challengers = [{key: each[key] for key in ("version", "weight", "mode")} for each in rules["challengers"]]
            gateways = [each["epoch"] for each in status["replicas"] if each["kind"] == GATEWAY]
            found = (rules["champion"], challengers, min(gateways))
            return found == (declared["champion"], declared["challengers"], rules["epoch"])

        wait_for(in_force, f"{name} to be in force")

    def tag(self, text: str) -> None:
        """Write the rules' tag."""
        self.registry.set_tag(NAME, TRAFFIC_TAG, text)

    def order(self, action: RolloutAction, identity: str = "0000abcd", **declared: Any) -> None:
        """Write an order as `rayscore rollout` does, but for the look whether it makes sense; steps start one."""
        given = {"id": identity, "use_case": NAME, "version": GOOD, "champion": "1", "min_requests": 1, **declared}
        # On a busy machine all is slow now and then: errors alone end these.
        rollout = new_rollout(**given, slo=parse_slo("p99=off,drift=off,decisions=off")) if declared else None
        text = RolloutOrder(id=identity, action=action, rollout=rollout).model_dump_json()
        self.registry.set_tag(NAME, ORDER_TAG, text)

    def weight(self) -> float:
        """Percent of the entities that challengers have."""
        return sum(each["weight"] for each in self.look("rules")["challengers"])

    def wait_settled(self) -> None:
        """Wait until Control says what is to be, and the registry has all that it is owed."""

        def settled() -> bool:
            answer = self._admin("GET", "status")
            if answer.status_code != 200:
                return False
            status = answer.json()
            return status["control"]["settled"] and not status["registry"]["owed"] and not status["registry"]["problem"]

        wait_for(settled, "Control to be settled")

    def reset(self) -> None:
        """Have version 1 answer alone, and no rollout run."""
        self.wait_settled()
        if (rollout := self.look()["rollout"]) is not None and rollout["state"] == "running":
            self.order(RolloutAction.ABORT)
            wait_for(lambda: self.look()["rollout"]["state"] == "aborted", "the rollout to end")
        if self.look("rules")["champion"] != "1":
            self.registry.set_alias(NAME, CHAMPION, "1")
            wait_for(lambda: self.look("rules")["champion"] == "1", "version 1 to be champion")
        self.change("rules", rules={"challengers": []})

    def scores(self, bodies: Sequence[bytes], version: str) -> list[float]:
        """The probability that a version gives each body."""
        many = b"[" + b",".join(bodies) + b"]"
        answers = self.ask(many, **{"x-model-version": version}).json()
        assert {answer["model"]["version"] for answer in answers} == {version}
        return [answer["probability"] for answer in answers]

    def _admin(self, method: str, name: str, told: dict[str, Any] | None = None) -> httpx.Response:
        given = {"authorization": f"Bearer {TOKEN}"}
        content = None if told is None else json.dumps(told)
        return http_client.request(method, f"{self.place.url}/admin/{name}", headers=given, content=content, timeout=30)


def swap(versions: Versions, weight: float) -> None:
    """Let the other version answer for so many percent, and wait until it is in force."""
    versions.change("weight", version=GOOD, weight=weight)


def first_step(versions: Versions) -> None:
    """Wait until the rollout is in its first step, and the registry knows."""

    def known() -> bool:
        rollout = parse_rollout(versions.registry.tags(NAME)[ROLLOUT_TAG])
        return rollout.state is RolloutState.RUNNING and rollout.step == 0

    wait_for(lambda: versions.weight() == 10 and known(), "the first step")


def unharmed(seen: Checked) -> None:
    """Every request was answered, and by the version that the answer names."""
    assert seen.failures == {}
    assert seen.mixed == 0


def replicas(versions: Versions, deployment: str) -> list[int]:
    """Pids of a deployment's replicas."""
    return versions.place.processes(f"ServeReplica:default:{deployment}")


def kill_one(versions: Versions, deployment: str) -> int:
    """Kill a replica without warning."""
    victim = replicas(versions, deployment)[0]
    os.kill(victim, signal.SIGKILL)
    return victim


def wait_replaced(versions: Versions, victim: int, deployment: str, count: int) -> None:
    """Wait until another replica has taken the place of a dead one, and all hold the same."""
    wait_for(lambda: len(set(replicas(versions, deployment)) - {victim}) == count, f"a new {deployment}")

    def alike() -> bool:
        status = versions.look()
        held = [replica["held"] for replica in status["replicas"] if replica["silent_s"] < 2]
        return len(held) == 4 and all(each == status["versions"] for each in held)

    wait_for(alike, "every replica to hold the same versions")


def load(versions: Versions, expected: dict[str, list[float]], seconds: float) -> Asked:
    """What is sent meanwhile; how fast the answers come is for the benchmark to say."""
    return Asked(versions.place.port, BODIES, expected, RATE, seconds, timeout_s=40)


def moved_on(versions: Versions, weight: float) -> bool:
    """Have both versions asked; true when the rollout has got to this weight."""
    assert versions.ask(MANY).status_code == 200
    assert versions.look()["rollout"]["state"] in ("running", "done")
    return versions.weight() == weight


@contextmanager
def away(database: Path) -> Iterator[None]:
    """Make a local registry unreadable in the block, also for who has it open."""
    with database.open("r+b") as file:
        head = file.read(100)
        file.seek(0)
        file.write(bytes(100))
        file.flush()
        try:
            yield
        finally:
            file.seek(0)
            file.write(head)
