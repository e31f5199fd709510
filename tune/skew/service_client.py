"""A running service as a client sees it: rows over HTTP, to one version, with every feature's value and source."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import httpx

from data.errors import ConfigError, ServiceError
from data.schema.feature_schema import Scalar

_TIMEOUT_S = 10.0
_MORE_TRIES = 5
_FIRST_PAUSE_S = 0.1
_BUSY = (502, 503, 504)
_HOW_TO_ASK = "before a version can be asked it must be in the traffic rules, with weight 0 for example"


class RolledBack(NamedTuple):
    """What became of a rollback. `outcome` is "committed", "preparing", "refused", "superseded" or "conflict"; `reason`
    says why not. `champion` and `epoch` are of the rules that it made."""

    outcome: str
    reason: str
    champion: str
    epoch: int | None


class ServiceClient:
    """A running service, asked for one version; to be closed.

    Args:
        url: of the service, e.g. http://127.0.0.1:8000; a path before `/predict` is kept.
        version: the one that must answer; None for the one that answers by default.

    Raises:
        ConfigError: the URL is none.
    """

    def __init__(self, url: str, version: str | None = None) -> None:
        base = url.rstrip("/").removesuffix("/predict")
        if not base.startswith(("http://", "https://")):
            raise ConfigError(f"{url}: expected the URL of a running service, such as http://127.0.0.1:8000")
        self.url = base
        self.version = version
        headers = {"x-model-version": version} if version else {}
        self._client = httpx.Client(headers=headers, timeout=_TIMEOUT_S)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def champion(self, use_case: str) -> str:
        """Version of the model that is served.

        Raises:
            ConfigError: it is another use case's.
            ServiceError: nobody answers, or not as a service of ours.
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
        """Send rows as one array and return an answer for each, an item's error in its place.

        Raises:
            ServiceError: nobody answers, the request as a whole is refused, or another version answers.
        """
        sent = {"json": bodies, "params": {"detail": "1"}, "headers": {"x-request-id": request_id}}
        answers = self._send("POST", "/predict", sent)
        if not isinstance(answers, list) or len(answers) != len(bodies):
            raise ServiceError(f"{self.url}/predict: {len(bodies)} rows were sent, and not as many answers came")
        for answer in answers:
            self._check(answer)
        return answers

    def roll_back(self, token: str, attempt: str) -> RolledBack:
        """Have the service go back by its admin door: no live challengers, else the champion before this one.

        Args:
            token: of the admin door.
            attempt: the same for every try of one rollback, which is made once.

        Raises:
            ServiceError: nobody answers, or the door is closed or wants another token.
        """
        headers = {"authorization": f"Bearer {token}"}
        response = self._try("POST", "/admin/rollback", {"json": {"attempt": attempt}, "headers": headers})
        told = _decoded(response)
        if not isinstance(told, dict) or "outcome" not in told:
            raise ServiceError(f"{self.url}/admin/rollback: {_problem(response)}")
        rules = told.get("rules") or {}
        return RolledBack(
            told["outcome"], str(told.get("reason", "")), str(rules.get("champion", "")), told.get("epoch")
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
        """Send, again while the service is busy, and return the decoded answer."""
        response = self._try(method, path, request)
        if response.status_code != 200:
            hint = f"; {_HOW_TO_ASK}" if response.status_code == 404 and self.version else ""
            raise ServiceError(f"{self.url}{path}: {_problem(response)}{hint}")
        found = _decoded(response)
        if found is None:
            raise ServiceError(f"{self.url}{path} does not answer in JSON; is another program there?")
        return found

    def _try(self, method: str, path: str, request: dict[str, Any]) -> httpx.Response:
        try:
            response = self._client.request(method, self.url + path, **request)
            for turn in range(_MORE_TRIES):
                if response.status_code not in _BUSY:
                    break
                time.sleep(_FIRST_PAUSE_S * 2**turn)
                response = self._client.request(method, self.url + path, **request)
        except (httpx.TransportError, httpx.InvalidURL) as exc:
            raise ServiceError(
                f"{self.url} does not answer ({type(exc).__name__}: {exc}); is `serve run ray_app:graph` running?"
            ) from exc
        return response


def _decoded(response: httpx.Response) -> Any:
    """The body, None when it is no JSON."""
    try:
        return response.json()
    except ValueError:
        return None


def _problem(response: httpx.Response) -> str:
    """What a response that is no answer says."""
    try:
        told = response.json()
        return f"{response.status_code} {told['title']}: {told['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.reason_phrase}"
