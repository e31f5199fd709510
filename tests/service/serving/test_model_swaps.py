"""The model is changed under load on real processes, and things die in the middle of it."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from data.prediction_log.files import read_log
from tests.support.application import Workplace, serve_command, wait_for
from tests.support.checked_load import Asked, checking
from tests.support.model_swaps import (
    GOOD,
    NAME,
    OTHER_CONTRACT,
    WRONG_SCORES,
    Versions,
    away,
    first_step,
    kill_one,
    replicas,
    swap,
    unharmed,
    wait_replaced,
)
from tests.support.models import card_table
from tests.support.processes import children
from tune.registry.rollout_spec import RolloutAction
from tune.registry.traffic_rules import CHAMPION

pytestmark = pytest.mark.ray

COLUMNS = (
    "user_id",
    "amount",
    "transaction_hour",
    "merchant_category",
    "foreign_transaction",
    "location_mismatch",
    "device_trust_score",
    "velocity_last_24h",
    "cardholder_age",
)
BODIES = [json.dumps(row).encode() for row in card_table(500).select(COLUMNS).to_pylist()]
SETTINGS = {
    "RAYSCORE_GATEWAY_MIN_REPLICAS": "2",
    "RAYSCORE_GATEWAY_MAX_REPLICAS": "2",
    "RAYSCORE_FEATURE_MAX_REPLICAS": "1",
    "RAYSCORE_MODEL_MIN_REPLICAS": "2",
    "RAYSCORE_MODEL_MAX_REPLICAS": "2",
    "RAYSCORE_VERSION_GRACE_S": "0.5",
    "RAYSCORE_VERSIONS_HELD": "3",
    "RAYSCORE_REQUEST_TIMEOUT_MS": "30000",
    "RAYSCORE_PREDICTION_LOG_SHARE": "1",
    "RAYSCORE_PREDICTION_LOG_FLUSH_S": "0.2",
}
RATE = 60.0
MANY = b"[" + b",".join(BODIES) + b"]"


@pytest.fixture(scope="module")
def versions(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    """The graph with two gateways and two model replicas, its own registry, over the store that other tests use."""
    own = Workplace(tmp_path_factory.mktemp("swaps"))
    own.environment |= {**SETTINGS, "RAYSCORE_SQLITE_FILE": str(place.var / "online.db")}
    versions = Versions(own)
    versions.publish()
    with own.running(*serve_command("graph")) as child:
        own.wait_ready(child)
        wait_for(lambda: len(own.processes("ServeReplica:default:Gateway")) == 2, "two gateways")
        versions.wait_settled()
        yield versions


@pytest.fixture(scope="module")
def expected(versions: Versions) -> dict[str, list[float]]:
    """What each version says to each body."""
    swap(versions, 0)
    found = {version: versions.scores(BODIES, version) for version in ("1", GOOD)}
    assert found["1"] != found[GOOD]
    return found


@pytest.fixture(autouse=True)
def champion_alone(versions: Versions) -> None:
    """Every test begins with version 1 answering alone."""
    versions.wait_settled()
    if (rollout := versions.look()["rollout"]) is not None and rollout["state"] == "running":
        versions.order(RolloutAction.ABORT)
        wait_for(lambda: versions.look()["rollout"]["state"] == "aborted", "the rollout to end")
    if versions.look("rules")["champion"] != "1":
        versions.registry.set_alias(NAME, CHAMPION, "1")
        wait_for(lambda: versions.look("rules")["champion"] == "1", "version 1 to be champion")
    versions.change("rules", rules={"challengers": []})


def load(versions: Versions, expected: dict[str, list[float]], seconds: float) -> Asked:
    """What is sent meanwhile; how fast the answers come is for the benchmark to say."""
    return Asked(versions.place.port, BODIES, expected, RATE, seconds, timeout_s=40)


def moved_on(versions: Versions, weight: float) -> bool:
    """Have both versions asked; true when the rollout has got to this weight."""
    assert versions.ask(MANY).status_code == 200
    assert versions.look()["rollout"]["state"] in ("running", "done")
    return versions.weight() == weight


def test_swaps_under_load_fail_nobody_and_mix_nothing(versions, expected):
    """Weights up and down, promotion and rollback under load: every answer is of the version that it names."""
    with checking(load(versions, expected, 12)) as future:
        for weight in (0, 30, 100, 60):
            swap(versions, weight)
        versions.change("promote", version=GOOD)
        versions.change("rollback")
        for weight in (100, 0):
            swap(versions, weight)
        seen = future.result()
    unharmed(seen)
    assert set(seen.versions) == {"1", GOOD}
    assert len(seen.epochs) >= 5


def test_the_last_of_many_quick_changes_is_in_the_registry(versions, expected):
    """However many come within moments, the registry ends with the rules that are in force."""
    changed = [versions.act("weight", version=GOOD, weight=weight) for weight in range(10, 110, 10)]
    assert [each.status_code for each in changed] == [200] * 10
    versions.wait_settled()
    written = json.loads(versions.registry.tags(NAME)["rayscore.traffic"])
    assert (written["epoch"], written["challengers"][0]["weight"]) == (changed[-1].json()["epoch"], 100)


def test_a_change_that_is_told_done_is_in_force_on_every_gateway(versions, expected):
    """Whichever gateway answers next, it does so by the rules of the change, or by later ones."""
    for weight in range(10, 110, 10):
        done = versions.act("weight", version=GOOD, weight=weight)
        assert done.status_code == 200, done.text
        epochs = [versions.ask(BODIES[0]).json()["model"]["epoch"] for _ in range(6)]
        assert min(epochs) >= done.json()["epoch"]


def test_entities_keep_their_version_when_a_weight_rises(versions, expected):
    """Raised from 20 to 60 %: whoever saw the challenger still does, and two gateways agree."""

    def seen() -> set[int]:
        answers = [versions.ask(MANY).json() for _ in range(4)]
        chosen = [{i for i, each in enumerate(answer) if each["model"]["version"] == GOOD} for answer in answers]
        assert all(each == chosen[0] for each in chosen)
        return chosen[0]

    swap(versions, 20)
    few = seen()
    swap(versions, 60)
    assert few < seen()


def test_a_version_can_be_asked_for_by_name(versions, expected):
    """The header decides; a version that is not loaded is 404 and names those that are."""
    swap(versions, 0)
    assert versions.ask(BODIES[0], **{"x-model-version": GOOD}).json()["model"]["version"] == GOOD
    unknown = versions.ask(BODIES[0], **{"x-model-version": "77"})
    assert unknown.status_code == 404
    assert "there are: 1, 2" in unknown.json()["detail"]


@pytest.mark.parametrize(
    ("version", "words"),
    [(WRONG_SCORES, "probe rows differ"), (OTHER_CONTRACT, "required"), ("77", "not in the registry")],
    ids=["wrong-scores", "other-contract", "unknown"],
)
def test_what_cannot_serve_is_refused_while_the_old_answers(versions, expected, version, words):
    """A version that is unknown, scores otherwise than recorded or takes other requests never answers anyone."""
    before = versions.look("rules")
    refused = versions.act("weight", version=version, weight=50)
    assert refused.status_code == 422
    assert words in refused.json()["reason"]
    assert words in versions.look()["refusals"][-1]["reason"]
    assert versions.look("rules") == before
    assert versions.ask(BODIES[0]).json()["probability"] == expected["1"][0]


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


CROWDED = {"challengers": [{"version": version, "weight": 60} for version in (GOOD, WRONG_SCORES)]}


@pytest.mark.parametrize(
    ("rules", "words"),
    [(CROWDED, "sum to 120 %"), ({"use_case": "bank"}, "of use case 'bank', 'card_fraud' is served")],
    ids=["weights", "use-case"],
)
def test_rules_that_make_no_sense_change_nothing(versions, expected, rules, words):
    """Refused at the admin door and in the registry's tag alike; the reason is shown, and answers go on."""
    before = versions.look("rules")
    refused = versions.act("rules", rules=rules)
    assert refused.status_code == 422
    assert words in refused.json()["reason"]
    versions.tag(json.dumps({"use_case": NAME, "champion": "1", **rules}))
    wait_for(lambda: words in str(versions.look()["refusals"][-1:]), "the tag to be refused")
    assert versions.look("rules") == before
    assert versions.ask(BODIES[0]).json()["probability"] == expected["1"][0]


