"""The deployment files: docker-compose.yml, cluster.yaml and deploy/."""

import json
import re
import shlex
import sys
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest
from ray.autoscaler._private.util import prepare_config, validate_config

from data.ingest.ingest_metrics import IngestMetrics
from data.settings import PREFIX, Settings
from ray_app.cli.rayscore import LINE
from ray_app.environment.serve_environment import SERVE_ENVIRONMENT
from tests.support.services.prometheus import RULE_FILES, alert_rules
from tests.support.serving.metrics import every_metric

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
CLUSTER = yaml.safe_load((ROOT / "cluster.yaml").read_text("utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
NODE_COMMANDS = [CLUSTER["head_start_ray_commands"], CLUSTER["worker_start_ray_commands"]]


def env_file(name: str) -> dict[str, str]:
    """Variables that a file of deploy/ sets."""
    words = shlex.split((DEPLOY / name).read_text("utf-8"), comments=True)
    return dict(word.split("=", 1) for word in words)


def copied() -> list[str]:
    """Sources that the Dockerfile copies from the build context."""
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    return [source for line in copies for source in line.split()]


def exported() -> set[str]:
    """Names of the series that Prometheus stores for the application's metrics."""
    ingest = generate_latest(IngestMetrics("source", "topic").registry).decode()
    return set(re.findall(r"^(rayscore_\w+)", every_metric() + ingest, re.M))


def test_serve_env_is_the_environment_of_the_fast_path() -> None:
    """The file that compose and cluster read holds exactly what a plain `serve run` sets for itself."""
    assert env_file("serve.env") == SERVE_ENVIRONMENT
    assert SERVICES["app"]["env_file"] == "deploy/serve.env"


@pytest.mark.parametrize(
    "environment",
    [SERVICES["app"]["environment"], SERVICES["bootstrap"]["environment"], env_file("cluster.env")],
    ids=["app", "bootstrap", "cluster"],
)
def test_settings_are_ones_that_exist(environment: dict[str, str]) -> None:
    """Every RAYSCORE_* variable is a setting and has a value that the settings accept."""
    given = {name[len(PREFIX) :].lower(): value for name, value in environment.items() if name.startswith(PREFIX)}
    assert given.keys() <= Settings.model_fields.keys()
    assert Settings.model_validate(given).store == "cassandra"
    assert "RAY_AUTH_MODE" in environment


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    """An image is named by an exact version; our own carries the project's."""
    image, tag = SERVICES[name]["image"].rsplit(":", 1)
    assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag)
    if image == "rayscore":
        assert tag == PROJECT["project"]["version"]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_this_machine_only(name: str) -> None:
    """Nothing is reachable from another machine until somebody decides so."""
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_come_from_outside(name: str) -> None:
    """A password or token in the compose file is a required variable, never a value or a default."""
    environment = SERVICES[name].get("environment", {})
    secret = {key: value for key, value in environment.items() if re.search("PASSWORD|TOKEN|SECRET", key)}
    assert all(re.fullmatch(r"\$\{\w+:\?.+\}", value) for value in secret.values())


@pytest.mark.parametrize("name", SERVICES)
def test_services_wait_for_healthy_services(name: str) -> None:
    """What a service depends on has a health check, and a long-running service has one itself."""
    needs = SERVICES[name].get("depends_on", {})
    assert all(need["condition"] == "service_healthy" for need in needs.values())
    assert all("healthcheck" in SERVICES[other] for other in needs)
    assert "healthcheck" in SERVICES[name] or SERVICES[name].get("profiles")


@pytest.mark.parametrize("name", SERVICES)
def test_mounts_exist(name: str) -> None:
    """A mounted path is in the repository; a named volume is declared."""
    for mount in SERVICES[name].get("volumes", []):
        source = mount.split(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def test_image_holds_the_packages() -> None:
    """The build context lets through what the Dockerfile copies, which includes every package of the project."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {line[1:] for line in lines if line.startswith("!")} == set(copied())
    assert all((ROOT / source).exists() for source in copied())
    assert {package.split(".")[0] for package in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]} <= set(
        copied()
    )


def test_bootstrap_speaks_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Every option in the bootstrap script is one that the command's help names."""
    commands = re.findall(r"rayscore .+", (DEPLOY / "bootstrap.sh").read_text("utf-8"))
    assert commands
    for words in map(shlex.split, commands):
        with pytest.raises(SystemExit, match=r"^0$"):
            LINE.main([words[1], "--help"])
        shown = capsys.readouterr().out
        assert {word for word in words if word.startswith("--")} <= set(re.findall(r"--[\w-]+", shown))


def test_cluster_file_passes_ray() -> None:
    """`ray up` takes the cluster file: its own defaults filled in, its own schema satisfied."""
    validate_config(prepare_config(CLUSTER))
    for mount in CLUSTER["file_mounts"].values():
        assert mount.startswith("~") or (ROOT / mount).exists()


@pytest.mark.parametrize("commands", NODE_COMMANDS, ids=["head", "worker"])
def test_nodes_start_with_the_environment(commands: list[str]) -> None:
    """The environment is exported before Ray starts, on the head and on every worker."""
    before, started = commands[-1].split("ray start")
    assert re.match(r"set -a; .*/deploy/serve\.env; .*/deploy/cluster\.env; set \+a;", before)
    assert "--metrics-export-port=8080" in started


def test_cluster_runs_the_ray_that_the_project_needs() -> None:
    """The nodes' image has the Ray version of pyproject.toml, and asks for a token."""
    pinned = next(need for need in PROJECT["project"]["dependencies"] if need.startswith("ray["))
    version = pinned.partition("==")[2].removesuffix("*")
    assert CLUSTER["docker"]["image"].startswith(f"rayproject/ray:{version}")
    assert env_file("cluster.env")["RAY_AUTH_MODE"] == "token"


def test_prometheus_has_every_file_of_rules() -> None:
    """The configuration names the files of rules that are there, and compose mounts each."""
    named = yaml.safe_load((DEPLOY / "prometheus.yml").read_text("utf-8"))["rule_files"]
    mounted = {mount.split(":")[0] for mount in SERVICES["prometheus"]["volumes"]}
    assert named == [path.name for path in RULE_FILES]
    assert {f"./deploy/{name}" for name in named} <= mounted


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_alerts_are_about_metrics_that_exist(path: Path) -> None:
    """An alert asks for series that the application exports, is tried by promtool, and says what to do."""
    tried = path.with_name(f"{path.stem}_test.yml").read_text("utf-8")
    rules = alert_rules(path)
    known = exported()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert set(re.findall(r"\brayscore_\w+", rule["expr"])) <= known, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert rule["alert"] in tried


def test_prometheus_scrapes_services_that_exist() -> None:
    """Every address in prometheus.yml is a compose service at a port it publishes."""
    addresses = re.findall(r"\b(\w+):(\d{4})\b", (DEPLOY / "prometheus.yml").read_text("utf-8"))
    assert addresses
    for service, port in addresses:
        assert any(published.endswith(f":{port}") for published in SERVICES[service]["ports"])


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_shows_metrics_that_exist(path: Path) -> None:
    """A panel queries series that the application exports, from the provisioned data source."""
    text = path.read_text("utf-8")
    assert set(re.findall(r"\brayscore_\w+", text)) <= exported()
    provisioned = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text("utf-8"))
    known = {source["uid"] for source in provisioned["datasources"]}
    assert {panel["datasource"]["uid"] for panel in json.loads(text)["panels"]} <= known


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_panels_do_not_overlap(path: Path) -> None:
    """Panels have their own ids and places on the 24 columns of the grid."""
    panels = json.loads(path.read_text("utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y
