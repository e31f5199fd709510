"""Promotion of a version: the gates of the use case, then the alias `champion`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from data.errors import BundleError, ModelNotFound, PromotionConflict
from data.schema.use_case import UseCase
from data.sources.parquet import read_table
from tune.promotion.gates import Gate, check_gates
from tune.registry.bundle import Bundle
from tune.registry.registry import HOLDOUT_FOLDER, Registry, ResolvedModel
from tune.registry.traffic_rules import CHAMPION
from tune.skew.row_comparison import SkewProof

Prove = Callable[[ResolvedModel, pa.Table], SkewProof]
"""Makes the skew proof of a version from its holdout rows."""


class PromotionVerdict(NamedTuple):
    """What the gates said of one version.

    `proof` is the skew proof, when one was made; `champion` the version that was the champion then, None without one.
    """

    version: str
    gates: list[Gate]
    bundle: Bundle
    proof: SkewProof | None
    champion: str | None
    accepts_not_judged: bool = False
    """Whether the operator lets pass what could not be judged."""

    @property
    def passed(self) -> bool:
        """Whether every gate passed; one that could not be judged refuses too, unless that is accepted."""
        return all(gate.passed or (gate.passed is None and self.accepts_not_judged) for gate in self.gates)


def judge(
    registry: Registry,
    use_case: UseCase,
    alias_or_version: str,
    prove: Prove | None = None,
    new_schema: bool = False,
    accept_not_judged: bool = False,
) -> PromotionVerdict:
    """Hold a version against the gates, and against the champion on the version's own holdout.

    `prove` makes the skew proof; without it the gate says that none was made. `new_schema` allows another schema than
    the champion's, `accept_not_judged` lets a gate pass that cannot be judged.

    Raises:
        ModelNotFound: no such version or alias, or its holdout rows are gone.
        RegistryUnavailable: MLflow does not answer.
        ServiceError: the service of the skew proof does not answer, or not as the version.
        BundleError: the champion, or the version, was made by another version of rayscore.
    """
    candidate = registry.resolve(use_case.name, alias_or_version)
    present = _champion_version(registry, use_case.name)
    # By its number: the alias may move between two look-ups.
    other = present not in (None, candidate.version)
    champion = _readable(registry, use_case.name, present) if present and other else None
    holdout = read_holdout(registry, candidate)
    proof = prove(candidate, holdout) if prove else None
    bundle, own = (champion.bundle, _own_holdout(registry, champion)) if champion else (None, None)
    gates = check_gates(use_case, holdout, candidate.bundle, bundle, proof, new_schema, own)
    return PromotionVerdict(candidate.version, gates, candidate.bundle, proof, present, accept_not_judged)


def promote(
    registry: Registry,
    use_case: UseCase,
    alias_or_version: str,
    prove: Prove | None = None,
    new_schema: bool = False,
    accept_not_judged: bool = False,
) -> PromotionVerdict:
    """Make a version the champion when it passes every gate; the verdict tells.

    Raises:
        PromotionConflict: another version became the champion meanwhile; nothing is promoted.
        as `judge`.
    """
    verdict = judge(registry, use_case, alias_or_version, prove, new_schema, accept_not_judged)
    if verdict.passed:
        _require_same_champion(registry, use_case.name, verdict)
        registry.set_alias(use_case.name, CHAMPION, verdict.version)
    return verdict


def read_holdout(registry: Registry, model: ResolvedModel) -> pa.Table:
    """Fetch the raw holdout rows of a version; raises ModelNotFound when they are gone."""
    with tempfile.TemporaryDirectory() as scratch:
        return read_table(registry.fetch(model.run_id, HOLDOUT_FOLDER, Path(scratch)))


def _own_holdout(registry: Registry, champion: ResolvedModel) -> pa.Table | None:
    """Return the champion's own holdout; None when it is gone, which only leaves a gate more often unjudged."""
    try:
        return read_holdout(registry, champion)
    except ModelNotFound:
        return None


def _readable(registry: Registry, name: str, version: str) -> ResolvedModel:
    """Fetch the champion; raises BundleError, with the way out, for one that this version cannot read."""
    try:
        return registry.resolve(name, version)
    except BundleError as exc:
        raise BundleError(
            f"version {version}, the {CHAMPION}, cannot be compared with: {exc}; to promote another one without a "
            f"comparison, delete the alias '{CHAMPION}' of model '{name}' in MLflow first"
        ) from exc


def _champion_version(registry: Registry, name: str) -> str | None:
    return registry.state(name).aliases.get(CHAMPION)


def _require_same_champion(registry: Registry, name: str, verdict: PromotionVerdict) -> None:
    """Refuse a verdict on another champion than the one there is: gates take minutes, and a skew proof longer."""
    # MLflow sets an alias unconditionally: between this look and the write a few milliseconds remain.
    present = _champion_version(registry, name)
    if present != verdict.champion:
        before, now = (f"version {each}" if each else "no version" for each in (verdict.champion, present))
        raise PromotionConflict(
            f"version {verdict.version} is not promoted: it was judged while {before} was the {CHAMPION}, and "
            f"{now} is the {CHAMPION} now; promote again, to judge it against that one"
        )
