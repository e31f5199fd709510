"""The use case: one TOML file that declares what to predict, from which features, and when a model is good enough.

Parsed into an immutable `UseCase`, from which search, gates, online store and HTTP API follow.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from data.errors import ConfigError, Fault, faults
from data.schema.batch_schedule import BatchSchedule
from data.schema.entity import Entity
from data.schema.events.event_source import EventSource
from data.schema.features.feature import Feature, FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.schema.features.feature_views import check_expressions, window_features
from data.schema.features.window_feature import WindowFeature
from data.schema.model_policy import FIGURE_GATES, Calibration, Cost, Decision, Gates, PolicyTable, Slice
from data.schema.reason_codes import ReasonCodes
from data.schema.search import Metric, Range, Search
from data.schema.split import Split
from data.schema.task import Binary, Multiclass, Ranking, Regression, Task
from data.schema.toml_mistake import explain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = (
    "card_fraud",
    "credit_card_fraud_10k",
    "delivery_time",
    "post_sentiment",
    "product_ranking",
    "ticket_routing",
)
"""Names of the use cases that come with the project."""


class UseCase(PolicyTable):
    """One use case. `schema_` holds the declared features in the file's order (`schema` is a method of pydantic's)."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    description: str = ""
    label: str
    """Column to predict; what it holds, `task` says."""
    task: Task = Binary()
    """The kind of target; default: labels 0 and 1 (or false and true)."""
    key: str | None = None
    """Column that identifies a row; carried along by batch scoring, checked for duplicates."""
    event_time: str | None = None
    """Column with the time a row became known."""
    entity: Entity | None = None
    split: Split = Split()
    search: Search = Search()
    gates: Gates = Gates()
    decision: Decision = Decision()
    calibration: Calibration = Calibration.AUTO
    """How the model's probabilities are corrected, by scores out of fold."""
    slices: tuple[Slice, ...] = ()
    """Columns by whose values the figures on the holdout are reported apart."""
    known_at: dict[str, str] = Field(default_factory=dict)
    """Feature -> column with the time its value became known; one after the event time is reported as a leak."""
    events: dict[str, EventSource] = Field(default_factory=dict)
    """Sources of the events that window features aggregate, by name."""
    materialized: BatchSchedule | None = None
    """When the online features are materialized, required if there are any; training joins what the store would have
    held by it."""
    explanation: ReasonCodes | None = None
    """The reason codes that an answer may be asked for; no value: the service has none."""
    features: dict[str, Feature]

    @model_validator(mode="before")
    @classmethod
    def _name_features(cls, value: Any) -> Any:
        features = value.get("features") if isinstance(value, dict) else None
        if isinstance(features, dict):
            named = {k: {"name": k, **v} if isinstance(v, dict) else v for k, v in features.items()}
            value = {**value, "features": named}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> UseCase:
        if not self.features:
            raise ValueError("features: declare at least one")
        roles = {self.label: "label", self.key: "key", self.event_time: "event_time"}
        if (listed := self.task.list_column) is not None:
            if listed in roles:
                raise ValueError(f"task.group: the column is already the {roles[listed]}")
            roles[listed] = "group"
        for name in self.features:
            if name in roles:
                raise ValueError(f"features.{name}: the column is already the {roles[name]}")
        if self.entity and self.entity.column in self.features:
            raise ValueError(f"features.{self.entity.column}: the column is already the entity")
        if self.strategy == "time" and self.event_time is None:
            raise ValueError("split.strategy: 'time' needs event_time")
        if self.strategy == "entity" and self.entity is None:
            raise ValueError("split.strategy: 'entity' needs [entity]")
        if self.split.validation + self.split.holdout >= 0.9:
            raise ValueError("split: validation and holdout leave less than a tenth of the rows to train on")
        return self

    @model_validator(mode="after")
    def _of_one_kind(self) -> UseCase:
        task = self.task
        if self.metric not in task.metrics:
            known = ", ".join(metric.value for metric in task.metrics)
            raise ValueError(f"search.metric: '{self.metric.value}' is not of a {task.kind} target; known: {known}")
        if self.calibration not in (*task.CALIBRATIONS, Calibration.AUTO):
            known = ", ".join(each.value for each in task.CALIBRATIONS)
            raise ValueError(f"calibration: '{self.calibration.value}' is not for a {task.kind} target; known: {known}")
        # By value: a use case that was written out whole and is read again names every key.
        limits = {name for name in FIGURE_GATES if getattr(self.gates, name) != Gates.model_fields[name].default}
        for name in sorted(limits - task.GATES):
            known = ", ".join(sorted(task.GATES))
            raise ValueError(f"gates.{name}: a {task.kind} target has no such figure; known: {known}")
        if self.explanation is not None and not task.explained:
            raise ValueError(f"explanation: answers of a {task.kind} target cannot be explained; leave the section out")
        if self.decision != Decision() and not task.decides:
            raise ValueError(f"decision: a {task.kind} target has no threshold; leave [decision] out")
        return self

    @model_validator(mode="after")
    def _stored(self) -> UseCase:
        online = [f.name for f in self.features.values() if f.online]
        if online and self.entity is None:
            raise ValueError(f"features.{online[0]}.source: an online feature needs [entity]")
        if online and self.event_time is None:
            raise ValueError(f"features.{online[0]}.source: an online feature needs event_time")
        if online and self.materialized is None:
            names = ", ".join(f"features.{name}" for name in online)
            raise ValueError(
                f"{names}: the store holds the value of an earlier row, and nothing says of which; declare at the top "
                'when rows are stored, e.g. materialized = { every = "1d", takes = "2h" }; or source = "request" if '
                "the caller knows the value with the row; or a window over events"
            )
        return self

    @model_validator(mode="after")
    def _computed(self) -> UseCase:
        for name, source in self.events.items():
            if not name.isidentifier():
                raise ValueError(f"events.{name}: a source is named by letters, digits and _")
            if source.own and (self.key is None or self.event_time is None):
                absent = "key" if self.key is None else "event_time"
                raise ValueError(f"events.{name}: its events are the rows of the table, which needs {absent}")
            for value in source.values:
                if source.own and not source.delayed and value == self.label:
                    raise ValueError(
                        f"events.{name}.values.{value}: the label is not known with the row; put it into a source of "
                        "its own with known_at or delay"
                    )
        # Not `schema_`, which would be cached, and go into a copy that has other features.
        schema = FeatureSchema(features=tuple(self.features.values()))
        window_features(schema, self.events)
        check_expressions(schema)
        return self

    @model_validator(mode="after")
    def _derived(self) -> UseCase:
        roles = {self.label: "label", self.key: "key", **dict.fromkeys(self.features, "feature of that name")}
        if self.entity:
            roles[self.entity.column] = "entity"
        for feature in self.features.values():
            if feature.score is not None:
                raise ValueError(f"features.{feature.name}.score: set by training; declare the text by type = 'text'")
            for name in feature.inputs if feature.derive is not None else ():
                if name in roles:
                    raise ValueError(f"features.{feature.name}: {name!r} is no time but the {roles[name]}")
        return self

    @model_validator(mode="after")
    def _reported(self) -> UseCase:
        sliced = [part.column for part in self.slices]
        for name in sliced:
            if sliced.count(name) > 1 or name == self.label:
                why = "the column is the label" if name == self.label else "the column is named twice"
                raise ValueError(f"slices.{name}: {why}")
        for name, column in self.known_at.items():
            if name not in self.features:
                raise ValueError(f"known_at.{name}: no such feature")
            if self.event_time is None:
                raise ValueError(f"known_at.{name}: {column!r} is compared with event_time, which is not declared")
        if self.explanation is not None:
            self.explanation.check(self.features)
        return self

    @cached_property
    def schema_(self) -> FeatureSchema:
        """The declared features in order, vocabularies not fitted yet."""
        return FeatureSchema(features=tuple(self.features.values()))

    @cached_property
    def windows(self) -> tuple[WindowFeature, ...]:
        """The window features in schema order, with their sources and entities."""
        return window_features(self.schema_, self.events)

    @property
    def texts(self) -> tuple[str, ...]:
        """Names of the features that are texts."""
        return tuple(f.name for f in self.features.values() if f.type is FeatureType.TEXT)

    @property
    def metric(self) -> Metric:
        """What the search is judged by: as declared, else as the kind of target suggests."""
        return self.search.metric or self.task.metric

    @property
    def joins_stored(self) -> bool:
        """Whether training takes online features from what the store would have held, not from the row itself."""
        return self.materialized is not None and bool(self.schema_.online)

    @property
    def strategy(self) -> str:
        """The split strategy in force: as declared, else "time" with an event time and "random" without."""
        return self.split.strategy or ("time" if self.event_time else "random")

    @property
    def view(self) -> str:
        """Name of the feature view in the online store; changes with its layout, so old rows are never misread."""
        return f"{self.name}@{self.schema_.view_fingerprint[:8]}"

    @property
    def columns(self) -> list[str]:
        """Every column that training reads, each once: those of features first, then label, key, times and slices."""
        computed = {feature.name for feature in self.schema_.features if feature.is_computed}
        extra = [self.label, self.key, self.event_time, self.entity.column if self.entity else None]
        extra += self.task.columns
        extra += [*(part.column for part in self.slices if part.column not in computed), *self.known_at.values()]
        for source in self.events.values():
            extra += [*source.entity_columns, *source.values, source.known_at] if source.own else []
        for window in self.windows:
            entity = self.events[window.source].entity(window.by)
            extra += entity.columns if entity is not None else ()
        return list(dict.fromkeys([*self.schema_.columns, *(name for name in extra if name)]))

    @cached_property
    def empty_values(self) -> frozenset[str]:
        """Names of the categories of which '' is a value."""
        return frozenset(f.name for f in self.features.values() if f.empty_is_value)

    def categories(self) -> list[str]:
        """Return the names of the categories whose vocabulary is fitted, as none is declared."""
        return [f.name for f in self.features.values() if f.type is FeatureType.CATEGORY and f.vocabulary is None]


