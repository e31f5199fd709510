"""The two stages: local and at the far end of a transport they are the same."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data.errors import (
    ConfigError,
    DeadlineExceeded,
    Overloaded,
    RayscoreError,
    StoreError,
    StoreUnavailable,
    VersionUnavailable,
)
from data.online_store import OnlineStore
from data.online_store.sqlite import SqliteStore
from data.settings import Settings
from ray_app.inference.features.feature_fetch import FeatureServer, LocalFeatures, RemoteFeatures, local_features
from ray_app.inference.models.model_scoring import LocalModel, ModelServer, RemoteModel, is_absent_version
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.transport.connection_pool import Address, LinkPool, Transport
from ray_app.transport.handshake import Handshake
from ray_app.transport.server import Handler, LinkServer
from tests.support.serving.predict_app import STORED, local_store, manifest, run, until, write_store
from tests.support.training.models import card_bundle

CONTRACT = manifest().contract
DIGEST = card_bundle().digest
_MODEL = OnnxModel(card_bundle())
_MATRICES = hnp.arrays(np.float32, st.tuples(st.integers(0, 40), st.just(8)), elements=st.floats(width=32))


def _held(digest: bytes) -> OnnxModel | None:
    return _MODEL if digest == bytes.fromhex(DIGEST) else None


class _Dictionary:
    """A store in memory."""

    def __init__(self, rows: dict[str, bytes]) -> None:
        self._rows = rows

    async def get_many(self, entities: list[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Look up."""
        return [self._rows.get(entity) for entity in entities]

    def put_many(self, rows: object) -> None:
        """Take nothing."""

    async def ping(self) -> None:
        """Answer."""

    def close(self) -> None:
        """Hold nothing."""


async def _never(request: bytes, timeout_s: float) -> bytes:
    await asyncio.wait_for(asyncio.Event().wait(), timeout_s)
    return b""


async def _opened(features: LocalFeatures) -> None:
    while True:
        try:
            return await features.ping()
        except StoreUnavailable:
            await asyncio.sleep(0.005)


async def _unreachable(request: bytes, timeout_s: float) -> bytes:
    raise Overloaded("no replica answers")


def _direct(call: Handler) -> Transport:
    async def send(request: bytes, timeout_s: float) -> bytes:
        answer = call(request)
        return answer if isinstance(answer, bytes) else await answer

    return send


@asynccontextmanager
async def _linked(call: Handler) -> AsyncIterator[Transport]:
    """A transport to `call` over a link on a real socket."""
    hello = Handshake(b"secret", "Stage", CONTRACT)
    server = LinkServer(call, hello)
    port = await server.start("127.0.0.1")
    links = LinkPool("Stage", hello.encode(), _unreachable)
    links.update({"replica": Address("127.0.0.1", port)})
    try:
        await until(lambda: links.open_links == 1)
        yield links.call
    finally:
        await links.close()
        await server.close()


@given(_MATRICES, st.dictionaries(st.text(), st.binary()), st.lists(st.text()))
@settings(max_examples=40, deadline=None)
def test_a_link_gives_the_answers_of_this_process(matrix: np.ndarray, rows: dict[str, bytes], others: list[str]):
    """Scores and stored rows that come over a link are, to the bit, those that this process gives itself."""
    keys = [*rows, *others, *rows]

    async def scenario() -> None:
        local = LocalFeatures(lambda: _Dictionary(rows))
        async with _linked(ModelServer(_held).call) as model, _linked(FeatureServer(local).call) as features:
            far = await RemoteModel(model, DIGEST, 1, 5).score(matrix)
            assert far.tobytes() == (await LocalModel(_MODEL).score(matrix)).tobytes()
            assert await RemoteFeatures(features, 5).fetch(keys) == [rows.get(key) for key in keys]

    run(scenario())


@given(_MATRICES)
def test_remote_model_equals_local(matrix: np.ndarray):
    """Any matrix scores the same bits at the far end of a transport as in this process."""

    async def both() -> tuple[np.ndarray, np.ndarray]:
        remote = RemoteModel(_direct(ModelServer(_held).call), DIGEST, 1, 5)
        return await remote.score(matrix), await LocalModel(_MODEL).score(matrix)

    far, near = run(both())
    assert far.dtype == near.dtype == np.float32
    assert far.tobytes() == near.tobytes()


@given(st.dictionaries(st.text(), st.binary()), st.lists(st.text()))
def test_remote_features_equal_local(rows: dict[str, bytes], others: list[str]):
    """Any keys, known and unknown, give the same payloads in the same order through a transport."""
    keys = [*rows, *others, *rows]

    async def both() -> tuple[list[bytes | None], list[bytes | None]]:
        local = LocalFeatures(lambda: _Dictionary(rows))
        remote = RemoteFeatures(_direct(FeatureServer(local).call), 5)
        return await remote.fetch(keys), await local.fetch(keys)

    far, near = run(both())
    assert far == near == [rows.get(key) for key in keys]


def test_version_that_is_not_loaded_is_refused():
    """A model replica that does not hold the bundle says so instead of scoring by another one."""
    remote = RemoteModel(_direct(ModelServer(_held).call), "0" * 16, 1, 5)
    with pytest.raises(VersionUnavailable, match="no model replica that answers holds this version"):
        run(remote.score(np.zeros((1, 8), np.float32)))


