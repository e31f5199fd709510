"""Token routing: which node of the Cassandra cluster to ask for which key."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from cassandra.metadata import Metadata
    from cassandra.pool import Host

_LATE_S = 2.0


class TokenReplicas:
    """Groups keys by the node to ask: an owner that is up, in the local data center, and not marked as late.

    Owners come from the driver's token metadata. Nodes may be marked and cleared from any thread.

    Args:
        metadata: that of the connected cluster.
        keyspace: the keyspace whose replication decides who owns a key.
        datacenter: the local data center; nodes elsewhere are never asked.
    """

    def __init__(self, metadata: Metadata, keyspace: str, datacenter: str) -> None:
        self._metadata = metadata
        self._keyspace = keyspace
        self._datacenter = datacenter
        self._late: dict[Host, float] = {}

    def grouped(self, keys: Sequence[str]) -> dict[Host | None, list[str]]:
        """Group keys by the node to ask first.

        Returns:
            Keys by node; under None those for which the driver chooses: a cluster of one node, or no owner is up.
        """
        if len(self._metadata.all_hosts()) == 1:
            return {None: list(keys)}
        groups: dict[Host | None, list[str]] = {}
        for owners, owned in self._ranges(keys):
            groups.setdefault(self._preferred(owners), []).extend(owned)
        return groups

    def elsewhere(self, keys: Sequence[str], asked: Host) -> dict[Host | None, list[str]]:
        """Group keys by an owner other than the node that was asked; under None those without another that is up."""
        groups: dict[Host | None, list[str]] = {}
        for owners, owned in self._ranges(keys):
            other = self._preferred(host for host in owners if host != asked)
            groups.setdefault(other, []).extend(owned)
        return groups

    def mark_late(self, host: Host) -> None:
        """Prefer other owners until the node answers, for 2 s at most; then a read tries it again.

        The driver never marks a node that is merely slow, so each read would wait for it anew.
        """
        self._late[host] = time.monotonic() + _LATE_S

    def answered(self, host: Host | None) -> None:
        """Clear the mark of a node that has answered."""
        if self._late and host is not None:
            self._late.pop(host, None)

    def _ranges(self, keys: Sequence[str]) -> Iterator[tuple[Sequence[Host], list[str]]]:
        """Yield (owners, keys) of keys that share their owners.

        The driver returns the same list object for every key of a token range, so the list's identity is the range:
        no owners need to be hashed or compared.
        """
        replicas, keyspace = self._metadata.get_replicas, self._keyspace
        ranges: dict[int, tuple[Sequence[Host], list[str]]] = {}
        for key in keys:
            owners = cast("Sequence[Host]", replicas(keyspace, key.encode()))
            token_range = ranges.get(id(owners))
            if token_range is None:
                token_range = ranges[id(owners)] = (owners, [])
            token_range[1].append(key)
        return iter(ranges.values())

    def _preferred(self, owners: Iterable[Host]) -> Host | None:
        live = [host for host in owners if host.is_up and host.datacenter == self._datacenter]
        if not self._late:
            return live[0] if live else None
        now = time.monotonic()
        return min(live, key=lambda host: self._late.get(host, 0.0) > now, default=None)
