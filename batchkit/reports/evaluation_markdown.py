"""An evaluation in Markdown, as Prefect shows it: pure functions from a summary to text, rows and payloads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from batchkit.evaluation import sentences

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.evaluation.results import Change, EvaluationSummary, Metric

#: Prefect shows all rows of an artifact.
_MOST_ROWS = 200
_BREAKS_A_TABLE = re.compile(r"[|\r\n`\[\]<>]")


def metric_rows(found: EvaluationSummary) -> list[dict[str, Any]]:
    """Return a row for each metric, those over all rows before those of slices."""
    ordered = sorted(found.metrics, key=lambda metric: metric.slice is not None)
    return [_metric_row(metric) for metric in ordered[:_MOST_ROWS]]


def _metric_row(metric: Metric) -> dict[str, Any]:
    return {
        "metric": metric.scorer,
        "prompt": metric.prompt,
        "model": metric.model,
        "rows of": metric.slice or "all",
        "rows": metric.count,
        "mean": round(metric.mean, 4),
        "95 % from": round(metric.low, 4),
        "to": round(metric.high, 4),
        "unscored": metric.unscored,
    }


def text(found: EvaluationSummary, report: Path | None) -> str:
    """Return the result of a run in Markdown: the verdict, the changes, and the link to the report."""
    lines = [f"# {_cell(found.run)}: {found.verdict}", ""]
    if report is not None:
        lines += [f"[The report]({report.absolute().as_uri()}) is in `{_cell(str(report.absolute()))}`.", ""]
    if found.changes:
        lines += [
            f"Compared with {_cell(found.previous or '')}:",
            "",
            "| metric | prompt | model | pairs | before | after | change | p | alarm |",
            "|---|---|---|---:|---:|---:|---:|---:|---|",
            *(_change_line(change) for change in found.changes[:_MOST_ROWS]),
            "",
        ]
    short = [f"not enough is scored: {sentences.scoring_sentence(scoring)}" for scoring in sentences.lacking(found)]
    lines += [f"- {_cell(note)}" for note in (*short, *found.differences, *found.notes)]
    return "\n".join(lines)


def _change_line(change: Change) -> str:
    numbers = (
        f"{change.pairs} | {change.before:.4f} | {change.after:.4f} | {change.difference:+.4f} | {change.p_value:.4f}"
    )
    names = " | ".join(map(_cell, (change.scorer, change.prompt, change.model)))
    over = "" if change.window is None else f"over {change.window.runs} runs"
    return f"| {names} | {numbers} | {' '.join(filter(None, ('ALARM' if change.is_alarm else '', over)))} |"


def _cell(value: str) -> str:
    return _BREAKS_A_TABLE.sub(" ", value)


def finished_payload(found: EvaluationSummary) -> dict[str, Any]:
    """Return the result of a run as an event's payload."""
    return {
        "suite": found.suite,
        "run": found.run,
        "previous": found.previous,
        "suite_version": found.suite_version,
        "verdict": found.verdict,
        "failed_answers": found.failed_answers,
        "means": [
            {"scorer": metric.scorer, "prompt": metric.prompt, "model": metric.model, "mean": metric.mean}
            for metric in found.metrics
            if metric.slice is None
        ],
    }


def regressed_payload(found: EvaluationSummary) -> dict[str, Any]:
    """Return the raised alarms of a run as an event's payload."""
    return {
        **finished_payload(found),
        "alarms": [
            {
                "scorer": change.scorer,
                "prompt": change.prompt,
                "model": change.model,
                "slice": change.slice,
                "before": change.before,
                "after": change.after,
                "difference": change.difference,
                "threshold": change.threshold,
                "fall_p_value": change.fall_p_value,
                "pairs": change.pairs,
                "runs": None if change.window is None else change.window.runs,
                "since": change.since,
            }
            for change in found.alarms
        ],
    }
