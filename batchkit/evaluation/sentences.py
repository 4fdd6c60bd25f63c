"""The result of a run in sentences, for terminals, pages and messages alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit import formatting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.evaluation.results import Change, EvaluationSummary, RunSpan, Scoring, Window

_MESSAGE_CHARACTERS = 160
_LEAST_P = 0.001
#: The share of the first place in a judge's judgements if the order does not matter.
_NO_BIAS = 0.5


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
    over = "" if change.window is None else f" over {formatting.counted(change.window.runs, 'run')}"
    bound = "certainly beyond" if change.bound == "truth" else "alarm at"
    since = f" since {change.since}" if change.since else ""
    p_value = p_text(1.0 if change.fall_p_value is None else change.fall_p_value)
    means = f"; {window_sentence(change.window)}" if change.window is not None else ""
    return (
        f"{metric_name(change)} fell by {-change.difference:.3f}{over}: {change.before:.3f} -> {change.after:.3f}"
        f" ({bound} {change.threshold or 0.0:.3f}{since}, p {p_value}{means})"
    )


def window_sentence(window: Window) -> str:
    """Return what was compared over several runs."""
    return f"{_mean_of(window.before)} -> {_mean_of(window.after)}"


def _mean_of(span: RunSpan) -> str:
    if span.count == 1:
        return span.first
    return f"the mean of {span.count:,} runs from {span.first} to {span.last}"


def windows(found: EvaluationSummary) -> Iterator[str]:
    """Yield what the alarms over several runs have compared, one sentence for each number of runs."""
    known = dict.fromkeys(change.window for change in (*found.changes, *found.slice_changes) if change.window)
    for window in known:
        yield f"over {formatting.counted(window.runs, 'run')}: {window_sentence(window)}"


def accepting(found: EvaluationSummary) -> str:
    """Return what makes the present level the accepted one after a fall; empty if nothing does."""
    is_named = found.verdict == "regressed" and all(
        scoring.is_enough for scoring in found.scorings if scoring.is_watched
    )
    return f"--against {found.run}" if is_named else ""


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


def between_arms(found: EvaluationSummary) -> Iterator[str]:
    """Yield how every two prompts or models of the run compare, by scorer."""
    for one in found.arm_comparisons:
        is_of_models = one.first_model != one.second_model
        first, second = (one.first_model, one.second_model) if is_of_models else (one.first_prompt, one.second_prompt)
        if is_of_models and one.first_prompt != one.second_prompt:
            first, second = f"{first} with {one.first_prompt}", f"{second} with {one.second_prompt}"
        yield (
            f"{one.scorer}: {second} {one.difference:+.3f} against {first} ({one.low:+.3f} to {one.high:+.3f},"
            f" p {p_text(one.p_value)}; {one.rose:,} rows better, {one.fell:,} worse)"
        )


def of_samples(found: EvaluationSummary) -> Iterator[str]:
    """Yield what more samples of each row would buy."""
    for spread in found.spreads:
        if spread.error is None or spread.error_doubled is None or spread.error_unlimited is None:
            continue
        total = (spread.within or 0.0) + (spread.between or 0.0)
        parts = (
            f"variance {spread.within:.4f} within rows, {spread.between:.4f} between them; "
            if spread.within is not None and spread.between is not None and total
            else ""
        )
        prompt = "" if spread.prompt in {"", "prompt"} else f" with {spread.prompt}"
        yield (
            f"{spread.scorer} of {spread.model}{prompt}: {parts}standard error {spread.error:.4f} with {spread.samples:.3g} samples of"
            f" each row, {spread.error_doubled:.4f} with twice as many, never below {spread.error_unlimited:.4f} with these rows"
        )


def of_judges(found: EvaluationSummary) -> Iterator[str]:
    """Yield how far several judges agree, and how far the order of two answers decided what a judge said."""
    for one in found.between_judges:
        judged = ", ".join(f"{model} {count:,}" for model, count in zip(one.models, one.judged, strict=True))
        alike = (
            "" if one.unanimous is None else f" agree on {one.unanimous:.0%} of the answers that two or more judged;"
        )
        known = (("Fleiss' kappa", one.fleiss), ("Krippendorff's alpha", one.alpha))
        figures = ", ".join(f"{name} {value:.2f}" for name, value in known if value is not None) or one.reason or ""
        yield f"the judges of {one.scorer!r}{alike} {figures}; judged of {formatting.counted(one.answers, 'answer')}: {judged}"
    for bias in found.judge_biases:
        preferred = "first" if bias.for_first_low > _NO_BIAS else "second" if bias.for_first_high < _NO_BIAS else ""
        yield (
            f"the judge {bias.model} of {bias.scorer!r}: the order decided {bias.changed:.0%} of"
            f" {formatting.counted(bias.pairs, 'pair')} ({bias.changed_low:.0%} to {bias.changed_high:.0%});"
            f" the first place got {bias.for_first:.0%} of its judgements ({bias.for_first_low:.0%} to {bias.for_first_high:.0%})"
            f"{f': it prefers the {preferred} place' if preferred else ''}"
        )
