"""The kinds of answers in an evaluation: what changed into what on the rows that fell, what was mistaken for what, and what was cut."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from batchkit import formatting
from batchkit.annotation.row_answers import read_row_answers
from batchkit.datasets.values import text_of
from batchkit.errors import BatchkitError
from batchkit.evaluation.results import scored_row
from batchkit.evaluation.scorers.base import is_labelled, pick
from batchkit.evaluation.scorers.letters import AnswerLetter, LetterReader
from batchkit.reports import charts
from batchkit.reports.evaluation_headline import arm_name, brief
from batchkit.reports.text import cut
from batchkit.reports.views import Counted, Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from batchkit.annotation.request_answer import RequestAnswer
    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.results import ScoredRow
    from batchkit.evaluation.scorers import ScorerBase
    from batchkit.models import Workload
    from batchkit.reports.evaluation_sides import Sides

    LabelReader = Callable[[RequestAnswer], str]

#: Scorers whose answers are labels.
_OF_LABELS = frozenset({"choice", "exact", "normalised", "answer_letter"})
_SHOWN = 10
#: More kinds than this are no labels but texts.
_MOST_KINDS = 2_000
#: Of more rows that fell, only the first are counted by kind.
_MOST_FALLEN = 100_000
_LABEL_BYTES = 60
_NOTHING = "(no answer)"


class Kind(NamedTuple):
    """A label that took the place of another one, in answers of one arm."""

    arm: int
    first: str
    second: str


@dataclass(slots=True)
class Kinds:
    """What was found by scorer: ``flips`` on the rows that fell, ``mistakes`` (expected, answered) on all rows of this run.

    ``cut`` and ``cut_before`` count by arm the answers that ended by the limit of tokens, ``answers`` and ``answers_before`` all of them.
    ``lost`` says why the former answers could not be read.
    """

    flips: dict[str, Counter[Kind]] = field(default_factory=dict)
    mistakes: dict[str, Counter[Kind]] = field(default_factory=dict)
    cut: Counter[int] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    cut_before: Counter[int] = field(default_factory=Counter)
    answers_before: Counter[int] = field(default_factory=Counter)
    is_part: bool = False
    lost: str = ""


class _Fallen(NamedTuple):
    """A fallen row's answer of today, which waits for its former one."""

    scorer: str
    arm: int
    label: str


