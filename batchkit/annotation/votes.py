"""The vote of several annotators: the majority of labels, the median of numbers, and how far they agree."""

from __future__ import annotations

import math
from collections import Counter
from statistics import median, median_low
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from batchkit.answers.check import schema_of_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from batchkit.answers.rules import AnswerRules

    Numbers = Mapping[str, "NumberKind"]


#: A schema may refer to itself.
_DEEPEST = 8


class Vote(NamedTuple):
    """The majority or median ``value``, None if several labels are tied or nobody voted.

    ``agreement`` is the share (0 to 1) of the voters for that value; in a tie that of each leading value, None without voters.
    ``spread`` is the highest minus the lowest of several numbers, by property for objects; None without numbers.
    """

    value: Any
    agreement: float | None
    spread: Any = None


def majority(values: Iterable[Any]) -> Vote:
    """Return the majority of equal values; the numbers 1 and 1.0 are equal, and the order of an object's names does not count."""
    voters = list(values)
    if not voters:
        return Vote(None, None)
    keys = [_key(value) for value in voters]
    (leader, most), *others = Counter(keys).most_common(2)
    is_tie = bool(others) and others[0][1] == most
    return Vote(None if is_tie else voters[keys.index(leader)], most / len(voters))


class NumberKind(NamedTuple):
    """A property that is a number: ``is_whole`` for whole numbers.

    Numbers that differ by more than ``tolerance`` are disputed: a quarter of the range that the rules allow, 0 without one.
    """

    is_whole: bool
    tolerance: float = 0.0


def median_vote(values: Iterable[Any], *, is_whole: bool) -> Vote:
    """Return the median of numbers, which is null if at least half of the values are null.

    With ``is_whole`` it is one of the values: of an even number the lower one in the middle.
    """
    voters = list(values)
    numbers = [value for value in voters if is_number(value)]
    if 2 * len(numbers) <= len(voters):
        return majority(voters) if voters and not numbers else Vote(None, _share(voters, None), _spread(numbers))
    value = median_low(numbers) if is_whole else _median(numbers)
    return Vote(value, _share(voters, value), _spread(numbers))


def are_equal(values: Iterable[Any]) -> bool:
    """Whether all values are equal, as ``majority`` compares them."""
    return len({_key(value) for value in values}) <= 1


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number; true is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def vote_on_objects(
    values: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    labels: Sequence[str] = (),
    numbers: Numbers | None = None,
) -> Vote:
    """Vote on each property separately; a missing one counts as null. ``agreement`` is the mean over ``labels``, by default all.

    ``numbers`` are the properties whose median is taken. The value is an object with all ``names``, the
    spread one with those of ``numbers``; both are None without voters.
    """
    if not values:
        return Vote(None, None)
    kinds = numbers or {}
    votes = {
        name: median_vote(column, is_whole=kinds[name].is_whole) if name in kinds else majority(column)
        for name in names
        for column in [[value.get(name) for value in values]]
    }
    shares = [share for name in labels or names if (share := votes[name].agreement) is not None]
    return Vote(
        {name: vote.value for name, vote in votes.items()},
        sum(shares) / len(shares) if shares else None,
        {name: votes[name].spread for name in kinds} or None,
    )


def label_properties(rules: AnswerRules) -> tuple[str, ...]:
    """Return the properties of a schema on which annotators can be expected to agree: enumerations and booleans.

    Empty if there are none, or if the answer is not an object: then annotators agree on the whole answer.
    """
    schema = schema_of_values(rules) if rules.format == "json" else {}
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return ()
    return tuple(name for name, part in properties.items() if _is_label(part, schema))


def number_properties(rules: AnswerRules) -> dict[str, NumberKind]:
    """Return the properties of an answer that are numbers; enumerations are labels. ``answer`` is the property of a lone number."""
    if rules.format == "number":
        return {"answer": NumberKind(is_whole=False, tolerance=_tolerance(rules.minimum, rules.maximum))}
    schema = rules.json_schema or {}
    properties = schema.get("properties")
    if rules.format != "json" or not isinstance(properties, dict):
        return {}
    found = {}
    for name, part in properties.items():
        if types := _number_types(part, schema):
            bounds = _resolved(part, schema)
            tolerance = _tolerance(bounds.get("minimum"), bounds.get("maximum"))
            found[name] = NumberKind(types == {"integer"}, tolerance)
    return found


def _tolerance(minimum: Any, maximum: Any) -> float:
    return max(maximum - minimum, 0) / 4 if is_number(minimum) and is_number(maximum) else 0.0


def _number_types(part: Any, schema: dict[str, Any], depth: int = 0) -> set[str]:
    """Return ``integer``, ``number`` or both if a property can hold only these and null; else nothing."""
    part = _resolved(part, schema)
    if not part or "enum" in part or "const" in part or depth > _DEEPEST:
        return set()
    options = part.get("anyOf") or part.get("oneOf")
    if isinstance(options, list):
        found: set[str] = set()
        for option in options:
            if isinstance(option, dict) and option.get("type") == "null":
                continue
            types = _number_types(option, schema, depth + 1)
            if not types:
                return set()
            found |= types
        return found
    given = part.get("type")
    types = {given} if isinstance(given, str) else set(given) if isinstance(given, list) else set()
    types.discard("null")
    return types if types and types <= {"integer", "number"} else set()


def _is_label(part: Any, schema: dict[str, Any]) -> bool:
    part = _resolved(part, schema)
    return "enum" in part or "const" in part or part.get("type") == "boolean"


def _resolved(part: Any, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a property's schema, following one reference; empty if it is none."""
    if not isinstance(part, dict):
        return {}
    reference = part.get("$ref")
    if isinstance(reference, str):
        found = schema.get("$defs", {}).get(reference.rpartition("/")[2], {})
        return found if isinstance(found, dict) else {}
    return part


def _share(voters: Sequence[Any], value: Any) -> float | None:
    return sum(voter == value for voter in voters) / len(voters) if voters else None


def _median(numbers: Sequence[float]) -> float:
    try:
        return median(numbers)
    except OverflowError:
        # The mean of two integers beyond what a float can hold.
        return median_low(numbers)


def _spread(numbers: Sequence[float]) -> float | None:
    if not numbers:
        return None
    try:
        return float(max(numbers) - min(numbers))
    except OverflowError:
        return math.inf


def _key(value: Any) -> Any:
    """Return a key that only equal values share; true is not 1."""
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, dict):
        return (dict, frozenset((name, _key(member)) for name, member in value.items()))
    if isinstance(value, list):
        return (list, tuple(map(_key, value)))
    return value
