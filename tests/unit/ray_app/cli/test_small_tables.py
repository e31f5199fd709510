"""What is done with a small table waits for no Ray: it is not even imported, in a process of the command's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from tests.support.training.models import card_bundle, write_card_table
from tests.support.training.stored_cards import STORED_CARDS

# A process runs all commands, since starting each takes longer than its work; `at` names the first that needed Ray.
_RUN = """
import json, sys
from data.cli.terminal import run_cli
from ray_app.cli.rayscore import LINE
codes, at = [], None
for command in json.loads(sys.argv[1]):
    codes.append(run_cli(LINE.main, command))
    at = at or ("ray" in sys.modules and command)
print("\\n" + json.dumps([codes, at]))
"""


def _run(folder: Path, *commands: tuple[str, ...]) -> tuple[list[int], object]:
    """The exit code of each command, and the first that imported Ray."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(commands)],
        cwd=folder,
        # Nobody answers there: to start or look for a cluster would fail too.
        env={**os.environ, "RAY_ADDRESS": "http://nobody", "RAYSCORE_VAR_DIR": str(folder / "var")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes, at = json.loads(done.stdout.splitlines()[-1])
    return codes, at


def test_tables_are_made_checked_and_stored_without_ray(tmp_path: Path):
    """Generating, validating, storing, looking up, computing and listing need neither Ray nor a cluster."""
    report = ("validate", "many", "--against", "none", "--report", "r.html")
    codes, at = _run(
        tmp_path,
        ("generate", "many", "--rows", "900", "--files", "3", "--end", "today"),
        report,
        ("materialize", "many"),
        ("get", "user_5"),
        ("ingest", "many"),
        ("features", "many", "features.parquet"),
        ("list",),
    )
    assert (codes, at) == ([0] * 7, False)
    assert "clean" in (tmp_path / "r.html").read_text("utf-8")


def test_small_tables_are_refused_without_ray(tmp_path: Path):
    """A table that lacks a column is refused by each command, and a good one is scored, without Ray."""
    good = write_card_table(tmp_path / "good.parquet", 500)
    pq.write_table(pq.read_table(good).drop_columns(["amount", "cardholder_age"]), tmp_path / "bad.parquet")
    card_bundle().save(tmp_path / "bundle")
    named = ("--use-case", str(STORED_CARDS))
    score = ("score", "--bundle", "bundle", *named)
    codes, at = _run(
        tmp_path,
        ("validate", "bad.parquet", *named, "--against", "none"),
        ("features", "bad.parquet", "out.parquet"),
        ("ingest", "bad.parquet"),
        ("materialize", "bad.parquet"),
        (*score, "bad.parquet", "out.parquet"),
        (*score, "good.parquet", "out.parquet"),
    )
    assert (codes, at) == ([2, 2, 2, 2, 2, 0], False)
