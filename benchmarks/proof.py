"""Checks a load test during which the model was changed: no request failed, and no answer mixed two versions.

Reads what `docs/change-the-model-under-load.sh` leaves in its folder: the load test's report, the prediction log, the
audit log of the changes, and when each command was given. Ends with 1 when a claim does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.results.figures import markdown_table
from data.cli.terminal import run_cli
from data.errors import DataError
from data.prediction_log.files import read_log
from data.settings import Settings
from tune.registry.registry import Registry
from tune.skew.log_replay import prove_log

_USE_CASE = "sent_cards"
_ENOUGH = 10_000
_REPLAY = "skew-proof-"
"""How request ids of the skew proof begin."""
_SKEW_S = 0.05
"""Arrivals are told apart by the wall clock and a latency that begins with the head: within this they are one."""
_SOON_S = 10.0


class Rows(NamedTuple):
    """Columns of the prediction log, one entry per answered row, ordered by arrival (s since 1970)."""

    replica: np.ndarray
    sequence: np.ndarray
    arrived: np.ndarray
    version: np.ndarray
    epoch: np.ndarray
    entity: np.ndarray
    replayed: np.ndarray
    """True for the rows of skew proofs, which ask for a version by name."""

    def pick(self, chosen: np.ndarray) -> Rows:
        """The rows selected by a boolean mask or by indices."""
        return Rows(*(column[chosen] for column in self))


class Claim(NamedTuple):
    """One checked claim: its text, what was found, and whether it holds."""

    what: str
    found: str
    holds: bool


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proof", description=__doc__)
    parser.add_argument("folder", type=Path, help="of one run of docs/change-the-model-under-load.sh")
    folder = parser.parse_args(argv).folder
    settings = Settings(var_dir=folder / "var")
    rows = read_rows(settings.prediction_log_path)
    report = json.loads((folder / "load" / "report.json").read_text())
    events, changes = _lines(folder / "events.jsonl"), committed(_lines(folder / "var" / "audit.jsonl"))
    asked = rows.pick(~rows.replayed)
    claims = [
        *answers(report, asked),
        whole(rows),
        scored(rows, settings),
        replayed(rows),
        in_order(rows, changes),
        *sticky(asked, changes),
        killed(events),
        taken_back(changes),
    ]
    print(
        markdown_table(
            ["change", "epoch", "by", "command took s", "decided after s", "in force ms"],
            effects(rows, changes, events),
        )
    )
    print(f"\n{_LEGEND}\n")
    shown = [[claim.what, claim.found, "holds" if claim.holds else "FAILS"] for claim in claims]
    print(markdown_table(["claim", "found", ""], shown))
    return 0 if all(claim.holds for claim in claims) else 1


_LEGEND = (
    "Decided after: from when the command was given (start of Python included) until Control committed the change. "
    "In force: from then until the last request came in that was answered by the rules before it, on any gateway."
)


def read_rows(folder: Path) -> Rows:
    """Read the whole prediction log; raises DataError when it is missing or empty."""
    tables = [file.table for file in read_log(folder) if file.table.num_rows]
    if not tables:
        raise DataError(f"{folder}: no row was logged")

    def column(name: str) -> np.ndarray:
        return np.concatenate([table.column(name).to_numpy() for table in tables])

    arrived = column("answered_at").astype("datetime64[us]").astype(np.int64) / 1e6 - column("latency_ms") / 1000
    replays = np.array([name.startswith(_REPLAY) for name in column("request_id")])
    names = ("version", "epoch", "entity")
    rows = Rows(column("replica"), column("sequence"), arrived, *(column(name) for name in names), replays)
    return rows.pick(np.argsort(arrived, kind="stable"))


def committed(audit: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The committed changes of the audit log, in order."""
    return [entry for entry in audit if entry["outcome"] == "committed"]


def answers(report: Mapping[str, Any], asked: Rows) -> list[Claim]:
    """Claim: every request got 2xx and each answer is in the log; requests cut off at the end may be logged too."""
    sent, good, cut = report["requests"], report["requests"] - report["errors"], report["unfinished"]
    more = len(asked.epoch) - good
    return [
        Claim("requests sent, failed", f"{sent:,}, {report['errors']:,}", report["errors"] == 0 < sent),
        Claim("answers, rows in the log", f"{good:,}, {len(asked.epoch):,} ({cut} cut off)", 0 <= more <= cut),
    ]


def whole(rows: Rows) -> Claim:
    """Claim: no gateway's sequence numbers have a gap."""
    lost = 0
    for replica in np.unique(rows.replica):
        numbers = rows.sequence[rows.replica == replica]
        lost += int(numbers.max()) - len(numbers)
    return Claim("rows that the log has lost", f"{lost:,}", lost == 0)


