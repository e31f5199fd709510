"""The folder for files on their way to MLflow."""

from __future__ import annotations

import pytest

from data.errors import DataError
from tests.support.training.models import card_bundle
from tests.support.training.registry import new_registry
from tune.registry.registry import Registry
from tune.registry.scratch_folder import scratch_folder
from tune.search.mlflow_runs import MlflowRuns


def test_folder_is_made_where_it_is_asked_for_and_gone_after(tmp_path):
    """The folder is empty, within the one named, and leaves nothing, after an error too."""
    with pytest.raises(KeyError), scratch_folder(tmp_path / "tune") as folder:
        assert folder.parent == tmp_path / "tune"
        assert list(folder.iterdir()) == []
        (folder / "card.md").write_text("text")
        raise KeyError
    assert list((tmp_path / "tune").iterdir()) == []


def test_full_disk_is_told_with_the_folder(tmp_path):
    """What the operating system calls a full disk names the folder and what to do (written to /dev/full)."""
    with (
        pytest.raises(DataError, match=r"tune: the disk is full; nothing was registered; .*--resume.*RAYSCORE_VAR_DIR"),
        scratch_folder(tmp_path / "tune") as folder,
    ):
        (folder / "card.md").symlink_to("/dev/full")
        (folder / "card.md").write_text("text")


def test_place_that_cannot_be_written_is_told_when_a_bundle_is_published(tmp_path):
    """A bundle that cannot be put together is an error of ours, and nothing is registered."""
    place = f"sqlite:///{new_registry(tmp_path)}/mlflow.db", tmp_path / "artifacts"
    registry, run_id = Registry(*place), MlflowRuns(*place, "card_fraud").start("full", {})
    (tmp_path / "taken").touch()
    with pytest.raises(DataError, match="taken: cannot be written"):
        registry.publish(card_bundle(), run_id, tmp_path / "taken")
    assert registry.list("card_fraud") == []
