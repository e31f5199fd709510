"""LitServe: batching on, and its ZeroMQ queue, which its docs advise from 100 requests/s on.

LitServe always scores in workers beside its HTTP server: with one process each that makes two.
"""

from __future__ import annotations

from typing import Any

import litserve

from benchmarks.peers.given import given
from benchmarks.peers.scoring import open_scorer

_MAX_BATCH = 64
# 0 would collect what is there without waiting, but polls for it and so keeps a core busy for ever.
_BATCH_TIMEOUT_S = 0.001


class CardFraud(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self._scorer = open_scorer()

    # Without annotations: LitServe would make the signature of its HTTP endpoint from them.
    def decode_request(self, request):
        return self._scorer.check(request)

    def predict(self, x: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self._scorer.answers(x)


def main() -> None:
    api = CardFraud(max_batch_size=_MAX_BATCH, batch_timeout=_BATCH_TIMEOUT_S)
    workers = given().processes
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=workers, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=given().port,
        num_api_servers=workers,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
