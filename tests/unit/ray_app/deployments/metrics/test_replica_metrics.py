"""What a replica tells of its process, store, models and links is what happened there."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from data.errors import StoreUnavailable
from ray_app.control.supervised_loop import SupervisedLoop
from ray_app.deployments.metrics.replica_metrics import LinkMetrics, ModelMetrics, ProcessMetrics, StoreMetrics
from ray_app.deployments.stages import FeatureFetch, Model
from ray_app.inference.features.feature_fetch import LocalFeatures
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.transport.client import CallFailed, LinkRefused, open_link
from ray_app.transport.handshake import Handshake
from ray_app.transport.server import REFUSALS, LinkServer
from tests.support.serving.metrics import samples, text
from tests.support.serving.predict_app import STORED, local_store, run, until, write_store
from tests.support.training.models import card_bundle


def test_store_reads_are_told_by_outcome(tmp_path: Path):
    """Keys found and missing are told apart, and a read is timed once, however many keys it has."""
    file = write_store(tmp_path / "online.db", {"u1": STORED, "u2": STORED})
    with closing(local_store(file)) as features:
        run(features.fetch(["u1", "u2", "nobody"]))
        run(features.fetch(["u1"]))
        found = samples(text(StoreMetrics("f1", features)))
    assert found["rayscore_store_keys_total", "outcome=found"] == 3
    assert found["rayscore_store_keys_total", "outcome=missing"] == 1
    assert found["rayscore_store_keys_total", "outcome=failed"] == 0
    assert found["rayscore_store_read_seconds_count", ""] == 2
    assert found["rayscore_store_open", ""] == 1


def test_a_store_that_is_away_is_told(tmp_path: Path):
    """Reads of a store that cannot be opened fail key by key, and the store is shown as not open."""
    with closing(local_store(tmp_path / "none.db", retry_s=60)) as features:
        with pytest.raises(StoreUnavailable):
            run(features.fetch(["u1", "u2"]))
        found = samples(text(StoreMetrics("f1", features)))
    assert found["rayscore_store_keys_total", "outcome=failed"] == 2
    assert found["rayscore_store_read_seconds_count", ""] == 1
    assert found["rayscore_store_open", ""] == 0


async def _broken() -> None:
    raise ZeroDivisionError("unforeseen")


@pytest.mark.parametrize("kind", [Model, FeatureFetch])
def test_a_stage_that_fails_to_speak_with_control_says_so_and_is_unhealthy(kind: type[Model] | type[FeatureFetch]):
    """Its failures are a metric of its page, and after a minute of nothing else Serve's health check of it fails."""

    async def scenario() -> None:
        clock = iter(range(0, 10**6, 30))
        loop = SupervisedLoop("the exchange", _broken, lambda: float(next(clock)), pause_s=0.001)
        stage = object.__new__(kind)
        stage._labels, stage._registry = ("r1", kind.__name__), CollectorRegistry()
        stage._watch(loop)
        await stage.check_health()
        loop.start()
        await until(lambda: loop.failures >= 2)
        page = samples(generate_latest(stage._registry).decode())
        assert page["rayscore_control_loop_failures_total", f"deployment={kind.__name__}"] >= 2
        with pytest.raises(RuntimeError, match="the exchange has failed"):
            for _ in range(3):
                await stage.check_health()
        await loop.stop()

    run(scenario())


def test_models_are_told_by_the_versions_held():
    """Rows and times are told by version; the probe rows of loading do not count, a version that is dropped leaves."""
    bundle = card_bundle()
    model, held = OnnxModel(bundle), {"7": bundle.digest, "8": "ab" * 32}
    board = ModelMetrics("m1", lambda: held, {bytes.fromhex(bundle.digest): model}.get)
    assert samples(text(board))["rayscore_model_rows_total", "version=7"] == 0
    for rows in (3, 5):
        model.score(np.zeros((rows, model.width), np.float32))
    found = samples(text(board))
    assert found["rayscore_model_rows_total", "version=7"] == 8
    assert found["rayscore_model_seconds_count", "version=7"] == 2
    assert found["rayscore_model_seconds_sum", "version=7"] > 0
    assert not [labels for _, labels in found if "version=8" in labels], "it is not loaded yet"
    del held["7"]
    assert not samples(text(board))


def test_a_bundle_of_two_versions_counts_once():
    """A bundle that was registered twice is one model, whose rows are not told twice."""
    bundle = card_bundle()
    held = {"7": bundle.digest, "8": bundle.digest}
    model = OnnxModel(bundle)
    found = samples(text(ModelMetrics("m1", lambda: held, lambda digest: model)))
    assert {labels for name, labels in found if name == "rayscore_model_rows_total"} == {"version=7"}


def test_links_are_told_with_why_peers_were_refused():
    """Connections, refusals by reason and calls without an answer are those of the server."""
    hello = Handshake(b"secret", "Model", "f1")

    async def fail(payload: bytes) -> bytes:
        raise ValueError(payload)

    async def scenario() -> dict[tuple[str, str], float]:
        server = LinkServer(fail, hello)
        port = await server.start("127.0.0.1")
        with pytest.raises(LinkRefused):
            await open_link("127.0.0.1", port, Handshake(b"other", "Model", "f1").encode(), 5)
        link = await open_link("127.0.0.1", port, hello.encode(), 5)
        with pytest.raises(CallFailed):
            await link.call(b"x", 5)
        await until(lambda: len(server.connections) == 1)
        found = await asyncio.to_thread(lambda: samples(text(LinkMetrics("m1", "Model", server))))
        link.close()
        await server.close()
        return found

    found = run(scenario())
    assert found["rayscore_link_connections", "deployment=Model"] == 1
    assert found["rayscore_link_calls_in_flight", "deployment=Model"] == 0
    assert found["rayscore_link_refused_total", "deployment=Model,reason=secret"] == 1
    assert found["rayscore_link_calls_unanswered_total", "deployment=Model,reason=failed"] == 1
    assert len([name for name, _ in found if name == "rayscore_link_refused_total"]) == len(REFUSALS)


def test_a_process_tells_its_own():
    """CPU time, memory and start are told with the deployment."""
    found = samples(text(ProcessMetrics("g1", "Gateway")))
    assert found["rayscore_replica_cpu_seconds_total", "deployment=Gateway"] > 0
    assert found["rayscore_replica_memory_bytes", "deployment=Gateway"] > 1e6
    assert found["rayscore_replica_start_time_seconds", "deployment=Gateway"] > 1.7e9


def test_a_fetch_that_fails_otherwise_is_timed_too():
    """Whatever a read ends with, it was timed."""

    class Odd:
        async def get_many(self, entities: list[str], timeout_s: float) -> list[bytes | None]:
            raise RuntimeError("odd")

        def close(self) -> None:
            """Nothing."""

    features = LocalFeatures(Odd)
    with pytest.raises(RuntimeError):
        run(features.fetch(["u1"]))
    assert features.seconds.buckets()[-1][1] == 1
