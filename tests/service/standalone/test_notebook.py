"""The notebook of the docs: recorded whole, and executed again from first to last cell."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[3]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
_CELL_S = 300
_VARIES = ("promote(", "found", "low, high", "model = load")
"""Beginnings of cells whose results hold times or figures that differ in the last digit between machines."""


def cells() -> list[dict[str, Any]]:
    """The recorded code cells."""
    return [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def results(cell: dict[str, Any]) -> list[str]:
    """What a cell has printed and returned, as text; notes of progress, which hold times, are not among it."""
    found = []
    for output in cell["outputs"]:
        if output["output_type"] == "stream" and output["name"] == "stdout":
            found.append("".join(output["text"]))
        elif output["output_type"] == "execute_result":
            found.append("".join(output["data"]["text/plain"]))
    return found


def test_notebook_is_recorded_whole():
    """Every cell was executed in order, none with an error or a warning, and none shows a path of the maker's."""
    assert [cell["execution_count"] for cell in cells()] == list(range(1, len(cells()) + 1))
    for cell in cells():
        assert not [each for each in cell["outputs"] if each["output_type"] == "error" or each.get("name") == "stderr"]
        shown = json.dumps(cell["outputs"])
        for place in ("/tmp", "/root", "/usr", "site-packages", str(Path.home())):
            assert place not in shown, f"{place} in the outputs of {cell['source']}"


@pytest.mark.ray
def test_notebook_runs_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In an empty folder every cell runs, inside the event loop of a kernel, and what does not vary is as recorded."""
    for name in [name for name in os.environ if name.startswith("RAYSCORE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=_CELL_S, kernel_name="python3", resources=place).execute()
    again = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, recorded in zip(again, cells(), strict=True):
        if not cell.source.startswith(_VARIES):
            assert results(cell) == results(recorded), cell.source
