"""The result of a run in sentences, for terminals, pages and messages alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit import formatting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.evaluation.results import Change, EvaluationSummary, Scoring

_MESSAGE_CHARACTERS = 160
_LEAST_P = 0.001


def p_text(p_value: float) -> str:
    """Return a p-value with no more digits than it deserves."""
    return "<0.001" if p_value < _LEAST_P else f"{p_value:.3f}"


def metric_name(of: Change | Scoring) -> str:
    """Return the name of a metric: its scorer, model, prompt if it has a name of its own, and slice."""
    prompt = "" if of.prompt in {"", "prompt"} else f" with {of.prompt}"
    within = getattr(of, "slice", None)
    return f"{of.scorer} of {of.model}{prompt}" + (f" in {within}" if within else "")


def alarm_sentence(change: Change) -> str:
    """Return why an alarm went off."""
    beside = f" compared with {change.baseline}" if change.baseline else ""
    bound = "certainly beyond" if change.bound == "truth" else "alarm at"
    p_value = p_text(1.0 if change.fall_p_value is None else change.fall_p_value)
    return (
        f"{metric_name(change)} fell by {-change.difference:.3f}{beside}: {change.before:.3f} -> {change.after:.3f}"
        f" ({bound} {change.threshold or 0.0:.3f}, p {p_value})"
    )


def scoring_sentence(scoring: Scoring) -> str:
    """Return how many answers a scorer has scored, and why it has not scored the others."""
    reasons = [
        f"{count:,} {what}"
        for count, what in (
            (scoring.failed, "failed"),
            (scoring.unlabelled, "without an expected value"),
            (scoring.errors, "that the scorer could not decide"),
        )
        if count
    ]
    text = f"{metric_name(scoring)}: {scoring.scored:,} of {formatting.counted(scoring.answers, 'answer')} scored"
    if reasons:
        text += f"; {', '.join(reasons)}"
    if scoring.commonest_error is not None:
        message = " ".join(formatting.printable(scoring.commonest_error).split())
        shown = message if len(message) <= _MESSAGE_CHARACTERS else message[: _MESSAGE_CHARACTERS - 1] + "…"
        text += f" ({scoring.commonest_count:,} times: {shown})"
    return text


def lacking(found: EvaluationSummary) -> Iterator[Scoring]:
    """Yield what was scored too little to count: first what decides the verdict."""
    short = [scoring for scoring in found.scorings if not scoring.is_enough]
    yield from sorted(short, key=lambda scoring: not scoring.is_watched)


def reason(found: EvaluationSummary) -> str:
    """Return why a run has its verdict, in one sentence; empty for a run that passed."""
    match found.verdict:
        case "regressed":
            return "; ".join(map(alarm_sentence, found.alarms))
        case "unscored":
            return "; ".join(scoring_sentence(scoring) for scoring in lacking(found) if scoring.is_watched)
        case "incomparable":
            return next(iter(found.notes), "")
        case "first":
            return next(iter(found.notes), "nothing to compare with yet")
        case _:
            return ""
