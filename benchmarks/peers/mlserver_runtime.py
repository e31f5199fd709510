"""MLServer with a custom runtime, asked by its HTTP V2: a row is one BYTES element that holds JSON.

One process: inference in the HTTP server's own process, without its pool of workers. More: that pool, which is how
MLServer uses more cores. Debug mode and with it the access log, metrics and compression are off.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import orjson
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks.peers.given import Given, given
from benchmarks.peers.scoring import open_scorer


class CardFraud(MLModel):
    async def load(self) -> bool:
        self._scorer = open_scorer()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = [self._scorer.check(orjson.loads(row)) for row in payload.inputs[0].data]
        answers = [orjson.dumps(answer).decode() for answer in self._scorer.answers(rows)]
        output = ResponseOutput(name="answer", shape=[len(answers)], datatype="BYTES", data=answers)
        return InferenceResponse(model_name=self.name, outputs=[output])


def write_settings(folder: Path, told: Given, grpc_port: int) -> None:
    """Write the two settings files that `mlserver start` reads."""
    server = {
        "host": "127.0.0.1",
        "http_port": told.port,
        "grpc_port": grpc_port,
        "parallel_workers": told.processes if told.processes > 1 else 0,
        "debug": False,
        "metrics_endpoint": None,
        "gzip_enabled": False,
    }
    model = {"name": "card_fraud", "implementation": "benchmarks.peers.mlserver_runtime.CardFraud"}
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))


if __name__ == "__main__":
    write_settings(Path.cwd(), given(), int(sys.argv[1]))
    # The command itself, as its docs have it: it also installs uvloop.
    os.execv(sys.executable, [sys.executable, "-m", "mlserver.cli.main", "start", "."])
