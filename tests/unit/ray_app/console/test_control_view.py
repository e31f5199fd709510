"""What the console is shown of Control: all that matters, and nothing that is not everybody's business."""

from __future__ import annotations

import json
from typing import Any

import pytest

from data.event_store.event_stats import EventCounts
from ray_app.console.control_view import ControlView
from ray_app.console.redaction import redacted
from ray_app.control.messages import METRICS_ONLY, ReplicaReport
from ray_app.control.replicas.autoscaling import BUSY
from ray_app.control.rule_change import Origin
from ray_app.control.state.registry_state import PREVIOUS_TAG
from ray_app.control.state.replica_states import ReplicaStates
from ray_app.control.state.version_set import PackedBundle, VersionFacts
from ray_app.monitoring.recent_events import RecentEvents
from ray_app.rollout.recent_history import RecentHistory
from ray_app.rollout.version_stats import VERSION_STATS
from tests.support.serving.rollout_driver import Place, quick
from tests.support.training.models import card_bundle
from tune.registry.rollout_spec import RolloutAction
from tune.registry.traffic_rules import Challenger, Mode


class Watched(Place):
    """A place whose Control is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Any] = []
        self.history = RecentHistory()
        self.events = RecentEvents(["swipes", "reports"])
        self.metrics_only = ReplicaStates(frozenset())
        self.view = ControlView(
            self.control,
            self.metrics_only,
            self.rollout_driver,
            self.history,
            self.events,
            lambda: self.entries,
            self.now,
            lambda: self.now,
        )

    def second(self) -> None:
        """Let a second pass, as Control's deployment does."""
        super().second()
        self.history.record(self.control.replicas.extras(VERSION_STATS), self.now, self.now)

    def seconds(self, count: int) -> None:
        """Let some pass."""
        for _ in range(count):
            self.second()

    def propose(self, *challengers: Challenger) -> None:
        """Ask for these challengers, and wait until it is done."""
        wanted = self.control.rules.model_copy(update={"challengers": challengers})
        self.control.propose(wanted, Origin("admin", "10.0.0.1"), self.now)
        self.seconds(2)

    def shown(self) -> dict[str, Any]:
        """What is shown, as JSON brings it."""
        return json.loads(json.dumps(self.view.plain(self.now), allow_nan=False))

    def version(self, number: str) -> dict[str, Any]:
        """What is shown of a version."""
        (found,) = [each for each in self.shown()["versions"] if each["version"] == number]
        return found


@pytest.fixture
def place() -> Watched:
    """Version 1 alone, with traffic."""
    watched = Watched()
    watched.seconds(12)
    return watched


def test_a_champion_alone(place: Watched):
    """It has all traffic, its replicas hold it, and there is nothing to go back to."""
    shown = place.shown()
    assert (shown["champion"], shown["epoch"], shown["use_case"]) == ("1", 1, "card_fraud")
    assert shown["challengers"] == []
    assert "nothing to go back to" in shown["rollback"]["refused"]
    assert shown["control"]["settled"]
    (one,) = shown["versions"]
    assert (one["role"], one["weight"], one["held_by"], one["of"]) == ("champion", 100, 1, 1)
    assert one["total"]["requests"] == 400 * 12
    assert one["minute"]["per_s"] == pytest.approx(400)
    assert one["minute"]["p50_ms"] == 2.0
    assert shown["minute"] == one["minute"]
    assert shown["history"]["versions"]["1"]["requests"][-1] == 400 * 5
    (replica,) = shown["replicas"]
    assert (replica["replica"], replica["held"], replica["epoch"]) == ("g1", ["1"], 1)


def test_replicas_without_versions_are_shown_too(place: Watched):
    """A feature fetch holds no version and answers by no rules; how busy it is, is what it says."""
    rules = place.control.rules
    place.metrics_only.record(
        ReplicaReport("f1", METRICS_ONLY, "contract", 1, -1, {}, rules, extras={BUSY: 0.25}), place.now
    )
    gateway, fetch = place.shown()["replicas"]
    assert (fetch["replica"], fetch["held"], fetch["epoch"], fetch["busy"]) == ("f1", [], None, 0.25)
    assert gateway["busy"] is None


def test_each_source_of_events_is_shown(place: Watched):
    """Those that windows read, with what replicas have counted; a model without windows has none."""
    for at in range(8):
        counts = EventCounts((at, 0, 0, 0, 0), newest_us=at)
        place.events.record({"f1": {"swipes": counts}}, place.now + at)
    swipes, reports = place.shown()["events"]
    assert (swipes["name"], swipes["newest_at"], swipes["late_share"]) == ("swipes", 7e-6, 0.0)
    assert (reports["name"], reports["newest_at"], reports["late_share"]) == ("reports", None, None)
    assert RecentEvents([]).plain() == []


