"""The top of an evaluation's page: the verdict, what else changed, and the figures, first the one that explains the verdict."""

from __future__ import annotations

from itertools import groupby, islice
from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.evaluation import sentences
from batchkit.reports.headline import Headline
from batchkit.reports.text import cut
from batchkit.reports.views import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batchkit.evaluation.results import Change, EvaluationSummary, LabelFigures, Metric, Scoring
    from batchkit.store.evaluations import Arm

_SENTENCE_BYTES = 400
_NAME_BYTES = 200
_FIGURES = 4
_MOST_ALARMS = 3
_MOST_CHANGED = 20
_FIXED = {
    "unfinished": Headline(
        "unfinished",
        "open",
        "The run is not finished: there are no scores yet.",
        "Exit code 4: the same command resumes.",
    ),
    "first": Headline(
        "first",
        "good",
        "The run is finished and scored; there was no run to compare with.",
        "Exit code 0 when every request succeeded, else 3.",
    ),
    "rescored": Headline(
        "rescored", "open", "The answers of another run were scored again.", "It is compared with no other run."
    ),
}


def headline_of(summary: EvaluationSummary) -> Headline:
    """Return the verdict of a run, with its exit code."""
    if summary.verdict in _FIXED:
        return _FIXED[summary.verdict]
    if summary.verdict == "regressed":
        return _regressed(summary)
    if summary.verdict == "unscored":
        why = cut(sentences.reason(summary), _SENTENCE_BYTES).text
        return Headline(
            "unscored",
            "bad",
            f"Too few answers have a score: {why}.",
            "Exit code 3: this run is compared with no other.",
        )
    if summary.verdict == "incomparable":
        why = cut(sentences.reason(summary), _SENTENCE_BYTES).text
        return Headline("incomparable", "open", f"The run is scored, but not compared: {why}.", "Exit code 3.")
    watched = [change for change in (*summary.changes, *summary.slice_changes) if change.threshold is not None]
    verdict = (
        f"No metric with an alarm fell significantly beyond its threshold, compared with {summary.previous}."
        if watched
        else "The run is finished; no alarm had a run to compare with."
    )
    return Headline("passed", "good", verdict, "Exit code 0 when every request succeeded, else 3.")


def _regressed(summary: EvaluationSummary) -> Headline:
    """Return the headline without the size of the fall: what else changed is read before it."""
    alarms = summary.alarms
    fell = ""
    if alarms:
        first = alarms[0]
        fell = f": {brief(first.scorer)} of {arm_name(first)} fell{f' in {brief(first.slice)}' if first.slice else ''}"
        fell += " the most" if len(alarms) > 1 else ""
    return Headline(
        "regressed",
        "bad",
        f"{formatting.counted(len(alarms), 'alarm')} went off{fell}.",
        f"Exit code 5: worse than {_baselines(summary)}, beyond noise.{_accepting(summary)}",
    )


def _baselines(summary: EvaluationSummary) -> str:
    names = dict.fromkeys(_baseline(change, summary) for change in summary.alarms)
    return " and ".join(islice(filter(None, names), _MOST_ALARMS)) or brief(summary.previous or "an earlier run")


def _baseline(change: Change, summary: EvaluationSummary) -> str:
    if change.window is None:
        return brief(summary.previous or "")
    span = change.window.before
    return brief(span.first if span.count == 1 else f"the {span.count:,} runs from {span.first} to {span.last}")


def _accepting(summary: EvaluationSummary) -> str:
    how = sentences.accepting(summary)
    return f" The next runs say so too, until it is gone or accepted: batchkit eval SUITE {brief(how)}" if how else ""


def changed(summary: EvaluationSummary, cut_answers: Sequence[str]) -> Iterator[str]:
    """Yield what else changed since the run before: any of it may be the cause of a fall. Answers that were cut come first."""
    if summary.previous is None:
        return
    found = [*cut_answers, *summary.differences]
    for sentence in found[:_MOST_CHANGED]:
        yield cut(sentence, _SENTENCE_BYTES).text
    if len(found) > _MOST_CHANGED:
        yield f"{len(found) - _MOST_CHANGED:,} more differences"
    # Runs of earlier versions have not recorded any differences.
    if not found and summary.scorings:
        yield "nothing: the rows, labels, prompts, models, parameters and scorers are the same"


def figures(summary: EvaluationSummary, commonest: str = "") -> Iterator[Figure]:
    """Yield the figures of a run; the first says what fell, what is lacking, or how good the answers are.

    ``commonest`` is the commonest change of an answer on rows that fell.
    """
    if summary.verdict == "regressed" and summary.alarms:
        for change in summary.alarms[:_MOST_ALARMS]:
            yield _fall(change, summary)
    elif summary.verdict == "unscored":
        for scoring in islice(sentences.lacking(summary), _MOST_ALARMS):
            yield _lack(scoring)
    else:
        if summary.verdict == "incomparable":
            why = cut(sentences.reason(summary), _SENTENCE_BYTES).text
            yield Figure("Comparison", "none", why or "too few rows could be compared")
        overall = [metric for metric in summary.metrics if metric.slice is None]
        groups = (list(group) for _, group in groupby(overall, key=lambda metric: metric.scorer))
        yield from map(_best, islice(groups, _FIGURES))
    changes = [change for change in summary.changes if change.window is None]
    if summary.previous is not None and changes:
        down, up = sum(change.flipped_down for change in changes), sum(change.flipped_up for change in changes)
        most = f"; most often {brief(commonest)}" if commonest else ""
        yield Figure(
            "Rows that flipped", f"{down + up:,}", f"{down:,} fell, {up:,} rose since {summary.previous}{most}"
        )
    if summary.verdict != "unfinished":
        yield Figure("Answers that failed", f"{summary.failed_answers:,}", "they have no score of their own")


def _fall(change: Change, summary: EvaluationSummary) -> Figure:
    within = f" in {brief(change.slice)}" if change.slice else ""
    return Figure(
        f"{brief(change.scorer)} fell{within}",
        f"{score_text(change.before)} → {score_text(change.after)}",
        f"{arm_name(change)}, compared with {_baseline(change, summary)}{f', since {brief(change.since)}' if change.since else ''}",
    )


def _lack(scoring: Scoring) -> Figure:
    return Figure(
        f"{brief(scoring.scorer)}: answers scored",
        f"{scoring.scored:,} of {scoring.answers:,}",
        cut(sentences.scoring_sentence(scoring), _SENTENCE_BYTES).text,
    )


def _best(metrics: Sequence[Metric]) -> Figure:
    best = max(metrics, key=lambda metric: metric.mean)
    of = f", the highest of {len(metrics)}" if len(metrics) > 1 else ""
    return Figure(brief(best.scorer), score_text(best.mean), f"{arm_name(best)}{of}")


def arm_name(of: Metric | Change | Scoring | LabelFigures | Arm) -> str:
    """Return the model, with the name of the prompt if it has one of its own."""
    return brief(of.model if of.prompt in {"", "prompt"} else f"{of.prompt}, {of.model}")


def score_text(value: float) -> str:
    """Return a score with three digits."""
    return f"{value:.3f}"


def brief(text: str) -> str:
    """Return the beginning of a name."""
    return cut(text, _NAME_BYTES).text