def scored(rows: Rows, settings: Settings) -> Claim:
    """Claim: each answer has the score of the version that it names, recomputed from the request."""
    registry = Registry(settings.tracking_uri, settings.artifact_dir)
    compared = differing = 0
    for version, count in zip(*np.unique(rows.version, return_counts=True), strict=True):
        bundle = registry.resolve(_USE_CASE, version).bundle
        proof = prove_log(bundle, version, settings.prediction_log_path, int(count))
        compared, differing = compared + proof.compared, differing + proof.differing
    return Claim(
        "answers recomputed, mixed", f"{compared:,}, {differing:,}", differing == 0 and compared == len(rows.epoch)
    )


def replayed(rows: Rows) -> Claim:
    """Claim: enough rows were replayed for a skew proof."""
    count = int(rows.replayed.sum())
    return Claim("rows of the two skew proofs", f"{count:,}", count >= 2 * _ENOUGH)


def in_order(rows: Rows, changes: Sequence[Mapping[str, Any]]) -> Claim:
    """Claim: no gateway returns to older rules, and none uses rules that were never committed."""
    back = 0
    for replica in np.unique(rows.replica):
        own = rows.pick(rows.replica == replica)
        newest = np.maximum.accumulate(own.epoch)
        first = {epoch: own.arrived[own.epoch == epoch].min() for epoch in np.unique(own.epoch)}
        late = own.epoch < newest
        since = np.array([first[epoch] for epoch in newest[late]])
        back += int((own.arrived[late] - since > _SKEW_S).sum())
    seen = [int(epoch) for epoch in np.unique(rows.epoch)]
    known = {change["epoch"] for change in changes} | {seen[0]}
    return Claim(
        "epochs seen, answers out of order", f"{', '.join(map(str, seen))}; {back}", back == 0 and set(seen) <= known
    )


def sticky(asked: Rows, changes: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Claim: under the same rules an entity gets one version, and keeps a version whose weight rises."""
    sees: dict[int, dict[str, set[str]]] = {}
    for epoch, entity, version in zip(asked.epoch.tolist(), asked.entity, asked.version, strict=True):
        sees.setdefault(epoch, {}).setdefault(entity, set()).add(version)
    two = sum(len(versions) > 1 for entities in sees.values() for versions in entities.values())
    pairs = [
        (sees.get(before["epoch"], {}), sees.get(after["epoch"], {}), version)
        for before, after in pairwise(changes)
        for version, weight in _weights(before).items()
        if _weights(after).get(version, -1.0) > weight > 0
    ]
    kept = [
        version in after[one]
        for before, after, version in pairs
        for one in before
        if version in before[one] and one in after
    ]
    checked = sum(len(entities) for entities in sees.values())
    return [
        Claim("entities by epoch, that saw two versions", f"{checked:,}, {two}", two == 0 < checked),
        Claim(
            "entities followed as a weight rose, lost", f"{len(kept):,}, {kept.count(False)}", all(kept) and bool(kept)
        ),
    ]


def killed(events: Sequence[Mapping[str, Any]]) -> Claim:
    """Claim: a model replica and Control were killed during the test."""
    names = [event["name"].removeprefix("kill -9 of ") for event in events if event["name"].startswith("kill -9 of ")]
    return Claim("killed with SIGKILL meanwhile", ", ".join(names), {"Model", "Control"} <= set(names))


def taken_back(changes: Sequence[Mapping[str, Any]]) -> Claim:
    """Claim: the champion changed, and changed back."""
    champions = [changes[0]["before"]["champion"], *(change["rules"]["champion"] for change in changes)]
    turns = [champions[0]] + [now for before, now in pairwise(champions) if now != before]
    return Claim("champions, one after the other", ", ".join(turns), turns == ["1", "2", "1"])


def effects(rows: Rows, changes: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One line per change: the command that caused it, and when it was in force."""
    lines = []
    for change in changes:
        before = rows.arrived[rows.epoch < change["epoch"]]
        in_force = max(float(before.max()) - change["at"], 0.0) if len(before) else 0.0
        event = _asked_by(change, events)
        told = (
            [event["name"], f"{event['done'] - event['at']:.2f}", f"{change['at'] - event['at']:.2f}"]
            if event
            else None
        )
        lines.append(
            [_described(change), str(change["epoch"]), *(told or [change["who"], "", ""]), f"{in_force * 1000:.0f}"]
        )
    return lines


def _asked_by(change: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The last command before a change, unless the rollout made the change by itself after that command had ended."""
    given = [event for event in events if event["at"] <= change["at"]]
    patience_s = 0.0 if change["who"] == "rollout" else _SOON_S
    return given[-1] if given and change["at"] <= given[-1]["done"] + patience_s else None


def _described(change: Mapping[str, Any]) -> str:
    others = [
        f"{each['version']} {'listens to' if each['mode'] == 'shadow' else 'has'} {each['weight']:g} %"
        for each in change["rules"]["challengers"]
    ]
    return ", ".join([f"champion {change['rules']['champion']}", *others])


def _weights(change: Mapping[str, Any]) -> dict[str, float]:
    return {each["version"]: each["weight"] for each in change["rules"]["challengers"] if each["mode"] == "live"}


def _lines(file: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
