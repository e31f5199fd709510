"""The house rules that a machine can check: what a process loads, who imports whom, who reads the environment."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.serving.predict_app import FULL
from tests.support.training.models import card_bundle

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACKAGES = ("data", "tune", "ray_app")
HEAVY = ("ray", "pandas", "xgboost", "mlflow", "sklearn", "matplotlib", "onnx", "onnxmltools", "cassandra", "httpx")
LEAVES = (
    "data.schema.features.feature_schema",
    "data.transform.encoding",
    "data.online_store.row_codec",
    "data.schema.use_case",
    "data.settings",
    "data.sources.parquet",
    "data.online_store",
    "data.online_store.sqlite",
    "data.event_store",
    "data.event_store.sqlite.store",
    "tune.registry.bundle",
    "ray_app",
    "ray_app.http.asgi",
    "ray_app.batch.scoring",
    "ray_app.batch.pyfunc_model",
    "ray_app.inference.micro_batching",
    "ray_app.environment.serve_environment",
    "ray_app.inference.pipeline",
    "ray_app.protocol.pages",
    "ray_app.inference.models.onnx_model",
    "ray_app.inference.stages",
)

ENVIRONMENT = {
    "data/settings.py": "reads the settings",
    "data/cli/command_line.py": "reads the line that a shell asks to complete",
    "data/cli/crash_report.py": "writes Ray's variables into a report, and masks what is secret",
    "data/distributed/ray_cluster.py": "reads RAY_ADDRESS, sets Ray's token mode",
    "data/__init__.py": "tells ONNX Runtime to collect no usage data",
    "ray_app/deployments/cluster_environment.py": "reads Ray Serve's variables in a process of a cluster",
    "ray_app/environment/serve_environment.py": "reads and sets Ray Serve's variables",
    "ray_app/demo/demo.py": "passes the environment on to its children",
    "tune/registry/mlflow_client.py": "sets MLflow's time limits",
    "tune/search/ray_tune.py": "sets Ray Tune's switches while a search runs",
}
"""Every module that touches the environment, and why it must."""

_ANSWER = """
import asyncio, sys
from data.transform.encoding import Transform
from ray_app.protocol.json_body import decode
from ray_app.protocol.responses import ResponseRenderer
from ray_app.inference.pipeline import InferencePipeline
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.protocol.pages import build_pages
from ray_app.protocol.row_parser import RowParser
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.inference.models.model_scoring import LocalModel
from tune.registry.bundle import Bundle
import ray_app.http.asgi

bundle = Bundle.load(sys.argv[1])
manifest = bundle.manifest
transform = Transform(manifest.schema_)
build_pages(manifest, "1", 1000, None)
path = InferencePipeline(manifest, transform, None, LocalModel(OnnxModel(bundle)), GatewayMetrics("r", "m", "1"))
(prediction,) = asyncio.run(path.predict([RowParser(manifest, transform).parse(decode(sys.argv[2].encode()))]))
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
        f"tune.registry{leaf}" for leaf in ("", ".bundle", ".contract_clauses", ".rollout_spec", ".traffic_rules")
    }


def test_rollback_by_the_admin_api_loads_no_mlflow():
    """Who is in a hurry waits neither for a training library nor for MLflow, which alone takes a second to load."""
    code = "from tune.__main__ import main\ntry: main(['rollout', '--help'])\nexcept SystemExit: pass"
    assert loaded(code).isdisjoint({*HEAVY, "numpy", "pyarrow"} - {"httpx"})


def test_listing_the_commands_loads_none():
    """`rayscore --help`, and `rayscore rollout --help`, load no library but those that write on a terminal."""
    code = "from ray_app.cli.rayscore import LINE\ntry: LINE.main(sys.argv[1:])\nexcept SystemExit: pass"
    listed = loaded(f"import sys\n{code}", "--help")
    assert listed.isdisjoint({*HEAVY, "numpy", "pyarrow", "pydantic"})
    assert listed.isdisjoint({"data.cli.commands.generate", "tune.cli.search", "ray_app.cli.score"})
    assert loaded(f"import sys\n{code}", "rollout", "--help").isdisjoint({*HEAVY, "numpy", "pyarrow"} - {"httpx"})


def test_imports_follow_the_contracts():
    """Every import-linter contract of pyproject.toml is kept."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def sources() -> list[Path]:
    """Every module of the three packages."""
    return sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))


@cache
def parsed(file: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(file.read_text("utf-8"))


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


def named_in_text(tree: ast.Module) -> set[str]:
    """What a module names in a string, as `module:name`: by itself, or as `import_module("module").name`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and re.fullmatch(r"(data|tune|ray_app)(\.\w+)+:\w+", str(node.value)):
            found.add(str(node.value))
        match node:
            case ast.Attribute(
                value=ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(str(name))])
            ):
                found.add(f"{name}:{node.attr}")
    return found


def test_what_is_named_in_text_is_there():
    """A class that is found by its name at run time has that name: nothing else would tell before it is too late."""
    named = {name for file in sources() for name in named_in_text(parsed(file))}
    modules = [name.partition(":") for name in named]
    assert [name for name, _, what in modules if not hasattr(import_module(name), what)] == []
    assert {"ray_app.control.replicas.autoscaling", "tune.registry.model_versions"} <= {name for name, _, _ in modules}


