"""The model bundle: the directory that tuning hands to serving.

Its files: `bundle.json` (the manifest), `model.onnx` (the model that serves), `booster.ubj` (its booster, in XGBoost's
own format), `measured.onnx` (the model that the figures are of: the same, learned from all rows but the holdout),
`card.md` (the model card) and, of a model that reads texts, `texts.npz` (its text models). This module imports no
machine-learning library, so that a serving replica can read a bundle cheaply.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from data.errors import BundleError, faults
from data.schema.entity import Entity
from data.schema.events.event_source import EventSource
from data.schema.features.feature import Feature, Scalar
from data.schema.features.feature_schema import FeatureSchema
from data.schema.features.feature_views import window_features
from data.schema.features.training_profile import TrainingProfile
from data.schema.features.window_feature import WindowFeature
from data.schema.model_policy import Calibration
from data.schema.output import Output
from data.transform.text_model import unpack_models
from tune.registry.contract_clauses import feature_clause, source_clause, window_clause

FORMAT = 3
MANIFEST = "bundle.json"
ONNX = "model.onnx"
BOOSTER = "booster.ubj"
MEASURED = "measured.onnx"
CARD = "card.md"
TEXTS = "texts.npz"
_CONTENT = (ONNX, BOOSTER, MEASURED, CARD)

INPUT_NAME = "features"
"""The ONNX model's input: float32 of shape (n, number of features), columns in schema order, NaN = missing."""
OUTPUT_NAME = "scores"
"""The ONNX model's only output: float32 of shape (n, `Output.width`), as the manifest's output reads them."""


class Probe(BaseModel):
    """Made-up rows with known answers: a runtime that scores them otherwise must not serve."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: list[list[Scalar | None]]
    """Raw values in schema order, None where absent."""
    scores: list[list[float]]
    """The ONNX model's numbers for each row."""

    @model_validator(mode="after")
    def _paired(self) -> Probe:
        if len(self.rows) != len(self.scores):
            raise ValueError(f"{len(self.rows)} rows with the scores of {len(self.scores)}")
        return self


