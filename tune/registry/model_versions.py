"""The model catalog: versions, aliases and tags of registered models in MLflow.

Apart from `registry.py`, which handles their files: its import of MLflow's model flavours takes longer.
"""

from __future__ import annotations

from typing import NamedTuple

from mlflow.entities.model_registry import ModelVersion

from data.errors import ModelNotFound
from tune.registry.mlflow_client import connect, speaking_to


class RegisteredVersion(NamedTuple):
    """One version of a model as the registry lists it. `created_ms` is in milliseconds since 1970."""

    name: str
    version: str
    run_id: str
    aliases: tuple[str, ...]
    created_ms: int
    tags: dict[str, str]


class ModelState(NamedTuple):
    """Aliases and tags of a registered model as a whole; `aliases` maps alias to version."""

    aliases: dict[str, str]
    tags: dict[str, str]


class ModelCatalog:
    """The registered models of one MLflow. Every method raises RegistryUnavailable when MLflow does not answer.

    Args:
        tracking_uri: MLflow server or local database.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        self._client = connect(tracking_uri)

    def version(self, name: str, alias_or_version: str) -> RegisteredVersion:
        """Look up a version by its number or alias, without its files; raises ModelNotFound."""
        wanted = f"model '{name}', version or alias '{alias_or_version}',"
        with speaking_to(self.tracking_uri, wanted):
            if alias_or_version.isdigit():
                registered = self._client.get_model_version(name, alias_or_version)
            else:
                registered = self._client.get_model_version_by_alias(name, alias_or_version)
            # A version fetched by number comes without its aliases; the model lists them all.
            aliases = self._client.get_registered_model(name).aliases
        return _listed(registered, aliases)

    def list(self, name: str) -> list[RegisteredVersion]:
        """Return every version of a model, newest first; empty when there is no such model."""
        try:
            with speaking_to(self.tracking_uri, f"model '{name}'"):
                aliases = self._client.get_registered_model(name).aliases
                versions = self._client.search_model_versions(f"name='{name}'", max_results=1000)
        except ModelNotFound:
            return []
        return sorted((_listed(v, aliases) for v in versions), key=lambda v: int(v.version), reverse=True)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias at a version; raises ModelNotFound."""
        with speaking_to(self.tracking_uri, f"version {version} of model '{name}'"):
            self._client.set_registered_model_alias(name, alias, version)

    def state(self, name: str) -> ModelState:
        """Return a model's aliases and tags, read in one call and so consistent; raises ModelNotFound."""
        with speaking_to(self.tracking_uri, f"model '{name}'"):
            model = self._client.get_registered_model(name)
        aliases = {alias: str(version) for alias, version in model.aliases.items()}
        return ModelState(aliases, dict(model.tags or {}))

    def tags(self, name: str) -> dict[str, str]:
        """Return the tags of a model as a whole; raises ModelNotFound."""
        return self.state(name).tags

    def set_tag(self, name: str, key: str, value: str) -> None:
        """Set a tag of a model as a whole; raises ModelNotFound."""
        with speaking_to(self.tracking_uri, f"model '{name}'"):
            self._client.set_registered_model_tag(name, key, value)


def _listed(version: ModelVersion, aliases: dict[str, str]) -> RegisteredVersion:
    own = tuple(sorted(alias for alias, of in aliases.items() if str(of) == str(version.version)))
    created = int(version.creation_timestamp or 0)
    return RegisteredVersion(
        version.name, str(version.version), str(version.run_id), own, created, dict(version.tags or {})
    )
