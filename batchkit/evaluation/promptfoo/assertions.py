"""Assertions as scorers: what every test expects in the same way is in the suite, what differs is in columns of the dataset."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from batchkit.errors import UsageError
from batchkit.evaluation.promptfoo.cases import is_template, text
from batchkit.evaluation.promptfoo.prompts import Names
from batchkit.evaluation.scorers import Regex, SchemaValid
from batchkit.files import jsonl
from batchkit.formatting import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchkit.evaluation.promptfoo.cases import Assertion, ImportedTest
    from batchkit.evaluation.promptfoo.reading import Notes

#: Other names for the same thing, and what is nearest to a thing.
_SAME: Final = {"model-graded-factuality": "factuality", "model-graded-closedqa": "llm-rubric"}
#: Scorers whose expected value may be in a column, by the assertion.
_BY_COLUMN: Final[dict[str, dict[str, Any]]] = {
    "equals": {"kind": "exact"},
    "equals-json": {"kind": "json_equal"},
    "contains": {"kind": "contains", "ignore_case": False},
    "icontains": {"kind": "contains"},
    "similar": {"kind": "similarity"},
    "factuality": {"kind": "judge", "template": "factuality"},
    "llm-rubric": {
        "kind": "judge",
        "template": "rubric",
        "criteria": "The reference says what a good answer must be like: grade the answer by it.",
    },
}
_DIFFERENCES: Final = {
    "similar": "`similar` compares embeddings there, the words of the texts here, so its scores are others",
    "model-graded-closedqa": "`model-graded-closedqa` is graded from 1 to 5 here, by the judge's template `rubric`",
}
#: What passes without anything in the answer. It is no assertion of the configuration's.
_ANSWERED: Final = {"kind": "regex", "name": "answered", "pattern": r"\S"}


@dataclass(slots=True)
class _Slot:
    """An assertion that several tests have, with the value of each test by its place."""

    assertion: Assertion
    values: dict[int, Any] = field(default_factory=dict)

    def constant(self, tests: int) -> Any:
        """The value, if all tests have the same; None otherwise."""
        first = next(iter(self.values.values()))
        is_everywhere = len(self.values) == tests and all(value == first for value in self.values.values())
        return first if is_everywhere else None


@dataclass(slots=True)
class ImportedScorers:
    """The scorers as a suite has them, the values of their columns by test, and scorers that a person must finish."""

    scorers: list[dict[str, Any]] = field(default_factory=list)
    columns: dict[str, dict[int, Any]] = field(default_factory=dict)
    unfinished: list[dict[str, Any]] = field(default_factory=list)


def scorers_of(tests: Sequence[ImportedTest], models: Sequence[str], notes: Notes) -> ImportedScorers:
    """Return the scorers of the assertions that have a counterpart; the others are noted."""
    made = ImportedScorers()
    names = Names()
    columns = Names({name for test in tests for name in test.variables})
    for slot in _slots(tests, notes, made):
        assertion = slot.assertion
        label = names.new(assertion.metric or assertion.kind.replace("-", "_"))
        by_column = assertion.kind in _BY_COLUMN
        scorer = _by_column(slot, len(tests)) if by_column else _by_value(slot, len(tests), notes)
        if scorer is None:
            continue
        if assertion.kind in {"llm-rubric", "factuality"}:
            scorer["model"] = assertion.model or models[0]
            if assertion.model is None:
                notes.add(assertion.where, f"the judge is {models[0]}, as no grader is named; name another `model`")
            elif assertion.model not in models:
                notes.add(assertion.where, f"the judge is the model {assertion.model} of your account")
        if scorer.pop("_column", False):
            scorer["expected"] = columns.new("expected" if not made.columns else f"expected_{label}")
            made.columns[scorer["expected"]] = slot.values
        made.scorers.append({"kind": scorer.pop("kind"), "name": label, **scorer})
    if not made.scorers:
        notes.add("scorers", "no assertion has a counterpart, so the suite only finds answers that are empty")
        made.scorers.append(dict(_ANSWERED))
    return made


def _slots(tests: Sequence[ImportedTest], notes: Notes, made: ImportedScorers) -> list[_Slot]:
    slots: dict[tuple[Any, ...], _Slot] = {}
    for place, test in enumerate(tests):
        seen: Counter[tuple[Any, ...]] = Counter()
        for given in test.assertions:
            assertion = _plain(given, notes, made)
            if assertion is None:
                continue
            what: tuple[Any, ...] = (assertion.kind, assertion.metric, assertion.model)
            if assertion.kind not in _BY_COLUMN:
                # Such a scorer has one value for all rows.
                what = (*what, jsonl.dumps(assertion.value))
            seen[what] += 1
            slots.setdefault((*what, seen[what]), _Slot(assertion)).values[place] = assertion.value
    return list(slots.values())


def _plain(given: Assertion, notes: Notes, made: ImportedScorers) -> Assertion | None:
    """Return an assertion by the name of the scorer it becomes; None, and a note, if there is none."""
    kind, value = _SAME.get(given.kind, given.kind), given.value
    if given.kind in _DIFFERENCES:
        notes.add(given.where, _DIFFERENCES[given.kind])
    if given.threshold is not None and kind in {"similar", "llm-rubric", "factuality"}:
        notes.add(given.where, f"the threshold of `{given.kind}` has no counterpart: the score itself is kept")
    if kind == "python":
        _add_unfinished(given, notes, made)
        return None
    if re.fullmatch(r"i?contains-(any|all)", kind) and isinstance(value, list) and len(value) == 1:
        kind, value = kind.rpartition("-")[0], value[0]
    if kind == "equals" and isinstance(value, (dict, list)):
        kind = "equals-json"
    elif kind in _BY_COLUMN:
        value = text(value)
    if kind not in _BY_COLUMN and kind not in _BY_VALUE:
        notes.add(given.where, f"`{given.kind}` has no counterpart")
        return None
    if is_template(value):
        notes.add(given.where, f"the value of `{given.kind}` is a template of more than the test's variables: {value}")
        return None
    if kind in _BY_COLUMN and kind != "equals-json" and not value.strip():
        notes.add(given.where, f"`{given.kind}` has no value, so there is nothing to compare with")
        return None
    return replace(given, kind=kind, value=value)


def _add_unfinished(given: Assertion, notes: Notes, made: ImportedScorers) -> None:
    function = "package.module:function"
    file = re.fullmatch(r"file://(?:.*/)?(\w+)\.py(?::(\w+))?", given.value if isinstance(given.value, str) else "")
    if file is not None:
        function = f"{file[1]}:{file[2] or 'get_assert'}"
    notes.add(
        given.where,
        f"`python` is called with the output and a context there, and with the row and the answer here: adapt {function}, and"
        " take the scorer out of the comment",
    )
    scorer = {"kind": "python", "name": given.metric or "python", "function": function}
    if scorer not in made.unfinished:
        made.unfinished.append(scorer)


def _by_column(slot: _Slot, tests: int) -> dict[str, Any]:
    kind, constant = slot.assertion.kind, slot.constant(tests)
    scorer = dict(_BY_COLUMN[kind])
    if constant is not None and kind in {"contains", "icontains"}:
        return {**scorer, "text": constant}
    if constant is not None and kind == "llm-rubric":
        return {**scorer, "criteria": constant}
    return {**scorer, "_column": True}


def _by_value(slot: _Slot, tests: int, notes: Notes) -> dict[str, Any] | None:
    assertion = slot.assertion
    if len(slot.values) < tests:
        notes.add(
            assertion.where,
            f"`{assertion.kind}` is asserted by {counted(len(slot.values), 'test')} of {tests:,}; such a scorer applies to all"
            " rows or to none, so it is left out",
        )
        return None
    try:
        scorer = _BY_VALUE[assertion.kind](assertion.value)
        kind = SchemaValid if scorer["kind"] == "schema_valid" else Regex
        problem = next((reason for _, reason in kind.model_validate(scorer).contradictions()), None)
    except (ValidationError, UsageError, ValueError) as error:
        problem = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
    if problem is not None:
        notes.add(assertion.where, f"`{assertion.kind}` is left out: {problem}")
        return None
    return scorer


def _texts(value: Any) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    texts = [text(part) for part in listed]
    if not texts or any(not part.strip() for part in texts):
        raise ValueError("it has no value")
    return texts


def _pattern(pattern: str, *, ignore_case: bool = False) -> dict[str, Any]:
    return {"kind": "regex", "pattern": pattern, **({"ignore_case": True} if ignore_case else {})}


def _any(value: Any) -> str:
    return "|".join(map(re.escape, _texts(value)))


def _all(value: Any) -> str:
    return r"(?s)\A" + "".join(f"(?=.*{re.escape(part)})" for part in _texts(value))


def _none(value: Any) -> str:
    return rf"(?s)\A(?!.*(?:{_any(value)}))"


def _schema(value: Any) -> dict[str, Any]:
    if isinstance(value, str) and value.strip():
        value = jsonl.loads(value)
    return {"kind": "schema_valid", "schema": value if isinstance(value, dict) else {}}


#: Scorers whose value is in the suite, by the assertion. Patterns are searched in the first characters of an answer.
_BY_VALUE: Final[dict[str, Callable[[Any], dict[str, Any]]]] = {
    "regex": lambda value: _pattern(_texts(value)[0]),
    "not-regex": lambda value: _pattern(rf"(?s)\A(?!.*(?-s:{_texts(value)[0]}))"),
    "starts-with": lambda value: _pattern(rf"\A{re.escape(_texts(value)[0])}"),
    "contains-any": lambda value: _pattern(_any(value)),
    "icontains-any": lambda value: _pattern(_any(value), ignore_case=True),
    "contains-all": lambda value: _pattern(_all(value)),
    "icontains-all": lambda value: _pattern(_all(value), ignore_case=True),
    "not-contains": lambda value: _pattern(_none(value)),
    "not-icontains": lambda value: _pattern(_none(value), ignore_case=True),
    "not-contains-any": lambda value: _pattern(_none(value)),
    "not-icontains-any": lambda value: _pattern(_none(value), ignore_case=True),
    "is-json": _schema,
}
