"""The last report of each replica, as Control has it; a replica that stays silent counts as gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ray_app.control.messages import FUSED, GATEWAY, MODEL, ReplicaReport
from tune.registry.traffic_rules import TrafficRules

SILENT_S = 3.0
"""A replica that has not reported for so long counts as gone: no change waits for it."""
_MOST_GONE = 200


class _LastReport(NamedTuple):
    at: float
    report: ReplicaReport


class ReplicaStates:
    """The last report of each replica. Times are monotonic seconds.

    Args:
        kinds: kinds of replicas of which at least one must report before any change is committed.
    """

    def __init__(self, kinds: frozenset[str]) -> None:
        self._kinds = kinds
        self._live: dict[str, _LastReport] = {}
        self._gone: dict[str, ReplicaReport] = {}

    def record(self, report: ReplicaReport, now: float) -> None:
        """Take a report. One that arrives after a later one only shows that the replica is alive."""
        known = self._live.get(report.replica)
        if known is not None and known.report.count > report.count:
            report = known.report
        self._live[report.replica] = _LastReport(now, report)

    def sweep(self, now: float) -> None:
        """Move silent replicas to those gone. Their last reports are kept, so that sums over replicas do not fall."""
        for replica, heard in list(self._live.items()):
            if now - heard.at > SILENT_S:
                del self._live[replica]
                self._gone[replica] = heard.report
        while len(self._gone) > _MOST_GONE:
            del self._gone[next(iter(self._gone))]

    @property
    def complete(self) -> bool:
        """True when at least one replica of every kind is alive."""
        return self._kinds <= {heard.report.kind for heard in self._live.values()}

    def all_hold(self, wanted: Mapping[str, str], seq: int) -> bool:
        """True when every replica has acted on the directive `seq` or a later one, and holds the wanted versions."""
        reports = [heard.report for heard in self._live.values()]
        return self.complete and all(report.seq >= seq and wanted.items() <= report.held.items() for report in reports)

    def answer_by(self, epoch: int) -> bool:
        """True when no gateway answers by rules older than `epoch`."""
        reports = (heard.report for heard in self._live.values())
        return all(report.rules.epoch >= epoch for report in reports if report.kind in (GATEWAY, FUSED))

    def refusal(self, digests: frozenset[str]) -> str | None:
        """The reason why a replica cannot load one of these bundles, with the replica's name; None when all can."""
        for replica, heard in self._live.items():
            for digest in digests & heard.report.refused.keys():
                return f"{heard.report.kind} replica {replica} does not load it: {heard.report.refused[digest]}"
        return None

    def newest_rules(self) -> tuple[TrafficRules, dict[str, str]] | None:
        """The rules of the highest epoch among the replicas, with the digests which that replica holds."""
        reports = [heard.report for heard in self._live.values()]
        if not reports:
            return None
        newest = max(reports, key=lambda report: report.rules.epoch)
        return newest.rules, dict(newest.held)

    def held(self) -> list[tuple[str, list[str]]]:
        """Kind and versions held of each replica."""
        return [(heard.report.kind, list(heard.report.held)) for heard in self._live.values()]

    def extras(self, name: str, *, gone: bool = True) -> dict[str, Any]:
        """The values reported under a name, by replica; with `gone`, also the last ones of replicas that are gone."""
        last = {key: report.extras[name] for key, report in self._gone.items() if gone and name in report.extras}
        live = ((key, heard.report.extras) for key, heard in self._live.items())
        return last | {key: extras[name] for key, extras in live if name in extras}

    def reports(self) -> list[tuple[float, ReplicaReport]]:
        """Time and content of each living replica's last report, ordered by the replica's id."""
        return [self._live[replica] for replica in sorted(self._live)]

    def plain(self, now: float) -> list[dict[str, Any]]:
        """The living replicas as plain JSON, without the extras."""
        return [
            {
                "replica": replica,
                "kind": heard.report.kind,
                "held": heard.report.held,
                "epoch": heard.report.rules.epoch,
                "seq": heard.report.seq,
                "refused": heard.report.refused,
                "silent_s": round(now - heard.at, 2),
            }
            for replica, heard in sorted(self._live.items())
        ]


GRAPH_KINDS = frozenset({GATEWAY, MODEL})
FUSED_KINDS = frozenset({FUSED})
