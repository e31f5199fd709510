"""The model runtime: what it refuses to load, and that a score does not depend on its neighbours."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from data.errors import BundleError, ModelError, SchemaMismatch
from data.schema.features.feature import Feature, FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.transform.encoding import Transform
from ray_app.inference.models.onnx_model import OnnxModel
from tests.support.training.models import card_bundle, card_table
from tune.registry.bundle import Bundle, Probe


def changed(**manifest: Any) -> Bundle:
    """The bundle with another manifest."""
    bundle = card_bundle()
    return dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update=manifest))


def test_scores_other_than_recorded_are_refused():
    """A model that no longer scores its probe rows as recorded does not serve."""
    probe = card_bundle().manifest.probe
    other = [*probe.scores[:-1], [probe.scores[-1][0] + 1e-3]]
    with pytest.raises(BundleError, match=r"probe rows differ from the recorded scores by 0\.001"):
        OnnxModel(changed(probe=Probe(rows=probe.rows, scores=other)))


def test_recorded_nan_is_refused():
    """A probe with an answer that is no number proves nothing and is refused."""
    probe = card_bundle().manifest.probe
    other = [[float("nan")], *probe.scores[1:]]
    with pytest.raises(BundleError, match="probe rows differ"):
        OnnxModel(changed(probe=Probe(rows=probe.rows, scores=other)))


@pytest.mark.parametrize("cut", [0, 100, -1])
def test_damaged_model_file_is_refused(cut: int):
    """An empty or truncated ONNX file is refused with our own error."""
    bundle = card_bundle()
    with pytest.raises(BundleError):
        OnnxModel(dataclasses.replace(bundle, onnx=bundle.onnx[:cut]))


def test_model_of_another_width_is_refused():
    """A model that takes another number of features than the schema has is refused."""
    features = card_bundle().manifest.schema_.features
    wider = FeatureSchema(features=(*features, Feature(name="one_more", type=FeatureType.NUMBER)))
    with pytest.raises(SchemaMismatch, match="model takes 8 features, schema has 9"):
        OnnxModel(changed(schema_=wider))


def test_probe_of_another_width_is_refused():
    """Probe rows that do not fit the schema are a fault of the bundle, not a crash."""
    probe = card_bundle().manifest.probe
    short = Probe(rows=[row[:-1] for row in probe.rows], scores=probe.scores)
    with pytest.raises(BundleError, match="does not score its probe rows"):
        OnnxModel(changed(probe=short))


@pytest.mark.parametrize("shape", [(1, 7), (1, 9), (8,), (1, 1, 8)])
def test_matrix_of_another_shape_is_refused(shape: tuple[int, ...]):
    """A matrix that is not (n, features) is refused before the model sees it."""
    with pytest.raises(ModelError):
        OnnxModel(card_bundle()).score(np.zeros(shape, np.float32))


def test_one_row_scores_as_in_a_large_batch():
    """Each row gets the same bits alone, in a small and in a large batch."""
    model = OnnxModel(card_bundle())
    matrix = Transform(model.manifest.schema_).matrix(card_table(2000, seed=3))
    matrix[::7, 2] = np.nan
    together = model.score(matrix)
    assert together.dtype == np.float32
    assert together.shape == (2000, 1)
    for size in (1, 3, 64):
        parts = [model.score(matrix[start : start + size]) for start in range(0, 600, size)]
        assert np.concatenate(parts)[:600].tobytes() == together[:600].tobytes()


def test_no_rows():
    """An empty matrix gives an empty result."""
    assert OnnxModel(card_bundle()).score(np.zeros((0, 8), np.float32)).shape == (0, 1)
