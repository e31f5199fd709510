"""Asking a running service: what goes wrong is said in words, what passes is tried again."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from data.errors import ConfigError, ServiceError
from tests.support.serving.predict_app import FULL, build_app
from tests.support.training.skew import VERSION, listening, served_app
from tune.skew.service_client import ServiceClient


def answering(status: int, body: bytes, *later: tuple[int, bytes]):
    """An application that answers so, and then as `later` has it."""
    answers = [(status, body), *later]

    async def app(scope, receive, send) -> None:
        code, content = answers.pop(0) if len(answers) > 1 else answers[0]
        await receive()
        await send({"type": "http.response.start", "status": code, "headers": []})
        await send({"type": "http.response.body", "body": content})

    return app


def asked(app, version: str | None = None):
    """The answers to one row."""
    with listening(app) as url:
        service = ServiceClient(url, version)
        try:
            return service.ask([FULL], "r1")
        finally:
            service.close()


def test_rows_are_answered_with_their_features(tmp_path):
    """An answer names the version, the request's id and each feature's source."""
    (answer,) = asked(served_app(tmp_path).app, VERSION)
    assert (answer["model"]["version"], answer["request_id"]) == (VERSION, "r1")
    assert answer["features"]["amount"] == {"value": 120.5, "source": "request"}


def test_champion_is_told():
    """The model that is served names itself."""
    with listening(build_app().app) as url:
        service = ServiceClient(f"{url}/predict")
        assert service.champion("card_fraud") == "3"
        service.close()


def test_a_service_of_another_use_case_is_not_taken_for_ours():
    """Its name is told, and how to name the use case, before anything is asked of it or rolled back."""
    told = pytest.raises(ConfigError, match="serves 'card_fraud', not 'loans'; name the use case")
    with listening(build_app().app) as url, closing(ServiceClient(url)) as service, told:
        service.champion("loans")


def test_busy_service_is_asked_again():
    """A 503 passes: the same request is sent again."""
    answer = b'[{"error": {"status": 422, "detail": "no"}}]'
    assert asked(answering(503, b"busy", (200, answer))) == [{"error": {"status": 422, "detail": "no"}}]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>", "does not answer in JSON"),
        (200, b"[]", "not as many answers came"),
        (200, b'[{"model": {"version": "7"}, "features": {}}]', "version 7 answered where version 2 was asked"),
        (200, b'[{"model": {"version": "2"}}]', "answers without features"),
        (413, b'{"title": "Too many items", "detail": "at most 10"}', "413 Too many items: at most 10"),
        (404, b"nginx", "404 Not Found; before a version can be asked it must be in the traffic rules"),
    ],
)
def test_wrong_answer_is_told(status, body, said):
    """What is no answer to a proof's question ends it, with what to think of."""
    with pytest.raises(ServiceError, match=said):
        asked(answering(status, body), "2")


def test_service_that_is_down_is_told():
    """Nobody at the port: the URL and how to start a service."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ServiceError, match=f"{url} does not answer .*serve run"):
        ServiceClient(url).champion("card_fraud")


def test_what_is_no_url_is_told():
    """A host without a scheme is refused before anything is sent."""
    with pytest.raises(ConfigError, match="localhost:8000: expected the URL"):
        ServiceClient("localhost:8000")
