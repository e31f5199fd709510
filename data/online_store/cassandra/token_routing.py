"""Which node of a Cassandra cluster to ask for which key: an owner that is up, near, and not late just now."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from cassandra.metadata import Metadata
    from cassandra.pool import Host

_LATE_S = 2.0


class TokenReplicas:
    """The owners of keys by the driver's token metadata. Nodes may be marked and cleared from any thread.

    Args:
        metadata: the connected cluster's.
        keyspace: whose replication counts.
        datacenter: the local one; nodes elsewhere are never asked.
    """

    def __init__(self, metadata: Metadata, keyspace: str, datacenter: str) -> None:
        self._metadata = metadata
        self._keyspace = keyspace
        self._datacenter = datacenter
        self._late: dict[Host, float] = {}

    def grouped(self, keys: Sequence[str]) -> dict[Host | None, list[str]]:
        """Keys by the node to ask first; None where the driver must choose: one node, or no owner that is up."""
        if len(self._metadata.all_hosts()) == 1:
            return {None: list(keys)}
        groups: dict[Host | None, list[str]] = {}
        for owners, owned in self._ranges(keys):
            groups.setdefault(self._preferred(owners), []).extend(owned)
        return groups

    def elsewhere(self, keys: Sequence[str], asked: Host) -> dict[Host | None, list[str]]:
        """Keys by another owner than the node that was asked, None where there is none that is up."""
        groups: dict[Host | None, list[str]] = {}
        for owners, owned in self._ranges(keys):
            other = self._preferred(host for host in owners if host != asked)
            groups.setdefault(other, []).extend(owned)
        return groups

    def mark_late(self, host: Host) -> None:
        """Ask others first until the node answers, or for 2 s, after which a read tries it again."""
        self._late[host] = time.monotonic() + _LATE_S

    def answered(self, host: Host | None) -> None:
        """Clear the mark of a node that has answered."""
        if self._late and host is not None:
            self._late.pop(host, None)

    def _ranges(self, keys: Sequence[str]) -> Iterator[tuple[Sequence[Host], list[str]]]:
        """Keys that share their owners: the driver keeps one list a token range."""
        replicas, keyspace = self._metadata.get_replicas, self._keyspace
        ranges: dict[int, tuple[Sequence[Host], list[str]]] = {}
        for key in keys:
            owners = cast("Sequence[Host]", replicas(keyspace, key.encode()))
            found = ranges.get(id(owners))
            if found is None:
                found = ranges[id(owners)] = (owners, [])
            found[1].append(key)
        return iter(ranges.values())

    def _preferred(self, owners: Iterable[Host]) -> Host | None:
        live = [host for host in owners if host.is_up and host.datacenter == self._datacenter]
        if not self._late:
            return live[0] if live else None
        now = time.monotonic()
        return min(live, key=lambda host: self._late.get(host, 0.0) > now, default=None)