def test_half_written_rules_change_nothing(versions, expected):
    """Somebody's broken tag is refused and shown, a broken file by the command that reads it; answers go on."""
    before = versions.look("rules")
    versions.tag('{"use_case": "card_fraud", "champ')
    wait_for(lambda: "is not JSON" in str(versions.look()["refusals"][-1:]), "the tag to be refused")
    file = versions.place.folder / "rules.toml"
    file.write_text('use_case = "card_fraud"\nchampion = "1')
    refused = versions.place.run("tune", "traffic", "set", str(file))
    assert refused.returncode == 2
    assert f"{file}: not readable as TOML" in refused.stderr
    assert versions.look("rules") == before
    assert versions.ask(BODIES[0]).status_code == 200


def test_of_two_rollouts_at_once_the_second_is_refused(versions, expected):
    """By the command, and by Control when both orders were written at the same time; the first goes on as it was."""
    start = ("tune", "rollout", "start", GOOD, "--hold", "1h", "--steps")
    first = versions.place.run(*start, "10,100")
    assert first.returncode == 0, first.stdout + first.stderr
    second = versions.place.run(*start, "50,100")
    assert second.returncode == 2
    assert "abort it first" in second.stderr
    versions.order(RolloutAction.START, "0000beef", steps=(50,), hold_s=3600)
    wait_for(lambda: "abort it first" in str(versions.look()["refusals"][-1:]), "the second order to be refused")
    assert versions.look()["rollout"]["steps"] == [10, 100]
    assert versions.weight() == 10
    assert versions.ask(BODIES[0]).status_code == 200


