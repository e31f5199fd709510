"""Control's access to the registry: reads champion and tags, fetches and checks bundles, writes alias and tags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timezone

from data.errors import BundleError, PromotionConflict
from data.settings import Settings
from ray_app.control.state.registry_state import PendingWrites, RegistrySnapshot
from ray_app.control.state.version_set import PackedBundle, VersionFacts
from ray_app.inference.models.onnx_model import OnnxModel
from tune.registry.bundle import BundleManifest
from tune.registry.registry import Registry

_MOST_LISTED = 50


class RegistrySource:
    """Reads and writes the registered model of one application.

    Every method blocks, and raises RegistryUnavailable when the registry does not answer.

    Args:
        settings: where the registry is, and which alias is served.
        reference: the model that the application was built with, whose contract every version must keep.
    """

    def __init__(self, settings: Settings, reference: BundleManifest) -> None:
        self._settings = settings
        self._alias = settings.model_alias
        self._reference = reference
        self._opened: Registry | None = None

    @property
    def _registry(self) -> Registry:
        if self._opened is None:
            self._opened = Registry(self._settings.tracking_uri, self._settings.artifact_dir)
        return self._opened

    def read(self) -> RegistrySnapshot:
        """Return the champion's version and the model's tags; raises ModelNotFound."""
        aliases, tags = self._registry.state(self._reference.name)
        return RegistrySnapshot(self._alias if self._alias.isdigit() else aliases.get(self._alias), tags)

    def fetch(self, version: str) -> PackedBundle:
        """Fetch a version's bundle, and check that it can serve beside the others.

        Raises:
            ModelNotFound: there is no such version.
            BundleError: its bundle is damaged or of another contract, or does not score its probe rows as recorded.
            SchemaMismatch: its model takes another number of features than its schema has.
        """
        bundle = self._registry.resolve(self._reference.name, version).bundle
        if different := self._reference.differences(bundle.manifest):
            raise BundleError("its requests or stored rows are others than those served: " + "; ".join(different))
        # Only for its checks: it raises where the model does not load, or does not score its probe rows as recorded.
        OnnxModel(bundle)
        return PackedBundle.of(version, bundle)

    def list_versions(self) -> dict[str, VersionFacts]:
        """The 50 newest registered versions, newest first, whether they are served or not."""
        return {
            each.version: VersionFacts(
                datetime.fromtimestamp(each.created_ms / 1000, timezone.utc).isoformat(),
                _figures(each.tags, self._reference.metrics),
            )
            for each in self._registry.list(self._reference.name)[:_MOST_LISTED]
        }

    def write(self, writes: PendingWrites) -> None:
        """Write alias and tags. Where a version is served by its number there is no alias to move.

        Raises:
            PromotionConflict: the alias was moved by somebody else since it was read; nothing is written.
        """
        name = self._reference.name
        if writes.champion is not None and not self._alias.isdigit():
            # MLflow has no compare-and-set for aliases: a change in the milliseconds until the write is overwritten.
            present = self._registry.state(name).aliases.get(self._alias)
            if present not in (writes.known, writes.champion):
                raise PromotionConflict(
                    f"version {writes.champion} is the champion here, and the alias '{self._alias}' was moved from "
                    f"version {writes.known} to version {present}: that is followed"
                )
        for key, value in writes.tags.items():
            self._registry.set_tag(name, key, value)
        if writes.champion is not None and not self._alias.isdigit():
            self._registry.set_alias(name, self._alias, writes.champion)


def _figures(tags: Mapping[str, str], names: Iterable[str]) -> dict[str, float]:
    """The metrics among a version's tags; a tag that is not a number is left out."""
    figures = {}
    for name in names:
        with suppress(ValueError):
            figures[name] = float(tags.get(name, ""))
    return figures
