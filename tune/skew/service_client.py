"""HTTP client of a running service, for the skew proof and for rollbacks."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import httpx

from data.errors import ConfigError, ServiceError, ServiceUnreachable
from data.schema.features.feature import Scalar

_TIMEOUT_S = 10.0
_MORE_TRIES = 5
_FIRST_PAUSE_S = 0.1
_BUSY = (502, 503, 504)
_HOW_TO_ASK = "before a version can be asked it must be in the traffic rules, with weight 0 for example"


class RolledBack(NamedTuple):
    """The service's answer to a rollback.

    `outcome` is "committed", "preparing", "refused", "superseded" or "conflict", and `reason` says why it was not
    committed. `champion` and `epoch` are those of the new traffic rules.
    """

    outcome: str
    reason: str
    champion: str
    epoch: int | None


class ServiceClient:
    """HTTP client that asks one version of the model; close it after use.

    Args:
        url: URL of the service, e.g. http://127.0.0.1:8000; a path before `/predict` is kept.
        version: the version that must answer; None for whichever answers by default.
        scratch_token: the service's token for events: rows are asked from its scratch stores; None asks the live ones.

    Raises:
        ConfigError: the URL is not one of HTTP.
    """

    def __init__(self, url: str, version: str | None = None, scratch_token: str | None = None) -> None:
        base = url.rstrip("/").removesuffix("/predict")
        if not base.startswith(("http://", "https://")):
            raise ConfigError(f"{url}: expected the URL of a running service, such as http://127.0.0.1:8000")
        self.url = base
        self.version = version
        headers = {"x-model-version": version} if version else {}
        if scratch_token is not None:
            headers |= {"x-rayscore-scratch": "1", "authorization": f"Bearer {scratch_token}"}
        self._client = httpx.Client(headers=headers, timeout=_TIMEOUT_S)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def champion(self, use_case: str) -> str:
        """Return the version of the model that the service serves.

        Raises:
            ConfigError: the service serves another use case.
            ServiceError: nobody answers, or another program does.
        """
        info = self._send("GET", "/model/info", {})
        if not isinstance(info, dict) or not {"name", "version"} <= info.keys():
            raise ServiceError(f"{self.url}/model/info names no model; is another program there?")
        if info["name"] != use_case:
            raise ConfigError(
                f"{self.url} serves '{info['name']}', not '{use_case}'; name the use case with --use-case"
            )
        return str(info["version"])

    def ask(self, bodies: list[dict[str, Scalar]], request_id: str) -> list[dict[str, Any]]:
        """Send rows as one request and return an answer for each; a refused row's answer has the key `error`.

        Raises:
            ServiceUnreachable: nobody answers, or the service is too busy for long.
            ServiceError: the request as a whole is refused, or another version answers.
        """
        answers = self._send("POST", "/predict", _asked(bodies, request_id))
        if not isinstance(answers, list) or len(answers) != len(bodies):
            raise ServiceError(f"{self.url}/predict: {len(bodies)} rows were sent, and not as many answers came")
        for answer in answers:
            self._check(answer)
        return answers

    def ask_one(self, body: dict[str, Scalar], request_id: str) -> dict[str, Any]:
        """Send a row by itself and return its answer, which has the key `error` when the row is refused; see `ask`."""
        response = self._try("POST", "/predict", _asked(body, request_id))
        decoded = self._decoded(response, "/predict") if response.status_code != 422 else {"error": _decoded(response)}
        self._check(decoded)
        return decoded

    def roll_back(self, token: str, attempt: str) -> RolledBack:
        """Roll the service back by its admin API: drop live challengers, or else return to the previous champion.

        Args:
            token: bearer token of the admin API.
            attempt: id of the rollback; the service carries out each id once, so a repeated request is harmless.

        Raises:
            ServiceError: nobody answers, or the admin API is off or wants another token.
        """
        headers = {"authorization": f"Bearer {token}"}
        response = self._try("POST", "/admin/rollback", {"json": {"attempt": attempt}, "headers": headers})
        answer = _decoded(response)
        if not isinstance(answer, dict) or "outcome" not in answer:
            raise ServiceError(f"{self.url}/admin/rollback: {_problem(response)}")
        rules = answer.get("rules") or {}
        return RolledBack(
            answer["outcome"], str(answer.get("reason", "")), str(rules.get("champion", "")), answer.get("epoch")
        )

    def _check(self, answer: dict[str, Any]) -> None:
        if "error" in answer:
            return
        version = str(answer.get("model", {}).get("version"))
        if self.version and version != self.version:
            raise ServiceError(
                f"{self.url}: version {version} answered where version {self.version} was asked; {_HOW_TO_ASK}"
            )
        if "features" not in answer:
            raise ServiceError(f"{self.url}/predict?detail=1 answers without features; is a proxy dropping the query?")

    def _send(self, method: str, path: str, request: dict[str, Any]) -> Any:
        """Send a request, repeated while the service is busy, and return the decoded answer."""
        return self._decoded(self._try(method, path, request), path)

    def _decoded(self, response: httpx.Response, path: str) -> Any:
        if response.status_code != 200:
            hint = f"; {_HOW_TO_ASK}" if response.status_code == 404 and self.version else ""
            error = ServiceUnreachable if response.status_code in _BUSY else ServiceError
            raise error(f"{self.url}{path}: {_problem(response)}{hint}")
        decoded = _decoded(response)
        if decoded is None:
            raise ServiceError(f"{self.url}{path} does not answer in JSON; is another program there?")
        return decoded

    def _try(self, method: str, path: str, request: dict[str, Any]) -> httpx.Response:
        try:
            response = self._client.request(method, self.url + path, **request)
            for turn in range(_MORE_TRIES):
                if response.status_code not in _BUSY:
                    break
                time.sleep(_FIRST_PAUSE_S * 2**turn)
                response = self._client.request(method, self.url + path, **request)
        except (httpx.TransportError, httpx.InvalidURL) as exc:
            raise ServiceUnreachable(
                f"{self.url} does not answer ({type(exc).__name__}: {exc}); is `serve run ray_app:graph` running?"
            ) from exc
        return response


def _asked(rows: object, request_id: str) -> dict[str, Any]:
    return {"json": rows, "params": {"detail": "1"}, "headers": {"x-request-id": request_id}}


def _decoded(response: httpx.Response) -> Any:
    """Return the decoded body, None when it is not JSON."""
    try:
        return response.json()
    except ValueError:
        return None


def _problem(response: httpx.Response) -> str:
    """Return the problem that an error response describes (RFC 9457), else its status."""
    try:
        problem = response.json()
        return f"{response.status_code} {problem['title']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.reason_phrase}"
