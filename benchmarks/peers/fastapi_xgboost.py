"""The same FastAPI service with XGBoost's own predictor in place of ONNX Runtime."""

from __future__ import annotations

import numpy as np
import xgboost
from fastapi import FastAPI

from benchmarks.peers.fastapi_service import create_app, run
from benchmarks.peers.given import given
from benchmarks.peers.scoring import Scorer
from tune.registry.bundle import Bundle


class XgboostModel:
    """The booster of a bundle. `inplace_predict` reads the array itself: a DMatrix a request costs several times that.

    One thread: a row is too little work to share.
    """

    def __init__(self, booster: bytes) -> None:
        self._booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(booster))

    def score(self, matrix: np.ndarray) -> np.ndarray:
        return self._booster.inplace_predict(matrix, validate_features=False).reshape(-1, 1)


def app() -> FastAPI:
    """Application factory that each uvicorn worker calls."""
    bundle = Bundle.load(given().bundle)
    return create_app(Scorer(bundle.manifest, given().store, XgboostModel(bundle.booster)))


if __name__ == "__main__":
    run("benchmarks.peers.fastapi_xgboost:app")
