"""The house rules that a machine can check: what a process loads, who imports whom, who reads the environment."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.models import card_bundle
from tests.support.serving import FULL

ROOT = Path(__file__).parents[2]
HEAVY = ("ray", "pandas", "xgboost", "mlflow", "sklearn", "matplotlib", "onnx", "onnxmltools", "cassandra", "httpx")
LEAVES = (
    "data.schema.feature_schema",
    "data.transform.encoding",
    "data.online_store.row_codec",
    "data.schema.use_case",
    "data.settings",
    "data.sources.parquet",
    "data.online_store",
    "data.online_store.sqlite",
    "tune.registry.bundle",
    "ray_app",
    "ray_app.http.asgi",
    "ray_app.batch.scoring",
    "ray_app.inference.micro_batching",
    "ray_app.environment.serve_environment",
    "ray_app.inference.pipeline",
    "ray_app.protocol.pages",
    "ray_app.inference.onnx_model",
    "ray_app.inference.stages",
)

ENVIRONMENT = {
    "data/settings.py": "reads the settings",
    "data/cli/command_line.py": "reads the line that a shell asks to complete",
    "data/distributed/ray_cluster.py": "reads RAY_ADDRESS, sets Ray's token mode",
    "data/__init__.py": "tells ONNX Runtime to collect no usage data",
    "ray_app/environment/serve_environment.py": "reads and sets Ray Serve's variables",
    "ray_app/deployments/application.py": "reads RAY_ADDRESS",
    "ray_app/demo.py": "passes the environment on to its children",
    "tune/registry/mlflow_client.py": "sets MLflow's time limits",
    "tune/search/ray_tune.py": "sets Ray Tune's switches while a search runs",
}
"""Every module that touches the environment, and why it must."""

_ANSWER = """
import asyncio, sys
from data.transform.encoding import Transform
from ray_app.protocol.responses import ResponseRenderer, dumps, loads
from ray_app.inference.pipeline import InferencePipeline
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.protocol.pages import build_pages
from ray_app.protocol.row_parser import RowParser
from ray_app.inference.onnx_model import OnnxModel
from ray_app.inference.model_scoring import LocalModel
from tune.registry.bundle import Bundle
import ray_app.http.asgi