def load_use_case(name_or_path: str | Path) -> UseCase:
    """Read a use case by the name of a shipped one or by the path of its TOML file.

    Raises:
        ConfigError: no such file, not TOML (with line), or a wrong key (with its path and what was expected).
    """
    path = find_use_case(name_or_path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: cannot be read: {exc}") from exc
    return parse_use_case(text, str(path))


def find_use_case(name_or_path: str | Path) -> Path:
    """Return the path of a use case's file; raises ConfigError when there is none."""
    if str(name_or_path) in SHIPPED:
        return Path(str(resources.files("data") / "use_cases" / f"{name_or_path}.toml"))
    path = Path(name_or_path)
    if not path.is_file():
        raise ConfigError(f"no use case '{name_or_path}': not a file, and not one of: {', '.join(SHIPPED)}")
    return path


def parse_use_case(text: str, origin: str) -> UseCase:
    """Parse the text of a use-case file; `origin` is named in errors (ConfigError)."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{origin}: not valid TOML: {exc}") from exc
    try:
        return UseCase.model_validate(raw)
    except ValidationError as exc:
        lines = [f"{origin}: {explain(_in_the_file(fault), text, _known_keys)}" for fault in faults(exc)]
        raise ConfigError("\n".join(lines)) from exc


def _in_the_file(fault: Fault) -> Fault:
    """A fault by the keys of the file: pydantic names the kind of a task as one more."""
    first, *rest = fault.path or ("",)
    return fault._replace(path=(first, *rest[1:])) if first == "task" and rest else fault


def _known_keys(path: Sequence[str]) -> list[str]:
    """The keys that belong where the last of `path` stands."""
    model = UseCase
    inside: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {
        "features": (UseCase, Feature),
        "events": (UseCase, EventSource),
        "materialized": (BatchSchedule, BatchSchedule),
        "entity": (Entity, Entity),
        "split": (Split, Split),
        "search": (Search, Range),
        "gates": (Gates, Gates),
        "decision": (Decision, Cost),
        "slices": (UseCase, Slice),
        "explanation": (ReasonCodes, ReasonCodes),
    }
    if len(path) >= 2 and path[0] == "task":
        return sorted({name for kind in (Binary, Multiclass, Regression, Ranking) for name in kind.model_fields})
    if len(path) >= 2 and path[0] in inside:
        model = inside[path[0]][len(path) > 2]
    return sorted(name for name in model.model_fields if not (model is Feature and name == "name"))
