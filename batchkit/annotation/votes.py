"""The vote of several annotators: the majority, and how far they agree."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from batchkit.answers import schema_of_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from batchkit.answers import AnswerRules


class Vote(NamedTuple):
    """The majority ``value``, None if several values are tied or nobody voted.

    ``agreement`` is the share (0 to 1) of the voters for that value; in a tie that of each leading value, None without voters.
    """

    value: Any
    agreement: float | None


def majority(values: Iterable[Any]) -> Vote:
    """Return the majority of equal values; the numbers 1 and 1.0 are equal, and the order of an object's names does not count."""
    voters = list(values)
    if not voters:
        return Vote(None, None)
    keys = [_key(value) for value in voters]
    (leader, most), *others = Counter(keys).most_common(2)
    is_tie = bool(others) and others[0][1] == most
    return Vote(None if is_tie else voters[keys.index(leader)], most / len(voters))


def majority_of_objects(values: Sequence[Mapping[str, Any]], names: Sequence[str], labels: Sequence[str] = ()) -> Vote:
    """Vote on each property separately; a missing one counts as null. ``agreement`` is the mean over ``labels``, by default all.

    The value is an object with all ``names``; None without voters.
    """
    if not values:
        return Vote(None, None)
    votes = {name: majority(value.get(name) for value in values) for name in names}
    shares = [share for name in labels or names if (share := votes[name].agreement) is not None]
    return Vote({name: vote.value for name, vote in votes.items()}, sum(shares) / len(shares) if shares else None)


def label_properties(rules: AnswerRules) -> tuple[str, ...]:
    """Return the properties of a schema on which annotators can be expected to agree: enumerations and booleans.

    Empty if there are none, or if the answer is not an object: then annotators agree on the whole answer.
    """
    schema = schema_of_values(rules) if rules.format == "json" else {}
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return ()
    return tuple(name for name, part in properties.items() if _is_label(part, schema))


def _is_label(part: Any, schema: dict[str, Any]) -> bool:
    if not isinstance(part, dict):
        return False
    reference = part.get("$ref")
    if isinstance(reference, str):
        part = schema.get("$defs", {}).get(reference.rpartition("/")[2], {})
    return "enum" in part or "const" in part or part.get("type") == "boolean"


def _key(value: Any) -> Any:
    """Return a key that only equal values share; true is not 1."""
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, dict):
        return (dict, frozenset((name, _key(member)) for name, member in value.items()))
    if isinstance(value, list):
        return (list, tuple(map(_key, value)))
    return value
