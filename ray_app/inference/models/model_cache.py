"""The versions that a model or explanation replica has loaded; each call names its bundle by digest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from tune.registry.bundle import Bundle
from tune.registry.traffic_rules import TrafficRules

Model = TypeVar("Model")


class ModelCache(Generic[Model]):
    """Loaded models by version and by bundle digest. Belongs to the event loop that calls them.

    Args:
        rules: the traffic rules to start with; versions that the rules in force name are never dropped.
        bundles: bundles by version, of every version that `rules` names.
        make: loads a bundle, on any thread: `OnnxModel`, or `load_explainer`.

    Raises:
        BundleError, SchemaMismatch: a bundle does not load; see `make`.
    """

    def __init__(self, rules: TrafficRules, bundles: Mapping[str, Bundle], make: Callable[[Bundle], Model]) -> None:
        self._make = make
        self._rules = rules
        self._digests: dict[str, str] = {}
        self._models: dict[bytes, Model] = {}
        for version in rules.versions:
            self._add(version, bundles[version].digest, make(bundles[version]))

    @property
    def rules(self) -> TrafficRules:
        """The traffic rules in force."""
        return self._rules

    def model(self, digest: bytes) -> Model | None:
        """Return the model of a bundle, by the 8 bytes of its digest; None when it is not loaded."""
        return self._models.get(digest)

    def held(self) -> dict[str, str]:
        """Return the bundle digests of the loaded versions, by version."""
        return dict(self._digests)

    def load(self, version: str, packed: bytes) -> Callable[[], None]:
        """Load a version from `Bundle.to_bytes()`, on any thread; return a function that adds it, for the event loop.

        Two steps, because loading takes too long for the event loop, and the cache may change on the event loop alone.

        Raises:
            BundleError: the bundle is damaged, does not load, or does not score its probe rows as recorded.
            SchemaMismatch: the model's number of inputs is not its schema's number of features.
        """
        bundle = Bundle.from_bytes(packed)
        model = self._make(bundle)
        return lambda: self._add(version, bundle.digest, model)

    def drop(self, version: str) -> None:
        """Unload a version unless the rules name it."""
        if version in self._rules.versions or version not in self._digests:
            return
        digest = self._digests.pop(version)
        # The same bundle may be registered as two versions, which share one model.
        if digest not in self._digests.values():
            del self._models[bytes.fromhex(digest)]

    def switch(self, rules: TrafficRules) -> bool:
        """Put other rules in force; False when a version that they name is not loaded."""
        if any(version not in self._digests for version in rules.versions):
            return False
        self._rules = rules
        return True

    def _add(self, version: str, digest: str, model: Model) -> None:
        self._digests[version] = digest
        self._models[bytes.fromhex(digest)] = model
