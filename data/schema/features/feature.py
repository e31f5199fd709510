"""One declared feature: its type, source, default and range, or what it is computed from.

The bottom of the import graph: every other module uses its types, and it imports only what a feature's keys mean.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal, Protocol

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    model_serializer,
    model_validator,
)

from data.schema.features.expression import Expression
from data.schema.features.window_feature import WindowKeys

Scalar = StrictBool | StrictInt | StrictFloat | str
"""A raw value of a feature, as JSON, TOML and Parquet hold it. Strict, so that pydantic turns no 1 into true."""


class FeatureType(str, Enum):
    """The type of a feature's raw value."""

    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    TEXT = "text"
    """Words in their order, such as a post: a linear model of them gives the numbers that the trees see."""


class Source(str, Enum):
    """Where a feature's value comes from at prediction time."""

    REQUEST = "request"
    ONLINE = "online"
    EITHER = "either"
    EVENTS = "events"
    """Of a window feature: the events of an entity. Set by itself, not by hand."""
    COMPUTED = "computed"
    """Of an expression: other features. Set by itself, not by hand."""


class Derivation(str, Enum):
    """What a derived feature computes from a time, all in UTC."""

    HOUR = "hour"
    """0 to 23."""
    WEEKDAY = "weekday"
    """0 (Monday) to 6 (Sunday)."""
    DAY = "day"
    """Of the month, 1 to 31."""
    MONTH = "month"
    """1 to 12."""
    AGE_DAYS = "age_days"
    """Days, with their fraction, from the time until that of another column; below 0 when it is the later one."""


MAX_TEXT = 100_000
"""Most characters of a text."""


class TextScorer(Protocol):
    """The fitted linear model of a text feature."""

    @property
    def digest(self) -> str:
        """Hash (16 hex digits) of all that determines a score."""
        ...

    def scores(self, text: str) -> tuple[float, ...]:
        """Return the scores of a text, each a float32."""
        ...


class TextScore(BaseModel):
    """Which number of which text model a score is."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str
    """`TextScorer.digest`."""
    at: Annotated[int, Field(ge=0)]
    """Which of the model's scores."""