class BaselineDifference(BaseModel):
    """How a model's metric differs from a baseline's on the same rows, with the paired 95 % bootstrap interval."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    value: float
    low: float
    high: float


class BundleManifest(BaseModel):
    """The bundle's metadata, `bundle.json`. `sha256` is filled in by `Bundle.assemble`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: int = FORMAT
    name: str
    """Name of the use case and of the registered model."""
    schema_: FeatureSchema
    """The fitted features: column i of the model's input is feature i."""
    label: str
    key: str | None = None
    event_time: str | None = None
    entity: Entity | None = None
    view: str
    """Name of the rows in the online store that hold the online features."""
    events: dict[str, EventSource] = Field(default_factory=dict)
    """Sources of the events that the window features aggregate, by name."""
    calibration: Calibration = Calibration.NONE
    """How the ONNX model corrects the booster's probabilities."""
    output: Output
    """What the model answers, and how its numbers are read."""
    metrics: dict[str, float]
    """Figures of the measured model on the holdout."""
    baselines: dict[str, BaselineDifference] = Field(default_factory=dict)
    """The measured model's search metric minus each baseline's, on the holdout."""
    description: str = ""
    created_at: str
    """UTC, ISO 8601."""
    versions: dict[str, str]
    """Versions of Python and of the libraries that made the model."""
    data_fingerprint: str
    """16 hex digits of the table the model learned from."""
    learned_until_us: int | None = None
    """Latest event time of the rows that the serving model learned from, microseconds since 1970 UTC; None when it is
    not known."""
    common_words: dict[str, int] = Field(default_factory=dict)
    """For each category, how many words at the front of its vocabulary may be shown to anyone: they are declared, or of
    many rows. A bundle that does not say shows none."""
    example: dict[str, Scalar] = Field(default_factory=dict)
    """A made-up typical value of each feature, and of each time that features are derived from; empty in bundles that
    were made before there was one."""
    training_profile: TrainingProfile | None = None
    """What the train rows held of each feature; None in bundles that were made before there was one. The smallest and
    largest numbers are of single rows: serving shows them nowhere."""
    probe: Probe
    sha256: dict[str, str] = Field(default_factory=dict)
    """Digest of every other file."""

    def shown_words(self, feature: Feature) -> tuple[str, ...]:
        """The words of a category that may be shown to anyone; a rare one may be somebody's name."""
        return (feature.vocabulary or ())[: self.common_words.get(feature.name, 0)]

    @property
    def windows(self) -> tuple[WindowFeature, ...]:
        """The window features with their sources and entities, by name: the order in which their values are fetched.

        Versions that serve together may have them in different orders in their schemas.
        """
        return tuple(sorted(window_features(self.schema_, self.events), key=lambda window: window.name))

    @property
    def looks_up(self) -> bool:
        """Whether rows need more than what a request sends: features from the online store, or windows over events."""
        return bool(self.schema_.online or self.schema_.windows)

    @property
    def entity_columns(self) -> tuple[str, ...]:
        """The fields of a request that say whose row it is: the entity's, and those of the events' entities."""
        columns = [self.entity.column] if self.entity is not None else []
        columns += [column for source in self.events.values() for column in source.entity_columns]
        return tuple(dict.fromkeys(columns))

    @property
    def contract(self) -> str:
        """Hash (16 hex digits) of what clients and online store depend on: equal for versions that serve together."""
        said = json.dumps(self._said(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def differences(self, other: BundleManifest) -> list[str]:
        """Describe where the contract of another model differs from this one's, one text per difference.

        Vocabularies are no part of the contract: they may differ after a refit.
        """
        mine, its = self._said(), other._said()
        return [
            f"{name}: {its.get(name, 'absent')} instead of {mine.get(name, 'absent')}"
            for name in dict.fromkeys([*mine, *its])
            if mine.get(name) != its.get(name)
        ]

    def _said(self) -> dict[str, str]:
        entity = f"{self.entity.column} ({self.entity.type})" if self.entity else "none"
        windows = {window.name: window_clause(window) for window in self.windows}
        features = {
            f"feature {f.name}": f"{f.type.value} from {f.source.value}{windows.get(f.name, '')}{feature_clause(f)}"
            for f in self.schema_.features
        }
        events = {f"events {name}": source_clause(source) for name, source in self.events.items()}
        times = {"key": self.key or "none", "event time": self.event_time or "none"} if events else {}
        said = {"name": self.name, "label": self.label, "entity": entity, "view": self.view}
        output = {} if self.output.labels == (0, 1) else {"answer": self.output.kind, "labels": str(self.output.labels)}
        return {**said, **output, **times, **events, **features}

    @model_serializer(mode="wrap")
    def _sparse(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Without what is not there, so that the digests of bundles of before it stay what they are.
        return {name: value for name, value in dump(self).items() if (name, value) not in _UNSAID}

    @model_validator(mode="after")
    def _fitted(self) -> BundleManifest:
        if not self.schema_.fitted:
            raise ValueError("schema_ is not fitted: a category has no vocabulary")
        self.windows  # noqa: B018  read for its error: a window over events that are not declared
        return self


@dataclass(frozen=True)
class Bundle:
    """A complete bundle in memory, its files checked against their digests."""

    manifest: BundleManifest
    onnx: bytes
    booster: bytes
    measured: bytes
    card: str
    texts: bytes = b""
    """The text models by `pack_models`; nothing where the model reads no text."""

    @classmethod
    def assemble(
        cls, manifest: BundleManifest, onnx: bytes, booster: bytes, measured: bytes, card: str, texts: bytes = b""
    ) -> Bundle:
        """Make a bundle of its files, writing their digests into the manifest."""
        files = {ONNX: onnx, BOOSTER: booster, MEASURED: measured, CARD: card.encode()} | _of_texts(texts)
        digests = {name: _sha256(content) for name, content in files.items()}
        return cls(manifest.model_copy(update={"sha256": digests}), onnx, booster, measured, card, texts)

    @classmethod
    def load(cls, directory: str | Path) -> Bundle:
        """Read a bundle's directory.

        Raises:
            BundleError: a file is missing, unreadable or half-written, or the format is unknown to this version.
        """
        folder = Path(directory)
        try:
            files = {name: (folder / name).read_bytes() for name in (MANIFEST, *_CONTENT)}
            if (folder / TEXTS).is_file():
                files[TEXTS] = (folder / TEXTS).read_bytes()
        except FileNotFoundError as exc:
            raise BundleError(f"{folder}: no whole model bundle, {Path(exc.filename).name} is missing") from exc
        except OSError as exc:
            raise BundleError(f"{folder}: the model bundle cannot be read: {exc}") from exc
        return cls._from_files(files, str(folder))

    @classmethod
    def from_bytes(cls, packed: bytes) -> Bundle:
        """Unpack the result of `to_bytes`; raises BundleError as `load` does."""
        try:
            with zipfile.ZipFile(io.BytesIO(packed)) as archive:
                files = {name: archive.read(name) for name in (MANIFEST, *_CONTENT)}
                if TEXTS in archive.namelist():
                    files[TEXTS] = archive.read(TEXTS)
        except (zipfile.BadZipFile, KeyError) as exc:
            raise BundleError(f"not a packed model bundle: {exc}") from exc
        return cls._from_files(files, "packed model bundle")

    def to_bytes(self) -> bytes:
        """Pack the bundle into one zip archive, to be sent without a shared disk; equal bundles give equal bytes."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self._files().items():
                # ZipInfo by itself has a fixed date; by name alone the archive would hold the time of its making.
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        return buffer.getvalue()

    @cached_property
    def digest(self) -> str:
        """Hash (16 hex digits) of the manifest, and so of every file of the bundle."""
        return _sha256(self.manifest.model_dump_json().encode())[:16]

    def save(self, directory: str | Path) -> Path:
        """Write the bundle's directory, replacing one at the same path, and return its absolute path.

        It is written beside the target and renamed: nobody sees half a bundle.

        Raises:
            BundleError: the directory cannot be written.
        """
        target = Path(directory).absolute()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
                fresh = Path(scratch) / "new"
                fresh.mkdir()
                for name, content in self._files().items():
                    (fresh / name).write_bytes(content)
                if target.exists():
                    os.replace(target, Path(scratch) / "old")
                os.replace(fresh, target)
        except OSError as exc:
            raise BundleError(f"{target}: the model bundle cannot be written: {exc}") from exc
        return target

    def _files(self) -> dict[str, bytes]:
        manifest = self.manifest.model_dump_json(indent=2).encode()
        others = {ONNX: self.onnx, BOOSTER: self.booster, MEASURED: self.measured, CARD: self.card.encode()}
        return {MANIFEST: manifest, **others, **_of_texts(self.texts)}

    @classmethod
    def _from_files(cls, files: Mapping[str, bytes], origin: str) -> Bundle:
        manifest = _parse_manifest(files[MANIFEST], origin)
        texts = files.get(TEXTS, b"") if TEXTS in manifest.sha256 else b""
        for name in (*_CONTENT, *([TEXTS] if TEXTS in manifest.sha256 else [])):
            if manifest.sha256.get(name) != _sha256(files.get(name, b"")):
                raise BundleError(
                    f"{origin}: {name} is not the file that {MANIFEST} describes; publish the model again"
                )
        manifest = _with_text_models(manifest, texts, origin)
        return cls(manifest, files[ONNX], files[BOOSTER], files[MEASURED], files[CARD].decode(), texts)


_UNSAID = (("training_profile", None), ("events", {}))
"""Fields of a manifest with the values that they have where nothing is declared."""


def _parse_manifest(text: bytes, origin: str) -> BundleManifest:
    try:
        raw = json.loads(text)
        written_format = raw.get("format")
        if written_format != FORMAT:
            raise BundleError(
                f"{origin}: bundle format {written_format!r}; this version reads format {FORMAT}: train the model "
                "again with this version (rayscore tune)"
            )
        return BundleManifest.model_validate(raw)
    except (ValueError, AttributeError) as exc:
        detail = str(faults(exc)[0]) if isinstance(exc, ValidationError) else str(exc)
        raise BundleError(f"{origin}: {MANIFEST} is damaged: {detail}") from exc


def _of_texts(texts: bytes) -> dict[str, bytes]:
    return {TEXTS: texts} if texts else {}


def _with_text_models(manifest: BundleManifest, texts: bytes, origin: str) -> BundleManifest:
    """Return a manifest whose text scores have their models."""
    if not manifest.schema_.scores:
        return manifest
    models = {model.digest: model for model in unpack_models(texts).values()}
    try:
        return manifest.model_copy(update={"schema_": manifest.schema_.with_scorers(models)})
    except KeyError as exc:
        raise BundleError(f"{origin}: {TEXTS} lacks the text model {exc}; publish the model again") from exc


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