def read_kinds(
    runner: Runner, sides: Sides, workload: Workload, note: Callable[[ScoredRow], None] = lambda _row: None
) -> Kinds:
    """Read the answers of a run once, and those of the run that it was compared with. Memory grows with the rows that fell only.

    ``note`` gets each answer with its scores.
    """
    found = Kinds()
    readers = {scorer.label: label_reader(scorer) for scorer in sides.suite.scorers if scorer.kind in _OF_LABELS}
    fallen = _read_now(runner, sides, workload, readers, found, note=note)
    former = sides.former
    if former is None:
        return found
    if former.workload is None:
        found.lost = f"the answers of {former.name} were cleaned"
        return found
    now = {then: place for place, then in former.arms.items()}
    samples, arms = former.evaluation.samples, len(former.evaluation.arms)
    try:
        for row in read_row_answers(runner, former.workload):
            for answer in row.answers:
                arm = now.get((answer.seq // samples) % arms)
                if arm is not None:
                    _note_former(found, arm, answer, readers, fallen.get(answer.seq, ()))
    except BatchkitError as error:
        return Kinds(
            mistakes=found.mistakes,
            cut=found.cut,
            answers=found.answers,
            lost=f"the answers of {former.name} cannot be read: {error.message}",
        )
    return found


def _read_now(
    runner: Runner,
    sides: Sides,
    workload: Workload,
    readers: Mapping[str, LabelReader],
    found: Kinds,
    *,
    note: Callable[[ScoredRow], None],
) -> dict[int, list[_Fallen]]:
    """Count what this run alone tells; return the answers of rows that fell by the places of their former ones."""
    columns = {scorer.label: scorer.expected or sides.suite.expected for scorer in sides.suite.scorers}
    fallen: dict[int, list[_Fallen]] = {}
    moves = {} if sides.former is None else sides.former.moves
    for row in read_row_answers(runner, workload):
        for answer in row.answers:
            note(scored_row(sides.suite, row.row, answer, sides.scores, moves))
            arm, before = sides.arm_of(answer.seq), sides.former_seq(answer.seq)
            found.answers[arm] += 1
            found.cut[arm] += answer.finish_reason == "length"
            for scorer, label in readers.items():
                truth = row.row.get(columns[scorer] or "")
                if sides.scores[scorer].flat[answer.seq] == 0 and is_labelled(truth):
                    kind = Kind(arm, _short(text_of(truth)), label(answer))
                    _count(found.mistakes.setdefault(scorer, Counter()), kind)
                if before is None or not sides.fell(scorer, answer.seq):
                    continue
                if len(fallen) < _MOST_FALLEN:
                    fallen.setdefault(before, []).append(_Fallen(scorer, arm, label(answer)))
                else:
                    found.is_part = True
    return fallen


def _note_former(
    found: Kinds, arm: int, answer: RequestAnswer, readers: Mapping[str, LabelReader], fallen: Iterable[_Fallen]
) -> None:
    found.answers_before[arm] += 1
    found.cut_before[arm] += answer.finish_reason == "length"
    for one in fallen:
        label = readers[one.scorer](answer)
        # Of several samples of a row that fell, some answers are the same.
        if label != one.label:
            _count(found.flips.setdefault(one.scorer, Counter()), Kind(one.arm, label, one.label))


def label_reader(scorer: ScorerBase) -> LabelReader:
    """Return the function that reads the label of an answer as a scorer does."""
    letters = LetterReader(scorer.letters) if isinstance(scorer, AnswerLetter) else None

    def read(answer: RequestAnswer) -> str:
        value = answer.value if scorer.field is None else pick(answer.value, scorer.field).value
        if answer.status != "succeeded" or value is None:
            return _NOTHING
        text = text_of(value)
        if letters is not None:
            return letters.read(text).letter or "(no letter)"
        return _short(text) or "(empty)"

    return read


def _short(text: str) -> str:
    short = cut(text.strip(), _LABEL_BYTES)
    return f"{short.text}…" if short.missing else short.text


def _count(counts: Counter[Kind], kind: Kind) -> None:
    if kind in counts or len(counts) <= _MOST_KINDS:
        counts[kind] += 1


def kind_tables(sides: Sides, found: Kinds) -> Iterator[Counts]:
    """Yield for each scorer of labels a table of its flips, or of its mistakes where there are no flips."""
    names = [arm_name(arm) for arm in sides.evaluation.arms]
    former = "" if sides.former is None else sides.former.name
    for scorer in sides.suite.scorers:
        flips, mistakes = found.flips.get(scorer.label), found.mistakes.get(scorer.label)
        part = f" Of the first {_MOST_FALLEN:,} rows that fell." if found.is_part else ""
        if flips and are_labels(flips):
            title = f"{brief(scorer.label)}: what fell rows were answered, in {brief(former)} → now"
            yield _table(title, flips, names, ("Prompt and model", "Answered before → now"), part)
        elif mistakes and are_labels(mistakes):
            lost = f" What fell is not shown: {cut(found.lost, 300).text}." if found.lost else ""
            title = f"{brief(scorer.label)}: what was mistaken for what, expected → answered"
            yield _table(title, mistakes, names, ("Prompt and model", "Expected → answered"), lost)


def commonest_flip(found: Kinds) -> str:
    """Return the commonest change of a label on rows that fell, with its count; empty without one."""
    flips = next((flips for flips in found.flips.values() if flips and are_labels(flips)), None)
    if flips is None:
        return ""
    kind, count = min(flips.items(), key=lambda entry: (-entry[1], entry[0]))
    return f"{kind.first} → {kind.second}, {formatting.counted(count, 'time')}"


def are_labels(counts: Counter[Kind]) -> bool:
    """Whether the answers repeat: of free texts each one is of its own kind."""
    if len(counts) > _MOST_KINDS:
        return False
    return len(counts) <= _SHOWN or max(counts.values()) > 1


def _table(title: str, counts: Counter[Kind], names: list[str], columns: tuple[str, ...], note: str) -> Counts:
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    lines = [
        Counted(
            (names[kind.arm], f"{kind.first} → {kind.second}"),
            charts.bar([charts.Part("fill-bad", count)], ordered[0][1]),
            f"{count:,}",
        )
        for kind, count in ordered[:_SHOWN]
    ]
    left = ordered[_SHOWN:]
    rest = (
        f"{formatting.counted(len(left), 'rarer kind')} with {sum(count for _, count in left):,} answers."
        if left
        else ""
    )
    return Counts(title, columns, tuple(lines), f"{rest}{note}".strip(), "Answers")


def cut_sentences(sides: Sides, found: Kinds) -> Iterator[str]:
    """Yield for each prompt and model how many answers the limit of tokens has cut, where they have become more."""
    for place, arm in enumerate(sides.evaluation.arms):
        count, answers = found.cut[place], found.answers[place]
        then, answers_then = found.cut_before[place], found.answers_before[place]
        # Shares are compared: the table may have grown.
        if not count or (answers_then and count * answers_then <= then * answers):
            continue
        before = f"; before {then:,} of {answers_then:,}" if answers_then else ""
        yield (
            f"answers that the limit of tokens has cut (finish_reason length), {arm_name(arm)}:"
            f" {count:,} of {answers:,}{before}"
        )
