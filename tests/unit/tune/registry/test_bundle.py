"""The bundle on disk and on the wire."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from data.errors import BundleError
from data.schema.use_case import parse_use_case
from data.transform.encoding import Transform
from tests.support.serving.window_app import SWIPES, swipes_bundle, swipes_use_case
from tests.support.training.models import card_bundle
from tune.registry.bundle import Bundle, BundleManifest
from tune.training.onnx_export import OnnxScorer

FILES = ["booster.ubj", "bundle.json", "card.md", "measured.onnx", "model.onnx"]


def test_saved_bundle_is_read_back_whole(tmp_path):
    """Save and load give an equal bundle; saving again replaces it and leaves nothing beside it."""
    bundle = card_bundle()
    bundle.save(tmp_path / "one")
    path = bundle.save(tmp_path / "one")
    assert Bundle.load(path) == bundle
    assert sorted(file.name for file in path.iterdir()) == FILES
    assert [item.name for item in tmp_path.iterdir()] == ["one"]


def test_bundle_of_before_training_profiles_is_what_it_was(tmp_path):
    """A manifest without a training profile loads, keeps its digest, and is written as it was."""
    bundle = card_bundle()
    old = replace(bundle, manifest=bundle.manifest.model_copy(update={"training_profile": None}))
    path = old.save(tmp_path / "old")
    assert "training_profile" not in json.loads((path / "bundle.json").read_text())
    assert Bundle.load(path) == old
    assert old.digest != bundle.digest


def test_training_profile_travels_with_the_bundle():
    """The profile of the development rows, 2,400 of 3,000, is the same behind a packed bundle."""
    profile = Bundle.from_bytes(card_bundle().to_bytes()).manifest.training_profile
    assert profile == card_bundle().manifest.training_profile
    assert profile.rows == 2400
    hours = profile.features["transaction_hour"]
    assert (hours.low, hours.high, hours.missing) == (0.0, 23.0, 0)
    assert profile.features["merchant_category"].unused == ()


def test_packed_bundle_is_read_back_whole():
    """Bytes carry the whole bundle, and equal bundles give equal bytes."""
    packed = card_bundle().to_bytes()
    assert Bundle.from_bytes(packed) == card_bundle()
    assert Bundle.from_bytes(packed).to_bytes() == packed


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_refused(tmp_path, name):
    """A folder without one of the files is no bundle; the error names the file."""
    path = card_bundle().save(tmp_path / "b")
    (path / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        Bundle.load(path)


@pytest.mark.parametrize("name", FILES)
def test_half_written_file_is_refused(tmp_path, name):
    """A file cut short is told by its digest, the manifest by its JSON."""
    path = card_bundle().save(tmp_path / "b")
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleError, match=name):
        Bundle.load(path)


def test_other_format_is_refused(tmp_path):
    """A bundle of another format says which formats are meant, before anything else is looked at."""
    path = card_bundle().save(tmp_path / "b")
    manifest = json.loads((path / "bundle.json").read_text())
    (path / "bundle.json").write_text(json.dumps({"format": 1, "news": manifest}))
    with pytest.raises(BundleError, match="bundle format 1; this version reads format 3: train the model again"):
        Bundle.load(path)


def test_bytes_that_are_no_bundle_are_refused():
    """Anything else than a packed bundle is an error of ours."""
    with pytest.raises(BundleError, match="not a packed model bundle"):
        Bundle.from_bytes(b"nothing")


def test_bundle_in_an_unwritable_place_is_refused(tmp_path):
    """A path beneath a file cannot be written; the error names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot be written"):
        card_bundle().save(tmp_path / "file" / "b")


def test_probe_is_what_the_model_says():
    """The probe's rows, one of them empty and one with unseen words, score as recorded."""
    bundle = card_bundle()
    probe = bundle.manifest.probe
    assert 8 <= len(probe.rows) <= 64
    found = OnnxScorer(bundle.onnx).scores(Transform(bundle.manifest.schema_).rows(probe.rows))
    assert found == pytest.approx(np.array(probe.scores), abs=1e-7)


def test_importing_the_bundle_is_cheap():
    """A serving replica that reads a bundle loads no machine-learning library, no Ray and no MLflow."""
    heavy = ["xgboost", "ray", "pandas", "mlflow", "onnx", "onnxruntime", "sklearn", "pyarrow"]
    code = f"import sys, tune.registry.bundle; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_windows_and_their_events_are_part_of_the_contract():
    """A model with another window, or another source of events, does not serve beside this one; words say where."""
    use_case, mine = swipes_use_case(), swipes_bundle().manifest
    other = parse_use_case(SWIPES.replace('window = "1d"', 'window = "2d"'), "swipes.toml")
    longer = mine.model_copy(update={"schema_": other.schema_})
    unrecorded = {**use_case.events, "swipes": use_case.events["swipes"].model_copy(update={"record": False})}
    assert mine.contract != longer.contract
    assert [line.partition(":")[0] for line in longer.differences(mine)] == ["feature card_count_1d"]
    silent = mine.model_copy(update={"events": unrecorded})
    assert [line.partition(":")[0] for line in silent.differences(mine)] == ["events swipes"]


def test_a_bundle_without_events_says_nothing_of_them():
    """The manifest of a model without windows has no such key, so that digests and contracts of before stay."""
    assert "events" not in json.loads(card_bundle().manifest.model_dump_json())
    assert "events" in json.loads(swipes_bundle().manifest.model_dump_json())
    assert Bundle.from_bytes(swipes_bundle().to_bytes()).manifest.windows == swipes_bundle().manifest.windows


def test_a_window_over_events_that_are_not_declared_is_no_bundle():
    """A manifest whose windows have no source is refused when it is read, not when a row is scored."""
    with pytest.raises(ValidationError, match="a window feature needs"):
        BundleManifest.model_validate({**swipes_bundle().manifest.model_dump(), "events": {}})
