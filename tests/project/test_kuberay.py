"""The KubeRay manifests of deploy/: what the schemas of its custom resources cannot say."""

from __future__ import annotations

import re
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

import ray_app

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
JOB = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text("utf-8"))
SERVICE = yaml.safe_load((DEPLOY / "rayservice.yaml").read_text("utf-8"))
CLUSTERS = {"rayjob": JOB["spec"]["rayClusterSpec"], "rayservice": SERVICE["spec"]["rayClusterConfig"]}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

each_cluster = pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """The pod specifications of head and workers."""
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def containers(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """The containers of head and workers."""
    return list(chain.from_iterable(pod["containers"] for pod in pods(cluster)))


@each_cluster
def test_every_node_runs_our_image_and_ray(cluster: dict[str, Any]) -> None:
    """Head and workers run one image, the one that docker-compose builds, and the Ray version that it installs."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    assert {container["image"] for container in containers(cluster)} == {compose["services"]["app"]["image"]}
    constraints = (ROOT / "constraints.txt").read_text("utf-8")
    pinned = re.search(r"^ray==(\S+)$", constraints, re.MULTILINE)
    assert pinned and cluster["rayVersion"] == pinned[1]
    deployed = yaml.safe_load((ROOT / "cluster.yaml").read_text("utf-8"))["docker"]["image"]
    assert deployed.startswith(f"rayproject/ray:{cluster['rayVersion']}-")


@each_cluster
def test_clusters_ask_for_a_token(cluster: dict[str, Any]) -> None:
    """Whoever reaches Ray's ports must show the token that KubeRay makes; nothing else sets the mode."""
    assert cluster["authOptions"] == {"mode": "token"}
    named = [variable["name"] for container in containers(cluster) for variable in container.get("env", [])]
    assert "RAY_AUTH_MODE" not in named


@each_cluster
def test_head_offers_no_cpus_and_workers_say_what_they_have(cluster: dict[str, Any]) -> None:
    """No trial or replica lands on the head, and a node's requests equal its limits, which Ray counts."""
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for container in containers(cluster):
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}


@each_cluster
def test_volumes_that_are_mounted_exist(cluster: dict[str, Any]) -> None:
    """Every mount names a volume of its pod, and head and workers see the same paths."""
    for pod in pods(cluster):
        names = {volume["name"] for volume in pod["volumes"]}
        assert all(mount["name"] in names for container in pod["containers"] for mount in container["volumeMounts"])
    assert len({str(container["volumeMounts"]) for container in containers(cluster)}) == 1


@each_cluster
def test_pods_run_as_the_user_of_the_image(cluster: dict[str, Any]) -> None:
    """The user in the manifests is the one that the Dockerfile makes, and KubeRay finds what its probes call."""
    dockerfile = (DEPLOY / "Dockerfile").read_text("utf-8")
    user = re.search(r"useradd --uid (\d+)", dockerfile)
    assert user
    assert {pod["securityContext"]["runAsUser"] for pod in pods(cluster)} == {int(user[1])}
    assert "install -y --no-install-recommends wget" in dockerfile


def test_job_runs_what_the_command_line_knows() -> None:
    """The job's entry point is a command of ours on the mounted volume, and its cluster goes when it has ended."""
    assert re.match(r"python -m tune --data /data/\S+ --trials \d+", JOB["spec"]["entrypoint"])
    assert JOB["spec"]["shutdownAfterJobFinishes"] is True
    mounts = {mount["mountPath"] for container in containers(CLUSTERS["rayjob"]) for mount in container["volumeMounts"]}
    assert mounts == {"/data"}


def test_serve_takes_the_configuration() -> None:
    """Ray Serve's own schema accepts the configuration, and it names an application of ours on every node's proxy."""
    config = ServeDeploySchema.model_validate(yaml.safe_load(SERVICE["spec"]["serveConfigV2"]))
    assert config.proxy_location == "EveryNode"
    (application,) = config.applications
    module, _, name = application.import_path.partition(":")
    assert module == "ray_app"
    assert name in ray_app.__all__


def test_serving_nodes_start_with_the_environment_of_the_fast_path() -> None:
    """The environment is read before KubeRay's `ray start`, from the place where the configuration map is mounted."""
    for container in containers(CLUSTERS["rayservice"]):
        assert container["command"] == ["set -a; . /etc/rayscore/serve.env; set +a"]
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/etc/rayscore"}