class Feature(WindowKeys):
    """One declared feature. Only a category has a `vocabulary`, and None until it is declared or fitted.

    Fitted, a text feature is replaced by its scores: a number each, which comes from the text in `column`.
    """

    name: str
    type: FeatureType
    source: Source = Source.REQUEST
    default: Scalar | None = None
    """Value used where neither request nor store has one. Without it the model sees a missing value."""
    optional: bool = False
    """A request may leave the feature out although it has no default."""
    vocabulary: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Known categories, in code order; fitted on the training rows when not declared."""
    empty: Literal["missing", "value"] = "missing"
    """What '' means: that the value is missing, or a word of the category like any other."""
    min: float | None = None
    """Smallest value accepted."""
    max: float | None = None
    """Largest value accepted."""
    monotone: Literal[1, -1] | None = None
    """The probability never falls (1), or never rises (-1), as the value grows and all others stay."""
    derive: Derivation | None = None
    """What is computed from the time in `column`; the feature itself is neither in a table nor in a request."""
    column: str | None = None
    """Column, and field of a request, with the time that the feature is derived from; of a score, with the text."""
    as_of: str | None = None
    """Column, and field of a request, with the time at which an age is taken."""
    expression: str | None = None
    """Arithmetic over other features, e.g. "amount / card_mean_30d"; the feature itself is nowhere sent or stored."""
    score: TextScore | None = None
    """Of a number that a text model gives. Set by training, not by hand."""
    description: str = ""
    _scorer: TextScorer | None = PrivateAttr(default=None)
    """The text model itself, which a bundle holds in a file of its own."""

    @model_validator(mode="before")
    @classmethod
    def _place_computed(cls, value: Any) -> Any:
        """Fill in the type and the source that follow from an aggregate or an expression."""
        if not isinstance(value, dict):
            return value
        if value.get("aggregate") is not None or value.get("window") is not None:
            whole = value.get("aggregate") in ("count", "distinct")
            return {"type": "integer" if whole else "number", "source": "events", **value}
        if value.get("expression") is not None:
            return {"type": "number", "source": "computed", **value}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Feature:
        category = self.type is FeatureType.CATEGORY
        if self.vocabulary is not None and not category:
            raise ValueError(f"vocabulary belongs to type 'category', not '{self.type.value}'")
        if self.vocabulary is not None and len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError("vocabulary names a category twice")
        if "empty" in self.model_fields_set:
            self._check_empty()
        ranged = self.min is not None or self.max is not None
        if ranged and self.type not in (FeatureType.NUMBER, FeatureType.INTEGER):
            raise ValueError(f"min and max belong to numbers, not to type '{self.type.value}'")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        if self.monotone is not None and (category or self.type is FeatureType.TEXT):
            raise ValueError(
                f"monotone belongs to numbers and booleans: the words of a {self.type.value} have no order"
            )
        self._check_text()
        self._check_derivation()
        self._check_computed()
        if self.default is not None:
            self._check_default(self.default)
        return self

    def _check_empty(self) -> None:
        if self.type is not FeatureType.CATEGORY:
            raise ValueError(f"empty belongs to type 'category': for type '{self.type.value}' '' is always missing")
        if self.empty == "missing" and self.empty_is_value:
            where = "default" if self.default == "" else "vocabulary"
            raise ValueError(f"empty says that '' is missing, but '' is in the {where}; write empty = \"value\"")

    def _check_text(self) -> None:
        if self.score is not None and (self.column is None or self.type is not FeatureType.NUMBER):
            raise ValueError("a text score is a number, of the text in column")
        if self.type is not FeatureType.TEXT:
            return
        if self.source is not Source.REQUEST:
            raise ValueError(f"a text comes with the request: source '{self.source.value}' is not possible")
        if self.default is not None:
            raise ValueError("a text has no default; write optional = true if a request may leave it out")

    def _check_derivation(self) -> None:
        if self.score is not None:
            return
        if self.derive is None:
            stray = next((name for name in ("column", "as_of") if getattr(self, name) is not None), None)
            if stray is not None:
                raise ValueError(f'{stray} belongs to a derived feature: say what to derive, e.g. derive = "weekday"')
            return
        aged = self.derive is Derivation.AGE_DAYS
        expected = FeatureType.NUMBER if aged else FeatureType.INTEGER
        if self.column is None:
            raise ValueError(f"derive = '{self.derive.value}' needs column, the one that holds the time")
        if self.type is not expected:
            raise ValueError(f"derive = '{self.derive.value}' gives type '{expected.value}', not '{self.type.value}'")
        if aged != (self.as_of is not None):
            needs = "needs as_of, the column with the time at which the age is taken" if aged else "takes no as_of"
            raise ValueError(f"derive = '{self.derive.value}' {needs}")
        if self.source is not Source.REQUEST:
            raise ValueError(
                f"a derived feature is computed from what the request sends: source '{self.source.value}' is not "
                "possible; store the number itself under a feature without derive"
            )

    def _check_computed(self) -> None:
        kinds = {"derive": self.derive is not None, "aggregate": self.is_window, "expression": self.is_expression}
        said = [name for name, given in kinds.items() if given]
        if len(said) > 1:
            raise ValueError(f"{said[0]} and {said[1]} are two ways of computing it: give one")
        expected = {"aggregate": Source.EVENTS, "expression": Source.COMPUTED}.get(said[0] if said else "")
        if expected is None and self.source in (Source.EVENTS, Source.COMPUTED):
            needs = "aggregate and window" if self.source is Source.EVENTS else "expression"
            raise ValueError(f"source '{self.source.value}' needs {needs}")
        if expected is not None and self.source is not expected:
            raise ValueError(f"{said[0]} is computed by the service: source '{self.source.value}' is not possible")
        if self.aggregate is not None and self.aggregate.is_integer and self.type is not FeatureType.INTEGER:
            raise ValueError(f"aggregate = '{self.aggregate.value}' gives type 'integer', not '{self.type.value}'")
        if self.is_expression and self.type is not FeatureType.NUMBER:
            raise ValueError(f"an expression gives type 'number', not '{self.type.value}'")
        if self.expression is not None:
            Expression(self.expression)

    def _check_default(self, default: Scalar) -> None:
        python = {
            FeatureType.NUMBER: (int, float),
            FeatureType.INTEGER: (int,),
            FeatureType.BOOLEAN: (bool,),
            FeatureType.CATEGORY: (str,),
            FeatureType.TEXT: (str,),
        }[self.type]
        # bool is a subclass of int in Python: true would pass for 1.
        numeric_bool = isinstance(default, bool) and self.type is not FeatureType.BOOLEAN
        if numeric_bool or not isinstance(default, python):
            raise ValueError(f"default {default!r} is not of type '{self.type.value}'")
        if isinstance(default, float) and default != default:
            raise ValueError("default must not be NaN; leave it out and the model sees a missing value")
        if isinstance(default, (int, float)) and not isinstance(default, bool):
            below = self.min is not None and default < self.min
            above = self.max is not None and default > self.max
            if below or above:
                raise ValueError(f"default {default!r} is outside min and max")
        if self.vocabulary is not None and default not in self.vocabulary:
            raise ValueError(f"default {default!r} is not in the vocabulary")

    @model_serializer(mode="wrap")
    def _sparse(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Without what says nothing new, so that fingerprints and bundles of before these keys stay what they are.
        return {name: value for name, value in dump(self).items() if (name, value) not in _UNSAID}

    @property
    def empty_is_value(self) -> bool:
        """Whether '' is a word of this category, declared as one or learned as one; else it is a missing value."""
        return self.empty == "value" or self.default == "" or "" in (self.vocabulary or ())

    def without_default(self) -> Feature:
        """Return the feature as one whose missing values stay missing; what '' means does not change."""
        empty = {"empty": "value"} if self.empty_is_value else {}
        return self.model_copy(update={"default": None, **empty})

    @property
    def required(self) -> bool:
        """Whether a request without this feature is refused."""
        return self.source is Source.REQUEST and self.default is None and not self.optional

    @property
    def online(self) -> bool:
        """Whether the online store holds this feature, as the row of a batch view."""
        return self.source in (Source.ONLINE, Source.EITHER)

    @property
    def is_expression(self) -> bool:
        """Whether the feature is computed from other features."""
        return self.expression is not None

    @property
    def is_derived(self) -> bool:
        """Whether the feature is computed from other columns of the row itself: from times, or from a text."""
        return self.derive is not None or self.score is not None

    @property
    def is_computed(self) -> bool:
        """Whether the service computes the feature: it is neither in a table nor in a request nor in a stored row."""
        return self.is_derived or self.is_window or self.is_expression

    @property
    def declared_name(self) -> str:
        """The name of the feature that a use case declares: of a text score that of its text."""
        return self.name if self.score is None else self.inputs[0]

    @property
    def scorer(self) -> TextScorer:
        """The model of a text score.

        Raises:
            ValueError: it is not loaded.
        """
        if self._scorer is None:
            raise ValueError(f"feature '{self.name}': its text model is not loaded; read the model by its bundle")
        return self._scorer

    def scored_by(self, scorer: TextScorer) -> Feature:
        """Return the feature, a text score, with its model.

        Raises:
            ValueError: the score is of another model.
        """
        if self.score is None or self.score.model != scorer.digest:
            raise ValueError(f"feature '{self.name}' is no score of the text model {scorer.digest}")
        scored = self.model_copy()
        scored._scorer = scorer
        return scored

    @property
    def derived_from(self) -> str:
        """How the feature is derived, such as "weekday of signup_date"; empty for one that is not."""
        if self.score is not None:
            return f"score {self.score.at} of the text {self.column}"
        return "" if self.derive is None else f"{self.derive.value} of {' as of '.join(self.inputs)}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of a table, and fields of a request, that the value comes from: one or, of an age, two.

        A window feature and an expression have none: theirs are those of events and of other features.
        """
        if self.is_window or self.is_expression:
            return ()
        return tuple(name for name in (self.column, self.as_of) if name is not None) or (self.name,)


_UNSAID = (
    ("empty", "missing"),
    *((name, None) for name in ("monotone", "derive", "column", "as_of", "expression", "score")),
    *((name, field.default) for name, field in WindowKeys.model_fields.items()),
)
"""Keys of a feature with the values that they have where nothing is declared."""
