"""Bodies in a content coding: decoded within the size limit, or refused with what is wrong."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.http.content_coding import decompress
from ray_app.protocol.responses import HttpProblem
from tests.support.load.http_requests import MIB, exchange, problem
from tests.support.serving.predict_app import ROW, ServedApp, build_app, run

BODY = orjson.dumps(ROW)
GZIP = gzip.compress(BODY, mtime=0)
RAW_DEFLATE = zlib.compress(BODY)[2:-4]


def send(served: ServedApp, body: bytes, coding: str) -> httpx.Response:
    """Send a body that is declared to be in a coding."""
    return run(served.send(body, **{"content-encoding": coding}))


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", GZIP),
        ("x-gzip", GZIP),
        ("GZIP", GZIP),
        ("identity, gzip", GZIP),
        ("gzip", gzip.compress(BODY[:20], mtime=0) + gzip.compress(BODY[20:], mtime=0)),
        ("gzip", GZIP + bytes(512)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", RAW_DEFLATE),
        ("identity", BODY),
        ("", BODY),
    ],
)
def test_encoded_body_is_answered_like_the_plain_one(served: ServedApp, coding: str, body: bytes):
    """A body in gzip or deflate, in the spellings that clients have of them, is decoded."""
    response = send(served, body, coding)
    assert response.status_code == 200
    assert response.json()["probability"] == run(served.post(ROW)).json()["probability"]


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "gzip, br", "gzipped"])
def test_other_coding_is_refused_unread(served: ServedApp, coding: str):
    """A coding that is not known is 415, with the known ones in a header, before the body is read."""
    sent, asked = exchange(served, [], (b"content-encoding", coding.encode()))
    assert sent[0]["status"] == 415
    assert (b"accept-encoding", b"gzip, deflate") in sent[0]["headers"]
    assert coding.encode() in sent[1]["body"]
    assert asked == 0


@pytest.mark.parametrize(
    ("coding", "body", "words"),
    [
        ("gzip", BODY, "it is not gzip, as content-encoding says: incorrect header check"),
        ("gzip", zlib.compress(BODY), "incorrect header check"),
        ("gzip", GZIP[:-1], "it is cut short"),
        ("gzip", GZIP[:20], "it is cut short"),
        ("gzip", GZIP[:1], "it is cut short"),
        ("gzip", GZIP[:-8] + bytes(8), "incorrect data check"),
        ("gzip", GZIP + b"more", "incorrect header check"),
        ("gzip", gzip.compress(b"", mtime=0) * 50_000, "it has more than 16 members"),
        ("deflate", GZIP, "it is not deflate"),
        ("deflate", zlib.compress(BODY)[:-1], "it is cut short"),
        ("deflate", zlib.compress(BODY) + b"more", "4 bytes follow its end"),
    ],
)
def test_broken_body_is_refused(served: ServedApp, coding: str, body: bytes, words: str):
    """A body that is not in its coding, damaged, cut short or followed by something is 400, with what is wrong."""
    problem(send(served, body, coding), 400, "The body cannot be decoded", words)


def test_empty_body_is_called_empty(served: ServedApp):
    """No body at all is the same fault with a content coding as without one."""
    problem(send(served, b"", "gzip"), 400, "The body is empty")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_limit_counts_decoded_bytes(served: ServedApp, coding: str):
    """A body that decodes to exactly the limit is read, and one byte more is 413."""
    pack = gzip.compress if coding == "gzip" else zlib.compress
    assert send(served, pack(BODY + b" " * (MIB - len(BODY))), coding).status_code == 200
    problem(send(served, pack(BODY + b" " * (MIB - len(BODY) + 1)), coding), 413, "1,048,576 bytes", "after decoding")


def test_limit_counts_all_members_of_a_gzip_body(served: ServedApp):
    """Members that each keep the limit are 413 when they exceed it together."""
    halves = gzip.compress(BODY + b" " * (MIB // 2), mtime=0) + gzip.compress(b" " * (MIB // 2), mtime=0)
    problem(send(served, halves, "gzip"), 413, "1,048,576 bytes")


def test_bomb_is_not_inflated():
    """A body that would decode to a thousand times the limit takes no more memory than the limit and some."""
    bomb, limit = gzip.compress(bytes(200 * MIB), 9, mtime=0), MIB
    tracemalloc.start()
    try:
        with pytest.raises(HttpProblem) as caught:
            decompress(bomb, b"gzip", limit)
        assert caught.value.status == 413
        assert tracemalloc.get_traced_memory()[1] < 4 * limit
    finally:
        tracemalloc.stop()


def test_encoded_body_of_the_admin_api():
    """The admin API decodes bodies as /predict does."""
    admin = build_app(admin_token="t" * 16)
    body, headers = (
        gzip.compress(b'{"share":0.5}', mtime=0),
        {"content-encoding": "gzip", "authorization": "Bearer " + "t" * 16},
    )

    async def scenario() -> httpx.Response:
        async with admin.client() as client:
            return await client.post("/admin/weight", content=body, headers=headers)

    assert run(scenario()).json()["told"] == {"share": 0.5}


@given(st.binary(max_size=300), st.integers(0, 400), st.sampled_from([b"gzip", b"x-gzip", b"deflate"]))
def test_what_was_packed_comes_back_within_the_limit(body: bytes, limit: int, coding: bytes):
    """Any bytes come back as they were when the limit has room for them, and are 413 otherwise."""
    packed = zlib.compress(body) if coding == b"deflate" else gzip.compress(body, mtime=0)
    if len(body) <= limit:
        assert decompress(packed, coding, limit) == body
    else:
        with pytest.raises(HttpProblem) as caught:
            decompress(packed, coding, limit)
        assert caught.value.status == 413


@given(st.binary(max_size=60), st.sampled_from([b"gzip", b"deflate"]))
def test_no_bytes_are_an_internal_error(body: bytes, coding: bytes):
    """Whatever a body in a coding holds, it is decoded or refused as the client's fault."""
    for damaged in (body, GZIP[: len(body)] + body, RAW_DEFLATE[: len(body)] + body):
        try:
            decompress(damaged, coding, 1000)
        except HttpProblem as exc:
            assert exc.status in (400, 413)
