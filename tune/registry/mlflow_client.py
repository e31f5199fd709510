"""The MLflow client: quiet, with short timeouts, and with its errors translated into ours."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from data.errors import ModelNotFound, RegistryRefused, RegistryUnavailable

_DEFAULTS = {
    # MLflow's own (120 s, 7 retries with back-off) leave a user waiting for minutes on a wrong address.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_PASSING = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "ABORTED", "CANCELLED")
"""MLflow's codes for transient failures; any other means that it understood the request and refuses."""
_SQLITE = "sqlite:///"


def connect(tracking_uri: str) -> MlflowClient:
    """Return a client of an MLflow server or of a local database, which is created when it does not exist.

    Raises:
        RegistryUnavailable: a local database cannot be opened. A server is not contacted before the first call.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with speaking_to(tracking_uri):
        if tracking_uri.startswith(_SQLITE):
            Path(tracking_uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        return MlflowClient(tracking_uri, tracking_uri)


def is_local(tracking_uri: str) -> bool:
    """Return whether the tracking URI is a local file or database and not a server."""
    return "://" not in tracking_uri or tracking_uri.startswith((_SQLITE, "file:"))


@contextmanager
def speaking_to(tracking_uri: str, wanted: str | None = None) -> Iterator[None]:
    """Translate MLflow's errors in a `with` block into ours.

    Args:
        tracking_uri: named in the error.
        wanted: what is looked up, in words; "does not exist" then becomes ModelNotFound.

    Raises:
        ModelNotFound: MLflow answered that `wanted` does not exist.
        RegistryRefused: MLflow understood and refused.
        RegistryUnavailable: MLflow could not be reached, or failed.
    """
    try:
        yield
    except MlflowException as exc:
        if wanted is not None and exc.error_code in _ABSENT:
            raise ModelNotFound(f"{wanted} is not in the registry at {tracking_uri}: {_short(exc)}") from exc
        if exc.error_code not in _PASSING:
            raise RegistryRefused(f"MLflow at {tracking_uri} refused: {_short(exc)}{_hint(exc)}") from exc
        raise RegistryUnavailable(f"MLflow at {tracking_uri} failed: {_unanswered(exc) or _short(exc)}") from exc
    except (SQLAlchemyError, OSError) as exc:
        raise RegistryUnavailable(f"MLflow at {tracking_uri} cannot be opened or written to: {_short(exc)}") from exc


def _hint(exc: MlflowException) -> str:
    text = str(exc).lower()
    if "deleted" in text or "must be in the 'active' state" in text:
        return "; bring the experiment back with `mlflow experiments restore`, or delete it for good with `mlflow gc`"
    if exc.error_code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
        return "; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    return ""


def _unanswered(exc: MlflowException) -> str | None:
    """Return what to do when nothing answers at the address, or None for any other failure."""
    _, retried, cause = str(exc).partition("Max retries exceeded")
    if not retried:
        return None
    reason = " ".join(cause.rpartition("Caused by ")[2].split())[:200]
    return f"no answer; start it, or set RAYSCORE_MLFLOW_TRACKING_URI to where it is ({reason})"


def _short(exc: Exception) -> str:
    return " ".join(str(exc).split())[:300]
