"""Versions, aliases and tags of models in MLflow; their files are `registry.py`'s, which takes longer to load."""

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
    """What is said of a model as a whole: the version of each alias, and its tags."""

    aliases: dict[str, str]
    tags: dict[str, str]


class ModelCatalog:
    """What one MLflow says of models. Every method raises RegistryUnavailable when it does not answer.

    Args:
        tracking_uri: server, or local database.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        self._client = connect(tracking_uri)

    def version(self, name: str, alias_or_version: str) -> RegisteredVersion:
        """Look up an alias or version without fetching the bundle; raises ModelNotFound."""
        wanted = f"model '{name}', version or alias '{alias_or_version}',"
        with speaking_to(self.tracking_uri, wanted):
            if alias_or_version.isdigit():
                found = self._client.get_model_version(name, alias_or_version)
            else:
                found = self._client.get_model_version_by_alias(name, alias_or_version)
            # Only the model knows all aliases of its versions.
            aliases = self._client.get_registered_model(name).aliases
        return _listed(found, aliases)

    def list(self, name: str) -> list[RegisteredVersion]:
        """Every version of a model, newest first; none when there is no such model."""
        try:
            with speaking_to(self.tracking_uri, f"model '{name}'"):
                aliases = self._client.get_registered_model(name).aliases
                found = self._client.search_model_versions(f"name='{name}'", max_results=1000)
        except ModelNotFound:
            return []
        return sorted((_listed(v, aliases) for v in found), key=lambda v: int(v.version), reverse=True)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias at a version; raises ModelNotFound."""
        with speaking_to(self.tracking_uri, f"version {version} of model '{name}'"):
            self._client.set_registered_model_alias(name, alias, version)

    def state(self, name: str) -> ModelState:
        """Return a model's aliases and tags, as they were at one moment; raises ModelNotFound."""
        with speaking_to(self.tracking_uri, f"model '{name}'"):
            found = self._client.get_registered_model(name)
        aliases = {alias: str(version) for alias, version in found.aliases.items()}
        return ModelState(aliases, dict(found.tags or {}))

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
