"""Logged decisions made again: those that late events change, each with the vector of the whole table, and no other."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data.errors import ModelNotFound
from data.event_store.sqlite.store import SqliteEvents
from data.feature_views.events.event import shown_key
from data.prediction_log.files import LogFile, read_log
from ray_app.late_events import logged_decision, version_replay
from ray_app.late_events.log_review import NO_WINDOWS, UNKNOWN_VERSION, LogReview
from ray_app.late_events.missing_events import missing_events
from ray_app.late_events.version_replay import VersionReplay
from tests.support.serving.late_swipes import review_swipes, serve_swipes, vectors
from tests.support.serving.window_app import report, swipe, swipes_bundle, swipes_table

DAY = 24 * 60


def reviewed(tmp_path: Path, *sent: Any, **later: Any) -> tuple[LogReview, list[version_replay.LateDecision]]:
    """Serve, store what comes late, and make the log's decisions again."""
    serve_swipes(tmp_path / "events.db", tmp_path / "log", sent, **later)
    return review_swipes(tmp_path / "events.db", read_log(tmp_path / "log"))


@pytest.mark.parametrize("seed", [1, 2])
def test_what_late_events_change_is_what_the_whole_table_says(tmp_path: Path, seed: int):
    """Of swipes at random, some late, and late reports: those listed are those whose vector differs, with its bits."""
    rng = random.Random(seed)
    rows = [
        swipe(at, 4 * DAY + rng.randrange(DAY // 2), f"c{rng.randrange(3)}", f"t{rng.randrange(3)}")
        | {"amount": rng.randrange(100, 9000) / 100, "channel": rng.choice(["web", "chip"])}
        for at in range(40)
    ]
    rows.sort(key=lambda row: (row["swiped_at"], row["swipe_id"]))
    reports = [report(at, rng.randrange(5 * DAY), rng.random() < 0.5, f"t{rng.randrange(3)}") for at in range(10)]
    late = [row for row in rows if rng.random() < 0.1]
    sent = [row for row in rows if row not in late]
    review, found = reviewed(tmp_path, *sent, late=late, reports=reports)
    whole = dict(zip((row["swipe_id"] for row in rows), vectors(swipes_table(rows, reports)), strict=True))
    served = dict(zip((row["swipe_id"] for row in sent), vectors(swipes_table(sent)), strict=True))
    present = {shown_key(each.query.key): each.vector.tobytes() for each in found}
    assert present == {key: whole[key] for key in served if served[key] != whole[key]}
    assert present
    tally = review.tally
    assert (tally.looked_at, tally.vectors, tally.left_out) == (len(sent), len(found), Counter())
    assert tally.windows >= tally.vectors
    assert (tally.scores, tally.labels) == (
        sum(each.other_score for each in found),
        sum(each.code != each.logged.code for each in found),
    )


def test_a_window_whose_default_stood_in_is_no_other_decision(tmp_path: Path):
    """A late report of no fraud makes a missing risk 0, which is its default: counted, and not listed."""
    late = [report(1, 10, False)]
    review, found = reviewed(tmp_path, swipe(1, 2 * DAY), reports=late)
    assert (found, review.tally.windows, review.tally.vectors) == ([], 1, 0)


def test_nothing_late_changes_nothing(tmp_path: Path):
    """A log whose events are all there, a row sent twice among them, has no decision that would be another."""
    rows = [swipe(at, at) for at in range(5)]
    review, found = reviewed(tmp_path, *rows, rows[2])
    assert (found, review.tally.looked_at, review.tally.windows) == ([], 6, 0)


def test_the_late_event_is_named(tmp_path: Path):
    """An event without which every window of its entity is as logged is named, for each entity that it names."""
    rows = [swipe(at, at, amount=10.0 + at) for at in range(6)]
    _, found = reviewed(tmp_path, *rows[:3], *rows[4:], late=[rows[3]])
    assert [shown_key(each.query.key) for each in found] == [4, 5]
    card, pair = missing_events(found[1])
    assert (card.entity_key, card.keys, card.number) == ("c1", (3,), 1)
    assert (pair.entity, pair.keys, pair.number) == ("card_id+terminal_id", (3,), 1)


def test_a_count_alone_does_not_tell_which_event_was_late(tmp_path: Path):
    """Of two that are alike in all but their key, it is said that one was not there."""
    rows = [swipe(at, minute) for at, minute in enumerate((0, 1, 1, 5))]
    _, found = reviewed(tmp_path, *rows[:2], rows[3], late=[rows[2]])
    assert [(each.keys, each.number) for each in missing_events(found[0])] == [((), 1), ((), 1)]


def test_several_late_events_are_named_together(tmp_path: Path):
    """Events that came late one after another are named; of others it is said that they are none such."""
    rows = [swipe(at, at, amount=10.0 + at * at) for at in range(9)]
    _, found = reviewed(tmp_path / "run", *rows[:3], *rows[5:], late=rows[3:5])
    assert {missing_events(each)[0].keys for each in found} == {(3, 4)}
    _, found = reviewed(tmp_path / "apart", rows[0], *rows[2:5], *rows[6:], late=[rows[1], rows[5]])
    assert [missing_events(each)[0].number for each in found] == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("late", [[], [swipe(7, 0)]], ids=["nothing late", "an event late"])
def test_a_row_without_key_is_found_by_its_event(tmp_path: Path, late: list[dict[str, Any]]):
    """Rows that name no key, sent alone or in an array, are not taken for events before themselves."""
    rows = [{name: value for name, value in swipe(at, at).items() if name != "swipe_id"} for at in range(1, 4)]
    review, found = reviewed(tmp_path, rows[0], rows[1:], late=late)
    assert review.tally.looked_at == 3
    assert [each.present for row in found for each in row.changed if each.name == "card_count_1d"] == (
        [1.0, 2.0, 3.0] if late else []
    )


def test_windows_beyond_what_the_store_keeps_are_left_as_logged(tmp_path: Path):
    """Of a store that drops events, windows that reach back too far keep their value and are counted."""
    rows = [swipe(at, 5 * DAY - 20 + at, amount=10.0 + at) for at in range(4)]
    serve_swipes(tmp_path / "events.db", tmp_path / "log", [rows[0], *rows[2:]], late=[rows[1]])
    manifest = swipes_bundle().manifest
    with closing(SqliteEvents(tmp_path / "events.db", manifest.name, manifest.events)) as store:
        for kept_us, dropped, changed in ((2 * DAY, 5, {"card_count_1d", "card_sum_with_this"}), (30, 8, set())):
            replay = VersionReplay(swipes_bundle(), store, kept_us * 60_000_000)
            review = LogReview(lambda version, replay=replay: replay)
            found = list(review.late(read_log(tmp_path / "log"), lambda rows: None))
            names = {each.name for row in found for each in row.changed}
            assert (names, review.tally.dropped) == (changed, dropped * review.tally.looked_at)
            if not changed:
                assert review.tally.left_out == {version_replay.DROPPED: 3}


@pytest.fixture(scope="module")
def one_row(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LogFile]:
    """An event store, and the log of one answer."""
    folder = tmp_path_factory.mktemp("one")
    serve_swipes(folder / "events.db", folder / "log", [swipe(1, 1)])
    (file,) = read_log(folder / "log")
    return folder / "events.db", file


def changed(file: LogFile, **columns: Any) -> LogFile:
    """The row of a log with other values."""
    row = file.table.slice(0, 1).to_pylist()[0] | columns
    return file._replace(table=pa.Table.from_pylist([row], file.table.schema))


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"degraded": True}, logged_decision.DEGRADED),
        ({"vector": [1.0]}, logged_decision.OTHER_FEATURES),
        ({"online": "{}"}, logged_decision.WITHOUT_WINDOWS),
        ({"online": None}, logged_decision.WITHOUT_WINDOWS),
        ({"sent": "[1]"}, logged_decision.UNREADABLE),
        ({"sent": "{"}, logged_decision.UNREADABLE),
        ({"sent": '{"card_id": "c1", "terminal_id": "t1", "amount": "x"}'}, logged_decision.UNREADABLE),
        ({"version": "none"}, UNKNOWN_VERSION),
        ({"version": "plain"}, NO_WINDOWS),
    ],
)
def test_rows_that_cannot_be_made_again_are_counted(
    one_row: tuple[Path, LogFile], columns: dict[str, Any], reason: str
):
    """Each kind of row that is left out has its reason, and none of them ends the review."""
    events, file = one_row
    manifest = swipes_bundle().manifest
    with closing(SqliteEvents(events, manifest.name, manifest.events)) as store:

        def open_version(version: str) -> VersionReplay | None:
            if version == "none":
                raise ModelNotFound("no such version")
            return None if version == "plain" else VersionReplay(swipes_bundle(), store)

        review = LogReview(open_version)
        assert not list(review.late([changed(file, **columns)], lambda rows: None))
    assert (review.tally.looked_at, review.tally.left_out) == (0, {reason: 1})


def test_hashed_entities_are_counted(tmp_path: Path):
    """A log without the entities of its events cannot be made again, and says so."""
    review, found = reviewed(tmp_path, swipe(1, 1), swipe(2, 2), entity_key=b"secret")
    assert (found, review.tally.left_out) == ([], {logged_decision.WITHOUT_ENTITIES: 2})