bundle = Bundle.load(sys.argv[1])
manifest = bundle.manifest
transform = Transform(manifest.schema_)
build_pages(manifest, "1", 1000, None)
path = InferencePipeline(manifest, transform, None, LocalModel(OnnxModel(bundle)), GatewayMetrics("r", "m", "1"))
(prediction,) = asyncio.run(path.predict([RowParser(manifest, transform).parse(loads(sys.argv[2].encode()))]))
print(ResponseRenderer(manifest, transform, "1").render(prediction, "id", True, 1)["label"], file=sys.stderr)
"""


def loaded(code: str, *arguments: str) -> set[str]:
    """Names of the modules that a fresh process has loaded after running the code."""
    program = f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_leaves_load_nothing_heavy():
    """Importing the pure parts loads neither Ray nor a training library, a registry, a driver or pandas."""
    assert loaded("\n".join(f"import {name}" for name in LEAVES)).isdisjoint(HEAVY)


def test_package_loads_nothing_at_all():
    """Importing `ray_app` alone costs nothing: its applications are built on first use."""
    assert loaded("import ray_app").isdisjoint({*HEAVY, "numpy", "pyarrow", "pydantic", "onnxruntime"})


def test_answering_loads_nothing_heavy(tmp_path: Path):
    """A process that loads a bundle and answers a request has needed neither Ray, pandas nor a training library."""
    folder = card_bundle().save(tmp_path / "bundle")
    assert loaded(_ANSWER, str(folder), json.dumps(FULL)).isdisjoint(HEAVY)


def test_replica_loads_no_training():
    """What a replica imports on top of Ray Serve loads neither training, tuning, data pipelines nor a registry."""
    ours = {"xgboost", "xgboost_ray", "mlflow", "sklearn", "matplotlib", "onnxmltools", "cassandra"}
    found = loaded("import ray_app.deployments.gateway, ray_app.deployments.stages")
    assert found.isdisjoint({*ours, "ray.tune", "ray.data", "ray.train"})
    assert {name for name in found if name.startswith("tune.")} == {
        f"tune.registry{leaf}" for leaf in ("", ".bundle", ".rollout_spec", ".traffic_rules")
    }


def test_rollback_by_the_admin_door_loads_no_mlflow():
    """Who is in a hurry waits neither for a training library nor for MLflow, which alone takes a second to load."""
    code = "from tune.__main__ import main\ntry: main(['rollout', '--help'])\nexcept SystemExit: pass"
    assert loaded(code).isdisjoint({*HEAVY, "numpy", "pyarrow"} - {"httpx"})


def test_listing_the_commands_loads_none():
    """`rayscore --help`, and `rayscore rollout --help`, load no library but those that write on a terminal."""
    code = "from ray_app.cli.rayscore import LINE\ntry: LINE.main(sys.argv[1:])\nexcept SystemExit: pass"
    listed = loaded(f"import sys\n{code}", "--help")
    assert listed.isdisjoint({*HEAVY, "numpy", "pyarrow", "pydantic"})
    assert not {
        name for name in listed if name.startswith(("data.cli.generate", "tune.cli.search", "ray_app.cli.score"))
    }
    assert loaded(f"import sys\n{code}", "rollout", "--help").isdisjoint({*HEAVY, "numpy", "pyarrow"} - {"httpx"})


def test_imports_follow_the_contracts():
    """Every import-linter contract of pyproject.toml is kept."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def sources() -> list[Path]:
    """Every module of the three packages."""
    return sorted(file for package in ("data", "tune", "ray_app") for file in (ROOT / package).rglob("*.py"))


def touches_environment(tree: ast.Module) -> bool:
    """True for a module that names os.environ or os.getenv in any way."""
    names = {"environ", "getenv", "putenv", "environb"}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "os"
        for alias in node.names
    }
    return bool(names & (attributes | imported))


def imported(file: Path) -> set[str]:
    """Every module that a file imports, and every name that it takes out of one, dotted."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def importers(folder: str, of: str, but: str = "-") -> set[str]:
    """Files of a folder that import from a package, but for what is below a part of it."""
    return {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / folder).rglob("*.py")
        if any(name.startswith(f"{of}.") and not name.startswith(f"{but}.") for name in imported(file))
    }


def test_tests_share_by_the_support_folder_alone():
    """No test and no benchmark imports a test; a benchmark is imported by the tests whose subject it is."""
    assert importers("tests", "tests", but="tests.support") == set()
    assert importers("benchmarks", "tests", but="tests.support") == set()
    found = {file for file in importers("tests", "benchmarks") if not file.startswith("tests/unit/benchmarks/")}
    assert found == {"tests/service/cassandra/test_cassandra_benchmark.py"}


def test_environment_is_touched_where_it_must_be():
    """The environment is read for settings in one module; the few others that touch it are known, with the reason."""
    found = {
        file.relative_to(ROOT).as_posix()
        for file in sources()
        if touches_environment(ast.parse(file.read_text("utf-8")))
    }
    assert found == set(ENVIRONMENT)


def test_only_one_module_knows_the_prefix():
    """No module but the settings spells out the name of a setting's variable to read it."""
    readers = []
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and "environ" in ast.unparse(node.func) and "RAYSCORE" in ast.unparse(node):
                readers.append(file.name)
    assert readers == []


@pytest.mark.parametrize("package", ["data", "tune", "ray_app"])
def test_package_says_what_it_is(package: str):
    """Every module of a package begins with its place in the flow."""
    for file in sorted((ROOT / package).rglob("*.py")):
        assert ast.get_docstring(ast.parse(file.read_text("utf-8"))), file