def test_rollback_by_the_admin_door_takes_no_registry(versions, expected):
    """One command takes the challenger out while the registry is away; another token is refused."""
    swap(versions, 40)
    versions.wait_settled()
    command = ("tune", "rollout", "rollback", "--url", versions.place.url)
    environment = versions.place.environment
    versions.place.environment = {**environment, "RAYSCORE_ADMIN_TOKEN": "a-token-of-somebody-else"}
    wrong = versions.place.run(*command)
    versions.place.environment = environment
    assert wrong.returncode == 2
    assert "401 Not authorized" in wrong.stderr
    assert versions.weight() == 40
    with away(versions.database):
        done = versions.place.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "version 1 answers everybody" in done.stdout
        assert versions.weight() == 0


def test_control_killed_in_mid_canary_finds_its_step(versions, expected):
    """kill -9 of Control in a rollout: the step stays in force, is held anew by the next one, and then goes on."""
    with checking(load(versions, expected, 14)) as future:
        versions.order(RolloutAction.START, "00000001", steps=(10, 50), hold_s=6)
        first_step(versions)
        rules = versions.look("rules")
        victim = kill_one(versions, "Control")
        wait_for(lambda: bool(set(replicas(versions, "Control")) - {victim}), "another Control")
        versions.wait_settled()
        seen = future.result()
    unharmed(seen)
    assert max(seen.epochs) >= rules["epoch"]
    wait_for(lambda: moved_on(versions, 50), "the second step")
    told = [event["text"] for event in versions.look()["rollout"]["history"]]
    assert any("watched anew" in text for text in told)


def test_a_clock_that_jumps_holds_no_step(versions, expected):
    """A Control that is stopped for longer than a step's hold has left finds its clock ahead: 5 s of that count."""
    hold_s, away_s = 9.0, 7.0
    versions.order(RolloutAction.START, "00000002", steps=(10, 50), hold_s=hold_s)
    first_step(versions)
    (control,) = replicas(versions, "Control")
    with checking(load(versions, expected, away_s)) as future:
        os.kill(control, signal.SIGSTOP)
        try:
            time.sleep(away_s)
        finally:
            os.kill(control, signal.SIGCONT)
        seen = future.result()
    unharmed(seen)
    versions.wait_settled()
    wait_for(lambda: moved_on(versions, 50), "the second step")
    wait_for(lambda: len(versions.look()["rollout"]["began"]) == 2, "the second step to be noted")
    first, second = versions.look()["rollout"]["began"]
    assert second - first >= hold_s + away_s - 5


def test_a_full_disk_costs_the_log_its_rows_and_nobody_an_answer(versions, expected):
    """While the disk refuses its writes, rows of the log are counted as lost and answers go on; then so does it."""

    def refuse(most: int) -> None:
        gateways = replicas(versions, "Gateway")
        for pid in [pid for gateway in gateways for pid in children(gateway, "ray_app.prediction_log.writer_process")]:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    def counts_lost() -> bool:
        text = httpx.get(f"{versions.place.url}/metrics", timeout=30).text
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
