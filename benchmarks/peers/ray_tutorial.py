"""Ray Serve as its tutorials write it: deployments composed by handles, default settings, `serve.run`.

As in "Getting started" of Ray Serve's guide: the ingress takes Starlette's request, the other deployments are called
through their handles, a replica reserves 0.2 CPUs. No HAProxy, no variable of Ray is set, one replica a deployment.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request

from benchmarks.peers.given import given
from benchmarks.peers.scoring import Answers, OnlineFeatures, Stored, request_model
from ray_app.inference.models.onnx_model import OnnxModel
from tune.registry.bundle import Bundle

_OPTIONS = {"num_cpus": 0.2}


@serve.deployment(ray_actor_options=_OPTIONS)
class FeatureFetch:
    def __init__(self, bundle: Path, store: Path) -> None:
        self._online = OnlineFeatures(Bundle.load(bundle).manifest, store)

    def get(self, entity: str) -> Stored | None:
        return self._online.get(entity)


@serve.deployment(ray_actor_options=_OPTIONS)
class Model:
    def __init__(self, bundle: Path) -> None:
        self._model = OnnxModel(Bundle.load(bundle))

    def score(self, vector: list[float]) -> list[float]:
        return self._model.score(np.array([vector], np.float32))[0].tolist()


@serve.deployment(ray_actor_options=_OPTIONS)
class Gateway:
    def __init__(self, bundle: Path, features: DeploymentHandle, model: DeploymentHandle) -> None:
        manifest = Bundle.load(bundle).manifest
        self._item = request_model(manifest)
        self._entity = manifest.entity.column
        self._answers = Answers(manifest)
        self._features, self._model = features, model

    async def __call__(self, http_request: Request) -> dict[str, Any]:
        values = vars(self._item.model_validate(await http_request.json()))
        stored = await self._features.get.remote(values[self._entity])
        scores = await self._model.score.remote(self._answers.vector(values, stored))
        return self._answers.render(values, stored, scores)


def main() -> None:
    """Serve until standard input is closed."""
    told = given()
    features, model, gateway = (kind.options(num_replicas=told.processes) for kind in (FeatureFetch, Model, Gateway))
    try:
        # An address of its own, or Ray would join a cluster that runs on this machine.
        ray.init(address="local")
        serve.start(http_options={"host": "127.0.0.1", "port": told.port})
        serve.run(gateway.bind(told.bundle, features.bind(told.bundle, told.store), model.bind(told.bundle)))
        sys.stdin.read()
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
