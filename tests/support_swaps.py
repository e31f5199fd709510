"""A service with several versions in its registry, and an admin door, to be changed while it answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx

from data.rollout import ORDER_TAG, Action, Order, new_rollout, parse_slo
from data.traffic import TRAFFIC_TAG
from data.usecase import load_use_case
from tests.support_app import Workplace, wait_for
from tests.support_model import card_bundle, card_table, train_bundle
from tune.bundle import Bundle, Probe
from tune.registry import Registry
from tune.tracking import Tracker

TOKEN = "a-token-for-the-tests"
GOOD, WRONG_SCORES, OTHER_CONTRACT = "2", "3", "4"
"""Versions beside the champion, version 1: one that can serve, and two that cannot."""
NAME = "card_fraud"


def bad_bundles(good: Bundle) -> list[Bundle]:
    """The bundle with other scores recorded for its probe rows, and with a feature that need not be sent any more."""
    manifest = good.manifest
    probe = Probe(rows=manifest.probe.rows, probabilities=[1 - p for p in manifest.probe.probabilities])
    first, *rest = manifest.schema_.features
    looser = manifest.schema_.model_copy(update={"features": (first.model_copy(update={"optional": True}), *rest)})
    return [
        Bundle.assemble(manifest.model_copy(update={"probe": probe}), good.onnx, good.booster, good.card),
        Bundle.assemble(manifest.model_copy(update={"schema_": looser}), good.onnx, good.booster, good.card),
    ]


class Versions:
    """The registry of a workplace with its versions, and the admin door of its service."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        place.environment["RAYSCORE_ADMIN_TOKEN"] = TOKEN
        settings = place.settings
        self.registry = Registry(settings.tracking_uri, settings.artifact_dir)
        self.database = place.var / "mlflow.db"

    def publish(self, rounds: int = 30) -> None:
        """Register a champion, another version that can serve, and those that cannot."""
        self.place.publish_champion(card_bundle())
        second = train_bundle(card_table(seed=8), load_use_case(NAME), rounds)
        settings = self.place.settings
        for bundle in (second, *bad_bundles(second)):
            run = Tracker(settings.tracking_uri, settings.artifact_dir, "test").start("test", {})
            self.registry.publish(bundle, run)

    def ask(self, body: bytes, **headers: str) -> httpx.Response:
        """One prediction."""
        given = {"content-type": "application/json", **headers}
        return httpx.post(f"{self.place.url}/predict", content=body, headers=given, timeout=30)

    def look(self, name: str = "status") -> Any:
        """What the admin door shows."""
        return self._admin("GET", name).json()

    def act(self, name: str, **told: Any) -> httpx.Response:
        """What the admin door answers to an action."""
        return self._admin("POST", name, told)

    def tag(self, text: str) -> None:
        """Write the rules' tag."""
        self.registry.set_tag(NAME, TRAFFIC_TAG, text)

    def order(self, action: Action, identity: str = "0000abcd", **declared: Any) -> None:
        """Write an order as `python -m tune rollout` does, but for the look whether it makes sense; steps start one."""
        given = {"id": identity, "use_case": NAME, "version": GOOD, "champion": "1", "min_requests": 1, **declared}
        # On a busy machine all is slow now and then: errors alone end these.
        rollout = new_rollout(**given, slo=parse_slo("p99=off,drift=off,decisions=off")) if declared else None
        text = Order(id=identity, action=action, rollout=rollout).model_dump_json()
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

    def scores(self, bodies: Sequence[bytes], version: str) -> list[float]:
        """The probability that a version gives each body."""
        many = b"[" + b",".join(bodies) + b"]"
        answers = self.ask(many, **{"x-model-version": version}).json()
        assert {answer["model"]["version"] for answer in answers} == {version}
        return [answer["probability"] for answer in answers]

    def _admin(self, method: str, name: str, told: dict[str, Any] | None = None) -> httpx.Response:
        given = {"authorization": f"Bearer {TOKEN}"}
        content = None if told is None else json.dumps(told)
        return httpx.request(method, f"{self.place.url}/admin/{name}", headers=given, content=content, timeout=30)
