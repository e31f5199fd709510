"""The skew proof by replay: rows of a table are sent through the HTTP API and compared with training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from data.schema.output import Output
from tune.registry.bundle import Bundle
from tune.skew.replay_requests import ReplayRequests
from tune.skew.row_comparison import RowComparer, SentRow, ServedRow, SkewProof, UsedValue, Values
from tune.skew.service_client import ServiceClient

BATCH_ROWS = 50
"""Rows per request."""


class ReplayPace(NamedTuple):
    """Number of rows to compare, and most rows to send per second."""

    rows: int
    per_second: float


def prove(
    bundle: Bundle,
    table: pa.Table,
    service: ServiceClient,
    pace: ReplayPace,
    stored: Mapping[str, Values] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> SkewProof:
    """Replay a table through a service and compare its answers with training.

    Args:
        bundle: the bundle of the version that is asked.
        table: raw rows.
        service: client that asks for that version.
        pace: how many rows to compare, and how fast.
        stored: what the online store should hold by entity (`stored_values`), if it is known.
        advance: called with the number of rows compared after each request.

    Raises:
        ServiceError: the service does not answer, or another version answers.
        DataError: the table lacks a column, or one cannot hold its feature.
    """
    comparer = RowComparer(bundle, service.version or "", pace.rows, stored)
    return _replay(ReplayRequests(table, bundle.manifest), service, comparer, pace, advance)


def _replay(
    rows: ReplayRequests,
    service: ServiceClient,
    comparer: RowComparer,
    pace: ReplayPace,
    advance: Callable[[int], None],
) -> SkewProof:
    """Send rows until enough are compared or none are left."""
    start, due, proof = 0, time.monotonic(), comparer.proof
    while start < rows.forms and proof.compared < pace.rows:
        matrix, sent = rows.slice(start, min(BATCH_ROWS, pace.rows - proof.compared))
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due, time.monotonic() - 1) + len(sent) / pace.per_second
        before = proof.compared
        _exchange(matrix, sent, service, comparer, f"skew-proof-{start}")
        advance(proof.compared - before)
        start += len(sent)
    return proof


def _exchange(
    matrix: np.ndarray, sent: list[SentRow], service: ServiceClient, comparer: RowComparer, request_id: str
) -> None:
    sendable = [at for at, each in enumerate(sent) if each.body is not None]
    for each in sent:
        if each.body is None:
            comparer.proof.refuse(each.row, "holds an infinity, which no JSON can carry")
    if not sendable:
        return
    answers = service.ask([sent[at].body or {} for at in sendable], request_id)
    compared = []
    for at, answer in zip(sendable, answers, strict=True):
        if "error" in answer:
            comparer.proof.refuse(sent[at].row, str(answer["error"].get("detail", answer["error"])))
        elif answer.get("degraded"):
            comparer.proof.degraded += 1
        else:
            compared.append((at, served_row(answer, comparer.output)))
    places = [at for at, _ in compared]
    comparer.compare(matrix[places], [sent[at] for at in places], [served for _, served in compared])


def served_row(answer: dict[str, Any], output: Output) -> ServedRow:
    """Return an answer of the service with its detail; `output` is that of the version that is asked."""
    features = {
        name: UsedValue(shown.get("value"), str(shown.get("source")), bool(shown.get("unseen")))
        for name, shown in answer["features"].items()
    }
    return ServedRow(str(answer.get("request_id", "")), output.read(answer), features)
