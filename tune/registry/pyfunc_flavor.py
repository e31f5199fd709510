"""The model in MLflow's pyfunc flavour: a bundle with a signature of raw columns, an input example and requirements."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc import PyFuncModel, load_model, save_model
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

from data.errors import BundleError
from tune.registry.bundle import Bundle, BundleManifest
from tune.registry.raw_columns import EVENTS, HISTORY, raw_columns, widened

LOADER = "ray_app.batch.pyfunc_model"
"""What MLflow imports to load the model, by name: scoring is above the registry, which itself imports none of it."""

_TYPES = {"f": "double", "i": "long", "b": "boolean", "U": "string"}
"""MLflow's type of a column, by the kind of its numpy type."""
_LIBRARIES = ("numpy", "onnxruntime", "pandas", "pyarrow")


def save_flavor(bundle: Bundle, folder: Path) -> None:
    """Write a model's folder for `mlflow.pyfunc.load_model("models:/name@champion").predict(frame)`.

    Raises:
        BundleError: the folder cannot be written.
    """
    manifest = bundle.manifest
    example: Any = input_example(manifest)  # None is fine, though MLflow declares it without
    with tempfile.TemporaryDirectory() as scratch:
        save_model(
            str(folder),
            loader_module=LOADER,
            data_path=str(bundle.save(Path(scratch) / "bundle")),
            signature=signature(manifest),
            pip_requirements=requirements(manifest),
            input_example=example,
            metadata={"columns": {column.name: column.holds for column in raw_columns(manifest)}},
        )


def load_flavor(folder: Path) -> PyFuncModel:
    """Return the model of a folder that `save_flavor` wrote.

    Raises:
        BundleError: the folder holds another model, or one that does not load.
    """
    try:
        flavor = load_model(str(folder))
    except MlflowException as exc:
        raise BundleError(f"the model does not load: {exc.message}") from exc
    if flavor.loader_module != LOADER:
        raise BundleError(
            "the model was registered by an earlier version of rayscore and takes no raw table; train it again with "
            "this version (rayscore tune)"
        )
    return flavor


def signature(manifest: BundleManifest) -> ModelSignature:
    """Return the raw columns in, the answers out, and the parameters that name events.

    Columns are of any type as far as MLflow goes; the declared ones are in the model's metadata. MLflow would refuse
    int64 for a number, float64 (as pandas has integers of which one is missing) for an integer, and a pandas category
    for a word, all of which the model takes; and it would not name the row of a value that does not fit.
    """
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(AnyType(), column.name, required=column.required) for column in raw_columns(manifest)
    ]
    answered = manifest.output.columns(np.zeros((1, manifest.output.width), np.float32))
    answers = Schema([ColSpec(_TYPES[widened(values).dtype.kind], name) for name, values in answered.items()])
    if not manifest.schema_.windows:
        return ModelSignature(Schema(columns), answers)
    events = ParamSchema([ParamSpec(HISTORY, "string", ""), ParamSpec(EVENTS, "string", [], (-1,))])
    return ModelSignature(Schema(columns), answers, events)


def input_example(manifest: BundleManifest) -> pd.DataFrame | None:
    """Return the manifest's made-up typical row; None for a model that was made before there was one.

    Its windows are missing, as those of an entity without events are.
    """
    if not manifest.example:
        return None
    windows = {feature.name: [None] for feature in manifest.schema_.windows}
    return pd.DataFrame({name: [value] for name, value in manifest.example.items()} | windows)


def requirements(manifest: BundleManifest) -> list[str]:
    """Return the libraries that scoring needs, pinned to the versions that made the model; MLflow adds itself.

    The product is not among them: it is installed from its source, and a package index may hold another of its name.
    """
    return [f"{name}=={manifest.versions.get(name) or version(name)}" for name in _LIBRARIES]
