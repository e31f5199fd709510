"""The versions that replicas are to hold: those of the rules and of a pending change, and retired ones for a while."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tune.registry.bundle import Bundle


class VersionFacts(NamedTuple):
    """A version's creation time (ISO 8601), its metrics on the holdout, and if known, what it answers in a clause."""

    created_at: str
    metrics: Mapping[str, float]
    answers: str | None = None


class PackedBundle(NamedTuple):
    """A bundle that was fetched and checked; `packed` is `Bundle.to_bytes()`."""

    version: str
    digest: str
    packed: bytes
    facts: VersionFacts | None = None

    @classmethod
    def of(cls, version: str, bundle: Bundle) -> PackedBundle:
        """Pack a bundle with its facts."""
        manifest = bundle.manifest
        facts = VersionFacts(manifest.created_at, manifest.metrics, manifest.output.words)
        return cls(version, bundle.digest, bundle.to_bytes(), facts)


class VersionLimits(NamedTuple):
    """The most versions that a replica holds at once, and how long a retired one stays loaded, in seconds."""

    versions: int
    grace_s: float


class VersionSet:
    """The bundles in Control's memory, and `wanted`: the digests by version that replicas are directed to hold.

    Args:
        bundles: by version.
        named: versions that the first rules name.
        limits: of what replicas hold.
    """

    def __init__(self, bundles: Mapping[str, PackedBundle], named: Iterable[str], limits: VersionLimits) -> None:
        self.limits = limits
        self._bundles = dict(bundles)
        self._digests = {version: bundle.digest for version, bundle in bundles.items()}
        self._retired: dict[str, float] = {}
        self.wanted = self.digests(named)

    def digests(self, named: Iterable[str]) -> dict[str, str]:
        """Digests by version, of those that are known."""
        return {version: self._digests[version] for version in named if version in self._digests}

    def put(self, bundle: PackedBundle) -> None:
        """Add a bundle."""
        self._bundles[bundle.version] = bundle
        self._digests[bundle.version] = bundle.digest

    def add_digests(self, digests: Mapping[str, str]) -> None:
        """Add the digests of versions whose bundles only replicas hold."""
        self._digests = {**digests, **self._digests}

    def missing(self, named: Iterable[str]) -> list[str]:
        """The versions among `named` whose bundles are not at hand."""
        return [version for version in dict.fromkeys(named) if version not in self._bundles]

    def packed(self, digest: str) -> bytes | None:
        """A packed bundle, None when it is not at hand."""
        return next((bundle.packed for bundle in self._bundles.values() if bundle.digest == digest), None)

    def facts(self) -> dict[str, VersionFacts]:
        """The facts of each version whose bundle is at hand."""
        return {version: bundle.facts for version, bundle in self._bundles.items() if bundle.facts is not None}

    def retire(self, versions: Iterable[str], now: float) -> None:
        """Start the grace period of versions that the rules no longer name."""
        for version in versions:
            self._retired[version] = now

    def choose(self, named: Iterable[str], coming: Iterable[str], now: float, may_go: bool) -> bool:
        """Update `wanted`, and return whether it changed.

        Args:
            named: versions that the rules in force name.
            coming: versions of the pending change; they wait while there is no room.
            now: monotonic seconds.
            may_go: no gateway answers by older rules any more, so retired versions may be dropped.
        """
        keep = list(dict.fromkeys(named))
        new = [version for version in dict.fromkeys(coming) if version not in keep]
        self._retired = {
            v: at for v, at in self._retired.items() if v not in keep and v not in new and v in self.wanted
        }
        staying = self._staying(self.limits.versions - len(keep) - len(new), now, may_go)
        if len(keep) + len(new) + len(staying) <= self.limits.versions:
            keep += new
        wanted = self.digests([*keep, *staying])
        changed = wanted != self.wanted
        self.wanted = wanted
        # Beside the wanted ones, those used last are kept, so that a rollback needs no fetch.
        for version in [v for v in self._bundles if v not in wanted and v not in new][: -self.limits.versions]:
            del self._bundles[version]
        return changed

    def _staying(self, room: int, now: float, may_go: bool) -> list[str]:
        """Retired versions that stay: all while a gateway may ask for them, then the newest that there is room for."""
        newest = sorted(self._retired, key=self._retired.__getitem__, reverse=True)
        if not may_go:
            return newest
        return [v for v in newest[: max(room, 0)] if now - self._retired[v] < self.limits.grace_s]
