"""Training and scoring from Python, as in a notebook: draft, search, promote, load, score.

Each function does what the command of its name does, with its options as keywords. Further keywords are settings by the
names that `docs/settings.md` gives them, without `RAYSCORE_` and in small letters; they win over the environment.

    from tune.notebook import draft, load, promote, search

    draft("table.parquet", "target", out="my_case.toml")
    search("table.parquet", use_case="my_case.toml", trials=20)
    promote(use_case="my_case.toml")
    load(use_case="my_case.toml").score(frame)
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from data.errors import ConfigError, DataError
from data.schema.events.event_paths import EventPaths
from data.schema.output import Output
from data.schema.use_case import UseCase, load_use_case
from data.settings import Settings, load_settings
from data.sources.draft import use_case_draft
from tune.pipeline.pipeline import learn
from tune.promotion import promotion
from tune.promotion.gates import Gate
from tune.registry.bundle import Bundle
from tune.registry.pyfunc_flavor import load_flavor
from tune.registry.raw_columns import EVENTS, HISTORY
from tune.registry.registry import MODEL_FOLDER, Registry
from tune.registry.traffic_rules import CHALLENGER, CHAMPION
from tune.search.sampler import SamplerName
from tune.search.study import SearchPlan, check_plan
from tune.search.trial import Trial
from tune.tasks.kinds import learning_task

PathName = str | PathLike[str]


class Draft(NamedTuple):
    """A drafted use case: its TOML text, and the file that it was written to, if any."""

    text: str
    path: Path | None

    def __repr__(self) -> str:
        return self.text


class Searched(NamedTuple):
    """What a search ended with: a registered challenger. Shown in a notebook, it is its model card."""

    name: str
    version: str
    run_id: str
    """Of MLflow."""
    trials: int
    best: Trial
    metrics: dict[str, float]
    """Figures on the holdout, of the same model without it."""
    intervals: dict[str, tuple[float, float]]
    """Their 95 % bootstrap intervals."""
    bundle: Bundle
    headline: tuple[str, ...]
    """Names of the figures that are shown first."""

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return self.bundle.card

    def __repr__(self) -> str:
        figures = ", ".join(f"{name} {self.metrics[name]:.4f}" for name in self.headline)
        return f"{self.name} version {self.version} ({CHALLENGER}), {self.trials} trials, on the holdout: {figures}"

    def _repr_markdown_(self) -> str:
        return self.card


class Promoted(NamedTuple):
    """What the gates said of a version; it is the champion now if `passed`."""

    name: str
    version: str
    passed: bool
    gates: Sequence[Gate]

    def __repr__(self) -> str:
        lines = [f"{gate.name}: {gate.value}, limit {gate.limit}: {gate.verdict}" for gate in self.gates]
        return "\n".join([*lines, self._outcome])

    def _repr_html_(self) -> str:
        head = _html_row("th", ("gate", "value", "limit", "verdict"))
        rows = [_html_row("td", (gate.name, gate.value, gate.limit, gate.verdict)) for gate in self.gates]
        return f"<table>{head}{''.join(rows)}</table><p>{escape(self._outcome)}</p>"

    @property
    def _outcome(self) -> str:
        said = f"is now the {CHAMPION}" if self.passed else f"is not promoted; the {CHAMPION} stays as it was"
        return f"{self.name} version {self.version} {said}"


class Model:
    """A registered version that scores pandas tables. Shown in a notebook, it is its model card."""

    def __init__(self, name: str, version: str, bundle: Bundle, flavor: PyFuncModel) -> None:
        self.name = name
        self.version = version
        self.bundle = bundle
        self._flavor = flavor

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return self.bundle.card

    @property
    def output(self) -> Output:
        """What it answers: the labels and the threshold, or the interval."""
        return self.bundle.manifest.output

    def score(
        self,
        frame: pd.DataFrame,
        *,
        history: PathName | None = None,
        events: Mapping[str, PathName] | None = None,
    ) -> pd.DataFrame:
        """Return what HTTP answers to each row, with the frame's index: of two labels `probability` and `label`.

        Args:
            frame: n rows of the raw table; windows over events are its own, if it has the columns of all, or computed.
            history: earlier rows of the table: events of windows, which are not scored.
            events: tables of events that are not rows of the table, by source.

        Raises:
            ConfigError: events are given that are not needed.
            DataError: rows or columns are not valid; names rows, columns and reasons.
            StoreUnavailable: values of online features are missing, and the online store cannot be read.
        """
        params: dict[str, Any] = {}
        if history is not None:
            params[HISTORY] = str(history)
        if events:
            params[EVENTS] = [f"{source}={path}" for source, path in events.items()]
        try:
            return self._flavor.predict(frame, params=params or None)
        except MlflowException as exc:
            # MLflow puts rows of the frame before what is wrong with it.
            reason = exc.message.rpartition("Error: ")[2]
            raise DataError(f"{self.name} version {self.version}: {reason}") from exc

    def __repr__(self) -> str:
        return f"{self.name} version {self.version}, {self.output.words}"

    def _repr_markdown_(self) -> str:
        return self.card


def draft(
    table: PathName,
    label: str,
    *,
    entity: str | None = None,
    time: str | None = None,
    key: str | None = None,
    name: str | None = None,
    kind: str | None = None,
    group: str | None = None,
    item: str | None = None,
    out: PathName | None = None,
) -> Draft:
    """Draft a use case for a table, as `rayscore draft` does.

    Args:
        table: Parquet file or folder.
        label: column to predict.
        entity: column with the key of the online store.
        time: column with the event time.
        key: column that identifies a row.
        name: of the use case; by default from the path.
        kind: of the target: `binary`, `multiclass`, `regression` or `ranking`; by default found from the label column.
        group: of a ranking, column whose equal values are one list.
        item: of a ranking, column that says which item a row is of.
        out: file to write.

    Raises:
        DataError: the table cannot be read, or a named column is not there or not fit for what it is named for.
    """
    text = use_case_draft.draft(Path(table), label, entity, time, key, name, kind, group, item)
    path = Path(out) if out is not None else None
    if path is not None:
        use_case_draft.write(text, path)
    return Draft(text, path)


def search(
    table: PathName,
    *,
    use_case: PathName | None = None,
    trials: int = 20,
    seed: int = 0,
    resume: bool = False,
    sampler: str = SamplerName.TPE.value,
    concurrency: int | None = None,
    history: PathName | None = None,
    events: Mapping[str, PathName] | None = None,
    **settings: Any,
) -> Searched:
    """Search for a model, fit it and register it as the challenger, as `rayscore tune` does.

    Args:
        table: Parquet file or folder to learn from.
        use_case: name of a shipped use case, or path of a file.
        trials: trials of the search.
        seed: same seed, same trials.
        resume: go on with the search that was interrupted.
        sampler: where parameters come from: `tpe` learns from earlier trials, `random` does not.
        concurrency: trials at once; by default by rows and free CPUs.
        history: earlier rows of the table: events of windows, and nothing else.
        events: tables of events that are not rows of the table, by source.
        settings: by name.

    Raises:
        ConfigError: an argument or setting is wrong, or the Ray cluster does not answer.
        DataError: the table cannot be read, or is not fit to learn from.
        TrainingFailed: no trial came to an end.
        RegistryUnavailable: MLflow does not answer.
    """
    found, declared = _open(use_case, settings)
    if sampler not in {each.value for each in SamplerName}:
        raise ConfigError(f"sampler {sampler!r}: expected one of: {', '.join(each.value for each in SamplerName)}")
    beside = EventPaths(
        Path(history) if history is not None else None,
        {source: Path(path) for source, path in (events or {}).items()},
    )
    plan = SearchPlan(Path(table), trials, seed, resume, concurrency, SamplerName(sampler), beside)
    check_plan(plan)
    learned = learn(declared, plan, found)
    holdout = learned.figures.holdout
    intervals = {name: (low, high) for name, (low, high) in holdout.intervals.items()}
    told = learned.version, learned.run_id, learned.trials, learned.best, holdout.metrics, intervals
    return Searched(declared.name, *told, learned.bundle, learning_task(declared).headline)


def promote(
    version: str | int = CHALLENGER,
    *,
    use_case: PathName | None = None,
    new_schema: bool = False,
    accept_not_judged: bool = False,
    **settings: Any,
) -> Promoted:
    """Make a version the champion if it passes the gates, as `rayscore promote` does.

    Args:
        version: number or alias.
        use_case: name of a shipped use case, or path of a file.
        new_schema: let the schema differ from the champion's.
        accept_not_judged: let gates pass that cannot be judged.
        settings: by name.

    Raises:
        ConfigError: an argument or setting is wrong.
        ModelNotFound: the version, or its holdout, is not in the registry.
        PromotionConflict: another version became the champion meanwhile; nothing is promoted.
        RegistryUnavailable: MLflow does not answer.
    """
    found, declared = _open(use_case, settings)
    verdict = promotion.promote(
        _registry(found), declared, str(version), new_schema=new_schema, accept_not_judged=accept_not_judged
    )
    return Promoted(declared.name, verdict.version, verdict.passed, verdict.gates)


def load(version: str | int = CHAMPION, *, use_case: PathName | None = None, **settings: Any) -> Model:
    """Load a registered version, to score pandas tables with.

    Args:
        version: number or alias.
        use_case: name of a shipped use case, or path of a file.
        settings: by name.

    Raises:
        ConfigError: an argument or setting is wrong.
        ModelNotFound: no such version.
        BundleError: its files are missing, damaged, or those of an earlier version of rayscore.
        RegistryUnavailable: MLflow does not answer.
    """
    found, declared = _open(use_case, settings)
    registry = _registry(found)
    resolved = registry.resolve(declared.name, str(version))
    with tempfile.TemporaryDirectory() as scratch:
        flavor = load_flavor(registry.fetch(resolved.run_id, MODEL_FOLDER, Path(scratch)))
    return Model(declared.name, resolved.version, resolved.bundle, flavor)


def score(
    frame: pd.DataFrame,
    version: str | int = CHAMPION,
    *,
    use_case: PathName | None = None,
    history: PathName | None = None,
    events: Mapping[str, PathName] | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Score a table with a registered version; arguments and errors are those of `load` and `Model.score`."""
    return load(version, use_case=use_case, **settings).score(frame, history=history, events=events)


def _open(use_case: PathName | None, given: Mapping[str, Any]) -> tuple[Settings, UseCase]:
    found = load_settings(use_case=None if use_case is None else str(use_case), **given)
    return found, load_use_case(found.use_case)


def _registry(settings: Settings) -> Registry:
    return Registry(settings.tracking_uri, settings.artifact_dir)


def _html_row(cell: str, texts: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{cell}>{escape(text)}</{cell}>' for text in texts)}</tr>"
