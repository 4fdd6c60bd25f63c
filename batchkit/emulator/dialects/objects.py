"""Batches, files and models as each provider writes them, from the inner form that the faults have changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from batchkit.emulator.contract.models import model_object

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping

    from batchkit.emulator.dialects.dialect import Dialect

Shown = dict[str, Any]

_OPENAI_KEYS = (
    "id", "object", "endpoint", "model", "errors", "input_file_id", "completion_window", "status", "output_file_id",
    "error_file_id", "created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at", "expired_at",
    "cancelling_at", "cancelled_at", "request_counts", "metadata",
)  # fmt: skip
_INNER_ONLY = frozenset({"project_id", "file_size_bytes"})
_ENDS = ("completed_at", "failed_at", "expired_at", "cancelled_at")
_FILE_KEYS = frozenset({"output_file_id", "error_file_id", "output_file", "error_file"})


def batch_shown(dialect: Dialect, inner: Shown) -> Shown:
    """Return a batch as the provider writes it; members that no dialect knows, which a fault has added, stay."""
    if dialect.shape == "groq":
        return inner
    known = frozenset(_OPENAI_KEYS) | _INNER_ONLY
    extra = {key: value for key, value in inner.items() if key not in known}
    shown = _WRITERS[dialect.shape](inner) | extra
    if "status" in shown:
        shown["status"] = dialect.status_words.get(shown["status"], shown["status"])
    for key in _FILE_KEYS & shown.keys():
        if shown[key] is None and dialect.no_file == "absent":
            del shown[key]
        elif shown[key] is None and dialect.no_file == "empty":
            shown[key] = ""
    for key in dialect.absent_members & shown.keys():
        del shown[key]
    return shown


def _openai_batch(inner: Shown) -> Shown:
    shown = {key: inner[key] for key in _OPENAI_KEYS if key in inner}
    if isinstance(shown.get("errors"), list):
        shown["errors"] = {"object": "list", "data": shown["errors"]}
    return shown


def _together_batch(inner: Shown) -> Shown:
    counts = inner.get("request_counts") or {}
    done, total = counts.get("completed", 0) + counts.get("failed", 0), counts.get("total", 0)
    columns: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
        ("id", "id", _same),
        ("input_file_id", "input_file_id", _same),
        ("file_size_bytes", "file_size_bytes", _same),
        ("status", "status", _same),
        ("job_deadline", "expires_at", _iso),
        ("created_at", "created_at", _iso),
        ("endpoint", "endpoint", _same),
        ("progress", "request_counts", lambda _: round(100 * done / total, 2) if total else 0.0),
        ("model_id", "model", _same),
        ("output_file_id", "output_file_id", _same),
        ("error_file_id", "error_file_id", _same),
        ("error", "errors", _one_sentence),
    )
    shown = {target: write(inner[source]) for target, source, write in columns if source in inner}
    return shown | {"completed_at": _iso(_ended_at(inner))}


def _mistral_job(inner: Shown) -> Shown:
    counts = inner.get("request_counts") or {}
    completed, failed = counts.get("completed", 0), counts.get("failed", 0)
    columns: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
        ("id", "id", _same),
        ("object", "object", _same),
        ("input_files", "input_file_id", lambda file_id: [file_id]),
        ("metadata", "metadata", _same),
        ("endpoint", "endpoint", _same),
        ("model", "model", _same),
        ("output_file", "output_file_id", _same),
        ("error_file", "error_file_id", _same),
        ("errors", "errors", _counted),
        ("status", "status", _same),
        ("created_at", "created_at", _same),
        ("started_at", "in_progress_at", _same),
    )
    shown = {target: write(inner[source]) for target, source, write in columns if source in inner}
    return shown | {
        "agent_id": None,
        "outputs": None,
        "completed_at": _ended_at(inner),
        "total_requests": counts.get("total", 0),
        "completed_requests": completed + failed,
        "succeeded_requests": completed,
        "failed_requests": failed,
    }


def _same(value: Any) -> Any:
    return value


def _iso(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _ended_at(inner: Shown) -> int | None:
    return next((inner[key] for key in _ENDS if inner.get(key) is not None), None)


def _problems(errors: Any) -> Iterable[Mapping[str, Any]]:
    listed = errors.get("data") if isinstance(errors, dict) else errors
    return listed or ()


def _one_sentence(errors: Any) -> str | None:
    """Return all problems in one text, which is all that Together says."""
    return "; ".join(_with_line(problem) for problem in _problems(errors)) or None


def _with_line(problem: Mapping[str, Any]) -> str:
    return problem["message"] if problem["line"] is None else f"line {problem['line']}: {problem['message']}"


def _counted(errors: Any) -> list[Shown]:
    """Return each text with the number of its lines: Mistral names no line."""
    counts: dict[str, int] = {}
    for problem in _problems(errors):
        counts[problem["message"]] = counts.get(problem["message"], 0) + 1
    return [{"message": message, "count": count} for message, count in counts.items()]


_WRITERS: dict[str, Callable[[Shown], Shown]] = {
    "openai": _openai_batch,
    "together": _together_batch,
    "mistral": _mistral_job,
}


def file_shown(dialect: Dialect, row: sqlite3.Row, *, ready: bool) -> Shown:
    """Return a file as the provider writes it; ``ready`` is whether a batch may use it."""
    is_input = row["purpose"] == "batch"
    shown = {
        "id": row["id"],
        "object": "file",
        "bytes": row["bytes"],
        "created_at": row["created_at"],
        "filename": row["filename"],
        "purpose": dialect.upload_purpose if is_input else row["purpose"],
    }
    match dialect.shape:
        case "groq":
            return shown
        case "openai":
            status = "processed" if ready else "pending"
            return {**shown, "expires_at": None, "status": status, "status_details": None}
        case "together":
            return {**shown, "purpose": dialect.upload_purpose, "FileType": "jsonl", "processing_status": "COMPLETED"}
        case "mistral":
            kind = "batch_request" if is_input else f"batch_{'error' if '_error.' in row['filename'] else 'result'}"
            more = {"sample_type": kind, "source": "upload" if is_input else "mistral", "num_lines": None}
            return {**shown, "purpose": dialect.upload_purpose, **more, "mimetype": "application/jsonl"}


def deletion_shown(dialect: Dialect, file_id: str) -> Shown:
    """Return the confirmation that a file was deleted."""
    shown: Shown = {"id": file_id, "object": "file", "deleted": True}
    if dialect.shape == "together":
        del shown["object"]
    return shown


def model_shown(dialect: Dialect, model_id: str) -> Shown:
    """Return a model as the provider writes it."""
    shown = model_object(model_id)
    if dialect.shape == "groq":
        return shown
    plain = {key: shown[key] for key in ("id", "object", "created", "owned_by")}
    if dialect.shape == "together":
        return {**plain, "type": "chat", "context_length": shown["context_window"]}
    if dialect.shape == "mistral":
        return {**plain, "capabilities": {"completion_chat": True}, "max_context_length": shown["context_window"]}
    return plain
