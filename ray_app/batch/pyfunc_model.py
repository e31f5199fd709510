"""The model as MLflow loads it: a pandas table of raw columns in, what HTTP answers out.

`mlflow.pyfunc.load_model` imports this module by the name that the registry writes into the model's `MLmodel` file, and
calls `_load_pyfunc` with the folder of the bundle. No MLflow, no Ray and no pandas is imported here.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from data.errors import ConfigError, DataError, StoreUnavailable
from data.feature_views.events.event_tables import open_events, read_events, sources_beside
from data.feature_views.point_in_time import with_windows
from data.online_store import open_store
from data.schema.events.event_paths import EventPaths, named_paths
from data.schema.use_case import UseCase
from data.settings import load_settings
from data.transform.encoding import Transform
from data.validation.event_columns import check_event_files
from ray_app.batch.frame_columns import frame_columns, refuse
from ray_app.batch.refused_rows import refusals
from ray_app.batch.table_windows import windows_alone
from ray_app.batch.written_windows import with_label
from ray_app.inference.features.feature_fetch import LocalFeatures
from ray_app.inference.models.model_scoring import LocalModel
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.inference.pipeline import InferencePipeline
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from tune.registry.bundle import Bundle, BundleManifest
from tune.registry.raw_columns import EVENTS, HISTORY, raw_columns, widened

if TYPE_CHECKING:
    import pandas


class PyfuncModel:
    """A bundle that scores pandas tables by the inference path of HTTP and of batch scoring.

    Args:
        bundle: the model.

    Raises:
        BundleError, SchemaMismatch: the bundle does not load, or does not score its probe rows as recorded.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest
        self._transform = Transform(self.manifest.schema_)
        model, metrics = LocalModel(OnnxModel(bundle)), GatewayMetrics("pyfunc", self.manifest.name, "")
        stored = OnlineRows(self.manifest) if self.manifest.entity and self.manifest.schema_.online else None
        self._inference = InferencePipeline(self.manifest, self._transform, stored, model, metrics)

    def predict(self, frame: pandas.DataFrame, params: Mapping[str, Any] | None = None) -> pandas.DataFrame:
        """Return what HTTP answers to n raw rows, in order, with the frame's index: the columns of batch scoring.

        Windows over events are the frame's, when it has the columns of all; else they are computed as training does
        it, of the frame's rows and the events that `params` name. Values of online features that the frame lacks are
        read from the online store that the settings name.

        Args:
            frame: n rows of the raw table; of its columns those count that the model's signature names.
            params: `history`, the path of earlier rows of the table; `events`, texts SOURCE=PATH, for sources of events
                that are not rows of the table.

        Raises:
            ConfigError: a parameter is wrong, or names events that are not needed.
            DataError: rows or columns are not valid; names rows, columns and reasons.
            StoreUnavailable: the frame lacks values of online features, and the store cannot be read; names them.
        """
        manifest = self.manifest
        table = frame_columns(frame, [column.name for column in raw_columns(manifest)], manifest, self._transform)
        self._require(table)
        refuse(refusals(table, manifest, self._transform), table.num_rows)
        table = self._with_windows(table, _event_paths(params or {}))
        # In a thread: a notebook's own event loop is running here, and a second one cannot run beside it.
        with ThreadPoolExecutor(1) as thread:
            scores = thread.submit(asyncio.run, self._inference.score_table(table)).result()
        answers = {name: widened(values) for name, values in manifest.output.columns(scores).items()}
        return pa.table(answers).to_pandas().set_axis(frame.index, axis="index")

    def _require(self, table: pa.Table) -> None:
        manifest, present = self.manifest, set(table.column_names)
        required = [name for feature in manifest.schema_.features if feature.required for name in feature.inputs]
        absent = [name for name in dict.fromkeys(required) if name not in present]
        if absent:
            raise DataError(f"the frame lacks columns that '{manifest.name}' needs: {', '.join(absent)}")
        lacking = [feature.name for feature in manifest.schema_.online if feature.name not in present]
        if lacking and manifest.entity is not None and manifest.entity.column not in present:
            raise DataError(
                f"the frame lacks {', '.join(lacking)}; give these columns, or '{manifest.entity.column}', by which "
                "they are read from the online store"
            )

    def _with_windows(self, table: pa.Table, events: EventPaths) -> pa.Table:
        """Return the rows with their windows: those of the frame, or computed of its rows and the events beside it."""
        names = [feature.name for feature in self.manifest.schema_.windows]
        if not names:
            if events.history is not None or events.others:
                raise ConfigError("the model has no windows: leave the parameters history and events out")
            return table
        use_case = windows_alone(self.manifest)
        absent = [name for name in names if name not in table.column_names]
        if not absent:
            open_events(events, use_case, holds_windows=True)
            return table
        if len(absent) < len(names):
            raise DataError(
                f"the frame has some windows and lacks {', '.join(absent)}: give the columns of all windows, or of none"
            )
        _require_events(table, use_case, events)
        files = open_events(events, use_case)
        check_event_files(files, use_case)
        beside = read_events(files, use_case)
        labelled = with_label(table, self.manifest.label)
        found = with_windows(labelled, use_case, beside.history, beside.others).table
        for name in names:
            table = table.append_column(name, found.column(name))
        return table


class OnlineRows:
    """Online features for tables: the store that the settings name, open only while rows that need it are read.

    Args:
        manifest: of a model with online features.
    """

    def __init__(self, manifest: BundleManifest) -> None:
        self._manifest = manifest

    async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Read packed rows; see `FeatureStage`."""
        manifest, names = self._manifest, [feature.name for feature in self._manifest.schema_.online]
        ttl = manifest.entity.ttl_seconds if manifest.entity else None
        features = LocalFeatures(partial(open_store, load_settings(), manifest.view, ttl))
        try:
            return await features.fetch(entities, timeout_s)
        except StoreUnavailable as exc:
            raise StoreUnavailable(
                f"{exc}. Rows lack values of online features, which the store would hold: give the frame a value in "
                f"every row of {', '.join(names)}, or have the settings name the store"
            ) from exc
        finally:
            features.close()


def _load_pyfunc(path: str) -> PyfuncModel:
    """Return the model of a bundle's folder: what MLflow calls."""
    return PyfuncModel(Bundle.load(Path(path)))


def _event_paths(params: Mapping[str, Any]) -> EventPaths:
    history = params.get(HISTORY) or None
    return EventPaths(Path(history) if history else None, named_paths(params.get(EVENTS, ()), "the parameter events"))


def _require_events(table: pa.Table, use_case: UseCase, events: EventPaths) -> None:
    """Raise DataError when windows cannot be computed, naming what is to be given."""
    windows = ", ".join(feature.name for feature in use_case.windows)
    columns = [name for name in use_case.columns if name != use_case.label]
    absent = [name for name in columns if name not in table.column_names]
    if absent:
        raise DataError(
            f"the frame lacks {', '.join(absent)}, of which the windows are computed; give these columns, or the "
            f"windows themselves: {windows}"
        )
    unnamed = [name for name in sources_beside(use_case) if name not in events.others]
    if unnamed:
        given = ", ".join(f"'{name}=PATH'" for name in unnamed)
        raise DataError(
            f"the events of {', '.join(unnamed)} are not given, of which windows are computed; name their tables, as "
            f"in predict(frame, params={{'{EVENTS}': [{given}]}}), or give the windows themselves: {windows}"
        )
