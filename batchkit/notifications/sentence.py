"""A notification as one sentence."""

from __future__ import annotations

from typing import Any

from batchkit import formatting


def sentence_of(report: dict[str, Any]) -> str:
    """Return a report (see ``batchkit.engine.announcements``) as one sentence."""
    subject = report.get("run") or report.get("workload") or "a workload"
    result = _result_of(report)
    match report["kind"]:
        case "stopped":
            return f"batchkit stopped working on {subject}: {report['reason']}" + (f"; {result}" if result else "")
        case "budget":
            return f"batchkit: {subject} is {report['reason']}"
        case "regressed":
            previous = (report.get("evaluation") or {}).get("previous")
            beside = f" compared with {previous}" if previous else ""
            return f"batchkit: the evaluation {subject} regressed{beside}"
        case _:
            return f"batchkit: {subject} is finished: {result}"


def _result_of(report: dict[str, Any]) -> str:
    if report.get("evaluation"):
        failed = report["evaluation"]["failed_answers"]
        return f"{report['evaluation']['verdict']}, {formatting.counted(failed, 'answer')} failed"
    counts = report.get("requests")
    if counts is None:
        return ""
    total = formatting.counted(counts["total"], "request")
    if counts["succeeded"] == counts["total"]:
        return f"all {total} succeeded"
    others = [f"{counts[name]:,} {name}" for name in ("failed", "cancelled") if counts[name]]
    return ", ".join([f"{counts['succeeded']:,} of {total} succeeded", *others])