def imported(file: Path) -> set[str]:
    """Every module that a file imports, and every name that it takes out of one, dotted."""
    found: set[str] = set()
    for node in ast.walk(parsed(file)):
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
    found = {file.relative_to(ROOT).as_posix() for file in sources() if touches_environment(parsed(file))}
    assert found == set(ENVIRONMENT)


def test_only_one_module_knows_the_prefix():
    """No module but the settings spells out the name of a setting's variable to read it."""
    readers = []
    for file in sources():
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.Call) and "environ" in ast.unparse(node.func) and "RAYSCORE" in ast.unparse(node):
                readers.append(file.name)
    assert readers == []


@pytest.mark.parametrize("package", PACKAGES)
def test_package_says_what_it_is(package: str):
    """Every module of a package begins with its place in the flow."""
    for file in sorted((ROOT / package).rglob("*.py")):
        assert ast.get_docstring(parsed(file)), file


_MAP_ROW = re.compile(r"^\| `((?:data|tune|ray_app)/[^`]+)` \| (.+?) \| (.*?) ?\| (\d*) ?\|$", re.M)


class MapRow(NamedTuple):
    """A row of the map in docs/architecture.md: a folder with its files, or a module of a package's top level."""

    path: str
    holds: str
    files: tuple[str, ...]
    level: str

    def line(self) -> str:
        """The row as Markdown."""
        files = " ".join(f"`{name}`" for name in self.files)
        return f"| `{self.path}` | {self.holds} | {files} | {self.level} |"


def layer_levels(contracts: list[dict[str, Any]]) -> dict[str, str]:
    """The level of each folder and module in the layers of import-linter's contracts, by path; the lowest is 1."""
    levels = {}
    for contract in contracts:
        for package in contract.get("containers", ()):
            for level, layer in enumerate(reversed(contract["layers"]), 1):
                levels |= {f"{package}/{name.strip()}": str(level) for name in layer.split("|")}
    return levels


def files_of(folder: Path) -> tuple[str, ...]:
    """The names of a folder's files in order, but for what every package has."""
    common = ("__init__.py", "__main__.py")
    return tuple(sorted(file.name for file in folder.iterdir() if file.is_file() and file.name not in common))


def tree(root: Path, levels: dict[str, str]) -> dict[str, MapRow]:
    """What the map should hold by path; a folder within a folder has the level of the outer one."""
    rows = []
    for package in PACKAGES:
        rows += [MapRow(f"{package}/{name}", "", (), "") for name in files_of(root / package)]
        # Of the files that there are: a checkout may still have the empty folders of another branch.
        folders = {path.parent for path in (root / package).rglob("*") if path.is_file()} - {root / package}
        folders = {folder for folder in folders if folder.name != "__pycache__"}
        rows += [MapRow(f"{folder.relative_to(root).as_posix()}/", "", files_of(folder), "") for folder in folders]
    found = {}
    for row in rows:
        outermost = "/".join(row.path.split("/")[:2]).removesuffix(".py")
        found[row.path] = row._replace(level=levels.get(outermost, ""))
    return found


def map_changes(text: str, expected: dict[str, MapRow]) -> list[str]:
    """The lines to take out of a page with the map (`- `) and to put in (`+ `), so that it shows what is expected."""
    documented = [
        MapRow(path, holds, tuple(re.findall(r"`([^`]+)`", files)), level)
        for path, holds, files, level in _MAP_ROW.findall(text)
    ]
    changes = []
    for row in documented:
        actual = expected.get(row.path)
        if actual is None:
            changes.append(f"- {row.line()}")
        elif sorted(row.files) != list(actual.files) or row.level != actual.level:
            changes += [f"- {row.line()}", f"+ {actual._replace(holds=row.holds).line()}"]
    missing = expected.keys() - {row.path for row in documented}
    return changes + [f"+ {expected[path]._replace(holds='WHAT IT HOLDS').line()}" for path in sorted(missing)]


def test_map_of_the_folders_is_the_tree():
    """The map in docs/architecture.md has every folder and file of the packages, no other, each with its level."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    expected = tree(ROOT, layer_levels(project["tool"]["importlinter"]["contracts"]))
    changes = map_changes((ROOT / "docs" / "architecture.md").read_text("utf-8"), expected)
    assert not changes, "change these lines of docs/architecture.md:\n" + "\n".join(changes)


def test_changes_of_the_map_are_named(tmp_path: Path):
    """A new folder, a new module, a new file, a file that went and another level each give the lines to change."""
    for path in ("data/new/a.py", "data/changed/b.py", "data/changed/__init__.py", "data/top.py", "tune/same/c.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "ray_app").mkdir()
    contract = {"containers": ["data"], "layers": ["new", "changed | top"]}
    text = "\n".join(
        (
            "| `data/changed/` | Things | `b.py` `gone.py` | 1 |",
            "| `data/gone/` | Nothing | `z.py` | 2 |",
            "| `tune/same/` | The same | `c.py` |  |",
        )
    )
    assert map_changes(text, tree(tmp_path, layer_levels([contract]))) == [
        "- | `data/changed/` | Things | `b.py` `gone.py` | 1 |",
        "+ | `data/changed/` | Things | `b.py` | 1 |",
        "- | `data/gone/` | Nothing | `z.py` | 2 |",
        "+ | `data/new/` | WHAT IT HOLDS | `a.py` | 2 |",
        "+ | `data/top.py` | WHAT IT HOLDS |  | 1 |",
    ]