def test_every_version_has_a_role(place: Watched):
    """Live, shadow, loaded and registered ones are told apart; those that rules name come first."""
    shadow = Challenger(version="3", weight=20, mode=Mode.SHADOW)
    place.propose(shadow, Challenger(version="2", weight=25))
    place.propose(shadow, Challenger(version="10", weight=40))
    place.view.registered_versions = {"4": VersionFacts("2026-01-01", {}), "12": VersionFacts("2026-01-02", {})}
    roles = {each["version"]: (each["role"], each["weight"]) for each in place.shown()["versions"]}
    assert list(roles)[:5] == ["1", "3", "10", "12", "4"]
    assert roles["1"] == ("champion", 60)
    assert roles["3"] == ("shadow", 20)
    assert roles["10"] == ("live", 40)
    assert roles["12"] == ("registered", 0)
    assert roles.get("2", ("held", 0)) == ("held", 0)


def test_what_is_known_of_a_version(place: Watched):
    """Its bundle's figures where Control has it, else those in the registry; one that is no number is left out."""
    bundle = card_bundle()
    place.view.registered_versions = {"8": VersionFacts("2026-01-01", {"auc": 0.9, "f1": float("nan")})}
    place.control.versions.put(PackedBundle.of("1", bundle))
    one, eight = place.version("1"), place.version("8")
    assert one["metrics"] == bundle.manifest.metrics
    assert (one["created_at"], one["answers"]) == (bundle.manifest.created_at, bundle.manifest.output.words)
    assert (eight["metrics"], eight["answers"], eight["held_by"]) == ({"auc": 0.9}, None, 0)


def test_what_a_rollback_would_do(place: Watched):
    """It takes the live challengers out; without any, the champion before this one comes back."""
    place.propose(Challenger(version="2", weight=25))
    assert place.shown()["rollback"] == {"champion": "1", "out": ["2"]}
    place.propose()
    place.control.registry_state.queue_write({PREVIOUS_TAG: "7"})
    assert place.shown()["rollback"] == {"champion": "7", "out": []}


def test_a_rollout_under_way(place: Watched):
    """Its step, what it waits for and what was found are there."""
    place.order(RolloutAction.START, quick(hold_s=100))
    place.seconds(6)
    found = place.shown()["rollout"]
    assert (found["state"], found["version"], found["weight"]) == ("running", "2", 10)
    assert "100 s" in found["waits_for"]
    assert found["findings"][0]["name"] == "errors"


def test_a_change_under_way(place: Watched):
    """A version whose bundle is not there yet is coming."""
    wanted = place.control.rules.model_copy(update={"challengers": (Challenger(version="6", weight=5),)})
    place.control.propose(wanted, Origin("admin", "10.0.0.1", "soon"), place.now)
    shown = place.shown()
    assert (shown["pending"]["why"], shown["pending"]["outcome"]) == ("soon", "preparing")
    assert place.version("6")["role"] == "coming"


def test_no_address_and_no_path_is_shown(place: Watched):
    """Where changes came from, where the registry is and where files are stays with whoever has the token."""
    place.control.registry_state.problem = (
        "MLflow at http://user:word@mlflow.internal:5000 failed: HTTPConnectionPool(host='x')"
    )
    place.control.records.note("control", "version 9", "/srv/models/9/bundle: is no whole bundle")
    change = {
        "at": 1.0,
        "who": "admin",
        "source": "10.1.2.3",
        "why": "see /runbook",
        "outcome": "refused",
        "epoch": None,
    }
    place.entries += [{**change, "reason": "10.9.8.7:5000 did not answer"}, "no entry", {}, {"at": "noon"}]
    text = json.dumps(place.shown())
    for secret in ("10.1.2.3", "10.9.8.7", "mlflow.internal", "word@", "/srv/models", "source"):
        assert secret not in text
    (first,) = place.shown()["changes"]
    assert first["why"] == "see /runbook"
    assert "did not answer" in first["reason"]
    assert "is no whole bundle" in place.shown()["refusals"][-1]["reason"]


def test_the_last_twenty_changes_are_enough(place: Watched):
    """However long the log is."""
    place.entries += [{"at": float(at), "who": "registry"} for at in range(200)]
    assert [entry["at"] for entry in place.shown()["changes"]] == [float(at) for at in range(180, 200)]


def test_the_registry_is_listed_only_for_who_looks(place: Watched):
    """Once in 15 s while the console is open, and not at all when it is not."""
    assert not place.view.wants_registered_versions(place.now)
    place.shown()
    assert place.view.wants_registered_versions(place.now + 1)
    assert not place.view.wants_registered_versions(place.now + 10)
    assert place.view.wants_registered_versions(place.now + 20)
    assert not place.view.wants_registered_versions(place.now + 60)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no bundle in /var/lib/rayscore/x.db", "no bundle in […]"),
        ("sqlite:////work/mlflow.db cannot be opened", "[…] cannot be opened"),
        ("Pool(host='mlflow', port=5000)", "Pool([…], port=5000)"),
        ("refused by 192.168.0.12:9042", "refused by […]"),
        ("no answer from db-1.internal:9042", "no answer from […]"),
        ("in ../models/7 and ~/cache/a", "in […] and […]"),
        ("0 % (0 of 12) against 1/2, limit 0.1 %, 3 requests/s, version 1.2.3", None),
    ],
)
def test_places_are_taken_out_of_texts(text: str, shown: str | None):
    """Paths, addresses and hosts go; figures stay."""
    assert redacted({"a": [text]}) == {"a": [shown or text]}
