"""A workload in Markdown, as Prefect shows it: pure functions from progress and reports to text, rows and payloads.

Texts of the provider are shortened, and characters that would break a Markdown table are escaped.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

from batchkit import formatting
from batchkit.engine import situation
from batchkit.engine.progress import WorkloadState
from batchkit.engine.waves import WaveKind
from batchkit.errors import BatchkitError
from batchkit.reports.costs import cost_text

if TYPE_CHECKING:
    from batchkit.engine.progress import Progress
    from batchkit.engine.waves import Wave
    from batchkit.models import Batch
    from batchkit.steps.context import StepReport

_SAMPLE_CHARACTERS = 200
_KEY_CHARACTERS = 60


def key_part(name: str) -> str:
    """Return the part of an artifact key for a workload's name: lower case, digits and dashes only."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:_KEY_CHARACTERS].strip("-") or "workload"


def wave_name(kind: str, shard_count: int) -> str:
    """Return the name of a wave: ``merge 50 shards``."""
    if kind == WaveKind.RESUBMIT:
        return "resubmit"
    return f"{kind} {shard_count} shard{'' if shard_count == 1 else 's'}"


def counts_line(counts: dict[str, int]) -> str:
    """Return a report's counts: ``50 merged, 12 failed``."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "nothing"


def wave_line(wave: Wave, report: StepReport) -> str:
    """Return the result of a wave in one line for the log."""
    return f"{wave_name(wave.kind, len(wave.shard_ids))}: {counts_line(report.counts)}"


def percent(progress: Progress) -> float:
    """Return the share of answered requests, 0 to 100, including answers counted by the provider and not downloaded yet."""
    return situation.answered_percent(progress)


def progress_line(progress: Progress) -> str:
    """Return one line with the progress of a workload and its waits."""
    parts = [situation.answered_line(progress), *situation.rest_parts(progress)]
    if progress.expired_attempts:
        parts.append(situation.expired_text(progress))
    if progress.doubts:
        parts.append(situation.doubt_text(progress))
    parts += [wait.sentence(progress.read_at, utc=True) for wait in situation.waits(progress)]
    return "; ".join(parts)


def final_state(progress: Progress) -> tuple[str | None, str]:
    """Return the name (None is the default) and the message of the final state of a flow run about one workload."""
    line = progress_line(progress)
    if progress.state is WorkloadState.STOPPED_BY_BUDGET:
        return "StoppedByBudget", line
    if not progress.is_finished:
        return "Unfinished", f"{line}. The same command resumes."
    return None if progress.all_succeeded else "SomeFailed", line


def error_text(error: Exception) -> str:
    """Return an error's text for a state; for an unexpected error only its class, because its text may contain anything."""
    if not isinstance(error, BatchkitError):
        return type(error).__name__
    problems = map(str, getattr(error, "problems", ()))
    return " ".join(filter(None, (f"{error.message}.", *problems, error.hint)))


def attention_rows(progress: Progress) -> list[dict[str, Any]]:
    """Return a row for each batch with problems."""
    return [_attention_row(batch) for batch in progress.attention]


def _attention_row(batch: Batch) -> dict[str, Any]:
    problem = batch.problems[0] if batch.problems else None
    message = ""
    if problem is not None:
        where = "" if problem.line is None else f"line {problem.line}: "
        message = _short(f"{where}{problem.message}")
    return {
        "batch": batch.id,
        "status": batch.status,
        "requests": batch.counts.total,
        "completed": batch.counts.completed,
        "failed": batch.counts.failed,
        "the provider says": message,
        "expires": _moment(batch.expires_at),
    }


def summary(progress: Progress) -> str:
    """Return the final summary of a workload as Markdown: counts, tokens, failures by reason, and how to get the results."""
    workload, counts, usage = progress.workload, progress.counts, progress.usage
    lines = [
        f"# {_plain(workload.name)}",
        "",
        f"{progress_line(progress)}; {formatting.duration(_worked_seconds(progress))} of work.",
        "",
        "| requests | |",
        "|---|---:|",
        f"| in the input | {counts.total:,} |",
        f"| succeeded | {counts.succeeded:,} |",
        f"| failed | {counts.failed:,} |",
        f"| cancelled | {counts.cancelled:,} |",
        *([f"| without an answer yet | {counts.unresolved:,} |"] if counts.unresolved else []),
    ]
    if progress.failures:
        lines += ["", "## Failures by reason", "", "| requests | status | code | for example |", "|---:|---|---|---|"]
        lines += [
            f"| {reason.count:,} | {'' if reason.status_code is None else reason.status_code}"
            f" | {_plain(reason.code)} | {_plain(reason.sample)} |"
            for reason in progress.failures
        ]
    lines += [
        "",
        "## Tokens",
        "",
        "| tokens | |",
        "|---|---:|",
        f"| prompt | {usage.prompt_tokens:,} |",
        f"| completion | {usage.completion_tokens:,} |",
        f"| total | {usage.total_tokens:,} |",
    ]
    if cost := cost_text(progress):
        lines += ["", f"Cost: {cost}."]
    name = shlex.quote(workload.name)
    target = shlex.quote(f"{workload.name}.results.jsonl")
    lines += ["", "## Next", "", "```sh", f"batchkit export {name} {target}"]
    if counts.failed:
        lines.append(f"batchkit resubmit {name} --failed")
    return "\n".join([*lines, "```", ""])


def finished_payload(progress: Progress) -> dict[str, Any]:
    """Return the result of a workload as an event's payload."""
    counts, usage = progress.counts, progress.usage
    return {
        "workload": progress.workload.name,
        "requests": counts.total,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
        "expired_attempts": progress.expired_attempts,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "seconds": round(_worked_seconds(progress), 1),
    }


def _worked_seconds(progress: Progress) -> float:
    worked = progress.worked_seconds
    return progress.read_at - progress.workload.created_at if worked is None else worked


def _plain(text: str) -> str:
    """Return foreign text escaped for a Markdown table or heading."""
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", _short(text))


def _short(text: str) -> str:
    flat = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return flat if len(flat) <= _SAMPLE_CHARACTERS else f"{flat[: _SAMPLE_CHARACTERS - 1]}…"


def _moment(unix_seconds: int | None) -> str:
    if unix_seconds is None:
        return ""
    try:
        return f"{formatting.moment(unix_seconds)} UTC"
    except (ValueError, OverflowError, OSError):
        return str(unix_seconds)  # not a valid time: shown as it is
