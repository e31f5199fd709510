"""The commands beside files that are named like our packages and like libraries, with Ray's workers and all."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.environment.command_line import write_script, write_shadows
from tests.support.services.application import Workplace
from tests.support.training.models import write_card_table

pytestmark = pytest.mark.ray

Rayscore = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def rayscore(tmp_path: Path) -> Rayscore:
    """Runs the installed command in a folder with a `data.py`, a `tune.py`, a `numpy.py` and a folder `ray_app/`."""
    place = Workplace(tmp_path)
    write_shadows(tmp_path, ("data.py", "tune.py", "numpy.py", "ray.py"))
    (tmp_path / "ray_app").mkdir()
    write_shadows(tmp_path / "ray_app", ("__init__.py",))
    script = write_script(tmp_path)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*script, *words], env=place.environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert "of the working directory was imported" not in done.stderr
        return done

    return run


def test_workers_import_our_packages(rayscore: Rayscore, tmp_path: Path):
    """Ray's workers, its training actors and our children import our packages, not those of the working directory."""
    table = write_card_table(tmp_path / "table.parquet", 3000)
    assert "clean" in rayscore("validate", str(table)).stdout
    assert "version 1, alias challenger" in rayscore("tune", "--data", str(table), "--trials", "1").stdout
