"""Conditions of IAM policies, evaluated as AWS documents them (IAM JSON policy elements)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# What is known of a request: condition key in lower case -> its values.
Context = Mapping[str, Sequence[str]]
Comparison = Callable[[str, str], bool]


def wildcard_match(pattern: str, text: str, ignore_case: bool = False) -> bool:
    """Match `*` (any text) and `?` (any character), as in ARNs and StringLike."""
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    return re.fullmatch("".join(parts), text, flags) is not None


def _same_text(expected: str, actual: str) -> bool:
    return expected == actual


def _same_text_any_case(expected: str, actual: str) -> bool:
    return expected.lower() == actual.lower()


def _in_network(expected: str, actual: str) -> bool:
    try:
        return ipaddress.ip_address(actual) in ipaddress.ip_network(expected, strict=False)
    except ValueError:
        return False


def _numbers(compare: Callable[[float, float], bool]) -> Comparison:
    def check(expected: str, actual: str) -> bool:
        try:
            return compare(float(actual), float(expected))
        except ValueError:
            return False

    return check


_POSITIVE: dict[str, Comparison] = {
    "stringequals": _same_text,
    "stringequalsignorecase": _same_text_any_case,
    "stringlike": wildcard_match,
    "arnequals": wildcard_match,
    "arnlike": wildcard_match,
    "bool": _same_text_any_case,
    "ipaddress": _in_network,
    "numericequals": _numbers(lambda actual, expected: actual == expected),
    "numericlessthan": _numbers(lambda actual, expected: actual < expected),
    "numericlessthanequals": _numbers(lambda actual, expected: actual <= expected),
    "numericgreaterthan": _numbers(lambda actual, expected: actual > expected),
    "numericgreaterthanequals": _numbers(lambda actual, expected: actual >= expected),
}
_NEGATED = {
    "stringnotequals": "stringequals",
    "stringnotequalsignorecase": "stringequalsignorecase",
    "stringnotlike": "stringlike",
    "arnnotequals": "arnequals",
    "arnnotlike": "arnlike",
    "notipaddress": "ipaddress",
    "numericnotequals": "numericequals",
}


class UnknownOperatorError(ValueError):
    """A condition operator that is not evaluated here."""


def holds(condition: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    """Tell whether all of a statement's conditions hold. Raises UnknownOperatorError."""
    return all(
        _clause_holds(operator, key, _as_list(expected), context)
        for operator, clauses in condition.items()
        for key, expected in clauses.items()
    )


def _as_list(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(v).lower() if isinstance(v, bool) else str(v) for v in values]


def _clause_holds(operator: str, key: str, expected: list[str], context: Context) -> bool:
    quantifier, _, name = operator.lower().rpartition(":")
    optional = name.endswith("ifexists")
    name = name.removesuffix("ifexists")
    actual = context.get(key.lower())
    if name == "null":
        return (expected[0].lower() == "true") == (actual is None)
    negated = name in _NEGATED
    compare = _POSITIVE.get(_NEGATED.get(name, name))
    if compare is None:
        raise UnknownOperatorError(operator)
    if actual is None:
        return optional or negated or quantifier == "forallvalues"
    matches = [any(compare(wanted, value) for wanted in expected) != negated for value in actual]
    return any(matches) if quantifier == "foranyvalue" else all(matches)
