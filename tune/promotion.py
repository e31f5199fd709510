"""Promotion: the gates of the use case, then the alias `champion`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from data.errors import ModelNotFound
from data.parquet import read_table
from data.usecase import UseCase
from tune.bundle import Bundle
from tune.gates import Gate, check_gates
from tune.registry import CHAMPION, HOLDOUT_FOLDER, Registry, ResolvedModel


class Verdict(NamedTuple):
    """What the gates said of one version."""

    version: str
    gates: list[Gate]

    @property
    def passed(self) -> bool:
        """True when every gate was passed."""
        return all(gate.passed for gate in self.gates)


def judge(registry: Registry, use_case: UseCase, alias_or_version: str) -> Verdict:
    """Hold a version against the gates, and against the champion on the version's own holdout.

    Raises:
        ModelNotFound: no such version or alias, or its holdout rows are gone.
        RegistryUnavailable: MLflow does not answer.
    """
    candidate = registry.resolve(use_case.name, alias_or_version)
    champion = _champion(registry, use_case.name, candidate)
    return Verdict(candidate.version, check_gates(use_case, _holdout(registry, candidate), candidate.bundle, champion))


def promote(registry: Registry, use_case: UseCase, alias_or_version: str) -> Verdict:
    """Make a version the champion when it passes every gate; the verdict tells.

    Raises:
        as `judge`.
    """
    verdict = judge(registry, use_case, alias_or_version)
    if verdict.passed:
        registry.set_alias(use_case.name, CHAMPION, verdict.version)
    return verdict


def _champion(registry: Registry, name: str, candidate: ResolvedModel) -> Bundle | None:
    try:
        champion = registry.resolve(name, CHAMPION)
    except ModelNotFound:
        return None
    return None if champion.version == candidate.version else champion.bundle


def _holdout(registry: Registry, candidate: ResolvedModel) -> pa.Table:
    with tempfile.TemporaryDirectory() as scratch:
        return read_table(registry.fetch(candidate.run_id, HOLDOUT_FOLDER, Path(scratch)))
