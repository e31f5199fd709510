"""The model registry: MLflow model versions, each a bundle, found by version or alias."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mlflow.exceptions import MlflowException

from data.errors import BundleError
from tune.registry.bundle import Bundle
from tune.registry.mlflow_client import speaking_to
from tune.registry.model_versions import ModelCatalog
from tune.registry.pyfunc_flavor import save_flavor
from tune.registry.scratch_folder import scratch_folder
from tune.registry.traffic_rules import CHALLENGER

BUNDLE_FOLDER = "bundle"
MODEL_FOLDER = "model"
HOLDOUT_FOLDER = "holdout"
REPORT_FOLDER = "report"
"""Artifact folders of a run: the bundle, the same as MLflow loads it, the raw holdout rows, the report."""

_LONGEST_DESCRIPTION = 5000
"""Longest description of a model version that MLflow takes, in characters."""


class ResolvedModel(NamedTuple):
    """A registered version together with its bundle."""

    name: str
    version: str
    run_id: str
    bundle: Bundle
    aliases: tuple[str, ...]


class Registry(ModelCatalog):
    """The model versions of one MLflow, with their bundles and other files.

    Args:
        tracking_uri: MLflow server or local database.
        artifact_dir: folder in which a local MLflow keeps artifacts.
    """

    def __init__(self, tracking_uri: str, artifact_dir: str | Path) -> None:
        super().__init__(tracking_uri)
        self.artifact_dir = Path(artifact_dir)

    def publish(self, bundle: Bundle | str | Path, run_id: str, scratch: Path | None = None) -> str:
        """Upload a bundle to a run's artifacts, register it and set the alias `challenger` to the new version.

        Nothing is registered before all files are uploaded, and a version that cannot get its alias is deleted again.
        A run has one version: publishing again updates it.

        Args:
            bundle: the bundle, or its directory.
            run_id: the MLflow run that holds the artifacts.
            scratch: folder for temporary files; None for that of the system.

        Returns:
            The number of the version.

        Raises:
            BundleError: `bundle` is a directory without a complete bundle.
            DataError: the disk of `scratch` is full.
        """
        whole = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        with scratch_folder(scratch) as folder:
            whole.save(folder / BUNDLE_FOLDER)
            save_flavor(whole, folder / MODEL_FOLDER)
            with speaking_to(self.tracking_uri):
                self._client.log_artifacts(run_id, str(folder))
                return self._register(whole, run_id)

    def resolve(self, name: str, alias_or_version: str) -> ResolvedModel:
        """Fetch the bundle of a version, given by number or alias.

        Raises:
            ModelNotFound: no such model, version or alias.
            BundleError: the version's bundle is missing or damaged.
        """
        listed = self.version(name, alias_or_version)
        with tempfile.TemporaryDirectory() as scratch:
            bundle = Bundle.load(self.fetch(listed.run_id, BUNDLE_FOLDER, Path(scratch)))
        if bundle.manifest.name != name:
            raise BundleError(f"version {listed.version} of '{name}' holds a bundle of '{bundle.manifest.name}'")
        return ResolvedModel(name, listed.version, listed.run_id, bundle, listed.aliases)

    def fetch(self, run_id: str, folder: str, into: Path) -> Path:
        """Download an artifact folder of a run into `into` and return its path; raises ModelNotFound."""
        with speaking_to(self.tracking_uri, f"folder '{folder}' of run {run_id}"):
            return Path(self._client.download_artifacts(run_id, folder, str(into)))

    def run(self, run_id: str) -> tuple[dict[str, str], dict[str, float]]:
        """Return the parameters and the latest metrics of a run; raises ModelNotFound."""
        with speaking_to(self.tracking_uri, f"run {run_id}"):
            logged = self._client.get_run(run_id).data
        return dict(logged.params), dict(logged.metrics)

    def _register(self, bundle: Bundle, run_id: str) -> str:
        name = bundle.manifest.name
        self._ensure_model(name, bundle.manifest.description)
        before = self._versions_of(name, run_id)
        try:
            version = self._describe(bundle, before[0]) if before else self._create_version(bundle, run_id)
            self._client.set_registered_model_alias(name, CHALLENGER, version)
        except BaseException:
            if not before:
                self._withdraw(name, run_id)
            raise
        return version

    def _create_version(self, bundle: Bundle, run_id: str) -> str:
        source = f"{self._client.get_run(run_id).info.artifact_uri}/{MODEL_FOLDER}"
        created = self._client.create_model_version(
            bundle.manifest.name, source, run_id, tags=_tags(bundle), description=_head(bundle.card)
        )
        return str(created.version)

    def _describe(self, bundle: Bundle, version: str) -> str:
        """Set tags and description of an existing version to those of the bundle, and return the version."""
        for key, value in _tags(bundle).items():
            self._client.set_model_version_tag(bundle.manifest.name, version, key, value)
        self._client.update_model_version(bundle.manifest.name, version, _head(bundle.card))
        return version

    def _versions_of(self, name: str, run_id: str) -> list[str]:
        """Return the versions that a run has, newest first."""
        versions = self._client.search_model_versions(f"name='{name}' and run_id='{run_id}'")
        return sorted((str(version.version) for version in versions), key=int, reverse=True)

    def _withdraw(self, name: str, run_id: str) -> None:
        """Delete a half-registered version, also one whose creation succeeded while its answer was lost.

        Errors are ignored: a version that is left is updated by the next `publish` of the run.
        """
        with suppress(MlflowException):
            for version in self._versions_of(name, run_id):
                self._client.delete_model_version(name, version)

    def _ensure_model(self, name: str, description: str) -> None:
        try:
            self._client.create_registered_model(name, description=description)
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _tags(bundle: Bundle) -> dict[str, str]:
    manifest = bundle.manifest
    figures = {name: f"{value:.6g}" for name, value in manifest.metrics.items()}
    return {**figures, "schema": manifest.schema_.fingerprint, "data": manifest.data_fingerprint}


def _head(card: str) -> str:
    """Return as many whole sections of the card as MLflow takes as a description."""
    if len(card) <= _LONGEST_DESCRIPTION:
        return card
    return card[: max(card.rfind("\n## ", 0, _LONGEST_DESCRIPTION), 0)] or card[:_LONGEST_DESCRIPTION]
