"""Expressions in a use-case file: arithmetic over features, and comparisons over an event's values.

Both are read by Python's own parser, and only what is named here is taken: no calls, no attributes, no indexing.
Arithmetic is that of float64, by the same rules for a column and for one value: a missing value (NaN) makes the result
missing, and so does a division by zero.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

Number = TypeVar("Number")

_LONGEST = 500
_ARITHMETIC: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
"""The comparison of each sign, of two values or of a numpy array with a value."""


class Comparison(NamedTuple):
    """One comparison of an event's value with a constant."""

    name: str
    sign: str
    constant: bool | int | float | str


class Condition(NamedTuple):
    """Comparisons that must all hold; one with a missing value does not."""

    comparisons: tuple[Comparison, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The values that are compared, each once."""
        return tuple(dict.fromkeys(each.name for each in self.comparisons))


class Expression:
    """Arithmetic (+, -, *, / and brackets) over features by name.

    Args:
        text: such as "amount / card_mean_30d".

    Raises:
        ValueError: the text is anything else; says what is taken.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._root = _parsed(text, 'an expression such as "amount / card_mean_30d"')
        self.names: tuple[str, ...] = tuple(
            dict.fromkeys(node.id for node in ast.walk(self._root) if isinstance(node, ast.Name))
        )
        """The features it reads, each once."""
        _check_arithmetic(self._root, text)
        if not self.names:
            raise ValueError(f"expression {text!r} names no feature")

    def evaluate(self, values: Mapping[str, Number], divide: Callable[[Number, Number], Number]) -> Number:
        """Compute it of floats, or of columns of them, by feature; `divide` says what a division by zero gives."""
        return _evaluate(self._root, values, divide)

    def value(self, values: Mapping[str, float]) -> float:
        """Compute one row: from floats by feature, NaN = missing, to a float."""
        try:
            result = self.evaluate(values, _divide)
        except OverflowError:
            return math.nan
        return float(result) if math.isfinite(result) else math.nan


def parse_condition(text: str) -> Condition:
    """Read comparisons joined by `and`, such as "amount > 100 and channel == 'web'".

    Raises:
        ValueError: the text is anything else; says what is taken.
    """
    expected = "comparisons such as \"amount > 100 and channel == 'web'\""
    root = _parsed(text, expected)
    parts = root.values if isinstance(root, ast.BoolOp) and isinstance(root.op, ast.And) else [root]
    return Condition(tuple(_comparison(part, text, expected) for part in parts))


def _parsed(text: str, expected: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise ValueError(f"an expression of {len(text):,} characters; at most {_LONGEST} are taken")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise ValueError(f"{text!r} is not {expected}") from exc


def _comparison(node: ast.expr, text: str, expected: str) -> Comparison:
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.left, ast.Name):
        sign, constant = _COMPARISONS.get(type(node.ops[0])), _constant(node.comparators[0])
        if sign is not None and constant is not None:
            if isinstance(constant, (str, bool)) and sign not in ("==", "!="):
                raise ValueError(f"{text!r}: {constant!r} can be compared by == and != alone")
            return Comparison(node.left.id, sign, constant)
    raise ValueError(f"{text!r} is not {expected}: a value's name, one of {' '.join(COMPARE)}, and a constant")


def _constant(node: ast.expr) -> bool | int | float | str | None:
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    held = node.operand if isinstance(node, ast.UnaryOp) and negative else node
    value = held.value if isinstance(held, ast.Constant) else None
    if isinstance(value, (bool, str)):
        return None if negative else value
    if isinstance(value, (int, float)) and math.isfinite(value):
        return -value if negative else value
    return None


def _check_arithmetic(node: ast.expr, text: str) -> None:
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        _check_arithmetic(node.left, text)
        _check_arithmetic(node.right, text)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        _check_arithmetic(node.operand, text)
    elif not isinstance(node, ast.Name) and (_constant(node) is None or isinstance(_constant(node), (bool, str))):
        raise ValueError(f"expression {text!r}: only features, numbers, brackets and + - * / are taken")


def _evaluate(node: ast.expr, values: Mapping[str, Any], divide: Callable[[Any, Any], Any]) -> Any:
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.UnaryOp):
        return -_evaluate(node.operand, values, divide)
    if isinstance(node, ast.BinOp):
        left, right = _evaluate(node.left, values, divide), _evaluate(node.right, values, divide)
        if isinstance(node.op, ast.Div):
            return divide(left, right)
        return {"+": operator.add, "-": operator.sub, "*": operator.mul}[_ARITHMETIC[type(node.op)]](left, right)
    # A float, so that no whole number is computed by Python's own unbounded rules, which a column does not have.
    return float(_constant(node) or 0)


def _divide(left: float, right: float) -> float:
    return left / right if right else math.nan
