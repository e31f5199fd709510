"""The versions that a model replica holds: each call names the bundle it wants, and gets that one or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ray_app.inference.onnx_model import OnnxModel
from tune.registry.bundle import Bundle
from tune.registry.traffic_rules import TrafficRules


class ModelCache:
    """Loaded models by version. Belongs to the event loop that scores.

    Args:
        rules: those in force; what they name is never dropped.
        bundles: of the versions that they name.
    """

    def __init__(self, rules: TrafficRules, bundles: Mapping[str, Bundle]) -> None:
        self._rules = rules
        self._digests: dict[str, str] = {}
        self._models: dict[bytes, OnnxModel] = {}
        for version in rules.versions:
            self._take(version, bundles[version].digest, OnnxModel(bundles[version]))

    @property
    def rules(self) -> TrafficRules:
        """The rules in force."""
        return self._rules

    def model(self, digest: bytes) -> OnnxModel | None:
        """The model of a bundle by its digest's bytes, None when it is not loaded."""
        return self._models.get(digest)

    def held(self) -> dict[str, str]:
        """Digests of the versions that are loaded."""
        return dict(self._digests)

    def load(self, version: str, packed: bytes) -> Callable[[], None]:
        """Load `Bundle.to_bytes()` and warm it up, on any thread; return what takes it in, on the loop.

        Raises:
            BundleError: it is damaged, does not load, or does not score its probe rows as recorded.
            SchemaMismatch: the model takes another number of features than its schema has.
        """
        bundle = Bundle.from_bytes(packed)
        model = OnnxModel(bundle)
        return lambda: self._take(version, bundle.digest, model)

    def drop(self, version: str) -> None:
        """Let go of a version that the rules do not name."""
        if version in self._rules.versions or version not in self._digests:
            return
        digest = self._digests.pop(version)
        # The same bundle may have been registered twice.
        if digest not in self._digests.values():
            del self._models[bytes.fromhex(digest)]

    def switch(self, rules: TrafficRules) -> bool:
        """Take over other rules; False when a version that they need is not loaded."""
        if any(version not in self._digests for version in rules.versions):
            return False
        self._rules = rules
        return True

    def _take(self, version: str, digest: str, model: OnnxModel) -> None:
        self._digests[version] = digest
        self._models[bytes.fromhex(digest)] = model