def test_version_that_one_replica_lacks_is_scored_by_another():
    """With the bundle on one of two replicas every call is answered, and by that one."""

    async def scenario() -> None:
        hello = Handshake(b"secret", "Stage", CONTRACT)
        without, holding = (
            LinkServer(ModelServer(lambda digest: None).call, hello),
            LinkServer(ModelServer(_held).call, hello),
        )
        ports = [await server.start("127.0.0.1") for server in (without, holding)]
        links = LinkPool("Stage", hello.encode(), _unreachable, try_another=is_absent_version)
        links.update({str(port): Address("127.0.0.1", port) for port in ports})
        await until(lambda: links.open_links == 2)
        remote = RemoteModel(links.call, DIGEST, 1, 5)
        for _ in range(20):
            assert len(await remote.score(np.zeros((3, 8), np.float32))) == 3
        with pytest.raises(VersionUnavailable):
            await RemoteModel(links.call, "0" * 16, 1, 5).score(np.zeros((1, 8), np.float32))
        await links.close()
        for server in (without, holding):
            await server.close()

    run(scenario())


def test_model_that_does_not_answer():
    """A model replica that hangs ends in DeadlineExceeded, so that it does not keep a batch slot for ever."""
    with pytest.raises(DeadlineExceeded, match="the model did not answer in 10 ms"):
        run(RemoteModel(_never, DIGEST, 1, 0.01).score(np.zeros((1, 8), np.float32)))


def test_feature_fetch_that_does_not_answer():
    """Feature replicas that hang or cannot be reached are an unavailable store, which predictions survive."""
    with pytest.raises(StoreUnavailable, match="did not answer in 10 ms"):
        run(RemoteFeatures(_never, 0.01).fetch(["u1"]))
    with pytest.raises(StoreUnavailable, match="no replica answers"):
        run(RemoteFeatures(_unreachable, 5).fetch(["u1"]))


def test_failing_store_crosses_the_transport_in_its_own_words(tmp_path: Path):
    """The reason why a store failed reaches the gateway."""
    words = r"no online store at .*none\.db.*materialize"
    with closing(local_store(tmp_path / "none.db")) as local, pytest.raises(StoreUnavailable, match=words):
        run(RemoteFeatures(_direct(FeatureServer(local).call), 5).fetch(["u1"]))


def test_store_that_appears_later_is_opened(tmp_path: Path):
    """A store that is not there at start is opened in the background as soon as it is, and then answers."""
    file = tmp_path / "online.db"

    async def scenario() -> None:
        with closing(local_store(file)) as features:
            for call in (features.ping(), features.fetch(["u1"])):
                with pytest.raises(StoreUnavailable, match=r"online\.db"):
                    await call
            write_store(file, {"u1": STORED})

            await _opened(features)
            known, unknown = await features.fetch(["u1", "u2"])
            assert known is not None
            assert unknown is None

    run(scenario())


def test_closed_features_open_nothing_more(tmp_path: Path):
    """After close the background stops trying: a store that appears then stays unopened."""
    attempts: list[int] = []

    def attempt() -> SqliteStore:
        attempts.append(1)
        raise StoreUnavailable("not yet")

    async def scenario() -> None:
        features = LocalFeatures(attempt, retry_s=0.001)
        await until(lambda: len(attempts) >= 3)
        features.close()
        features.close()
        with pytest.raises(StoreUnavailable, match="not yet"):
            await features.fetch(["u1"])

    run(scenario())


def test_store_that_refuses_at_first_is_opened_when_it_no_longer_does():
    """A store that comes up with something wrong, a data center say, is tried again until that is mended."""
    faults: list[RayscoreError] = [StoreUnavailable("not yet"), ConfigError("no such data center")]

    def attempt() -> OnlineStore:
        if faults:
            raise faults.pop(0)
        return _Dictionary({"u1": b"row"})

    async def scenario() -> list[bytes | None]:
        with closing(LocalFeatures(attempt, retry_s=0.001)) as features:
            await until(lambda: not faults)
            while True:
                try:
                    return await features.fetch(["u1"])
                except StoreUnavailable:
                    await asyncio.sleep(0.001)

    assert run(scenario()) == [b"row"]


def test_store_is_given_no_more_time_than_there_is():
    """What the callers have left, or the stage's own limit, whichever is less, is all that a store may take."""
    allowed: list[float] = []

    class Watched(_Dictionary):
        async def get_many(self, entities: list[str], timeout_s: float = math.inf) -> list[bytes | None]:
            allowed.append(timeout_s)
            return await super().get_many(entities, timeout_s)

    features = LocalFeatures(lambda: Watched({}), limit_s=0.2)
    for left_s in (math.inf, 1.0, 0.05):
        run(features.fetch(["u1"], left_s))
    assert allowed == [0.2, 0.2, 0.05]


def test_store_error_at_read_is_an_unavailable_store():
    """A store that answers with an error is treated as one that does not answer."""

    class Broken(_Dictionary):
        async def get_many(self, entities: list[str], timeout_s: float = math.inf) -> list[bytes | None]:
            raise StoreError("page 7 is damaged")

    with pytest.raises(StoreUnavailable, match="page 7 is damaged"):
        run(LocalFeatures(lambda: Broken({})).fetch(["u1"]))


def test_features_in_this_process_follow_the_settings(tmp_path: Path):
    """The store that the settings name is read under the model's view; without online features there is none."""
    settings = Settings(sqlite_file=write_store(tmp_path / "online.db", {"u1": STORED}))
    features = local_features(settings, manifest())
    assert features is not None
    with closing(features):
        assert run(features.fetch(["u1"]))[0] is not None
    assert local_features(settings, manifest().model_copy(update={"entity": None})) is None
