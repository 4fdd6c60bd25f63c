"""Checks that the endpoints beside chat share: their ``input``, and the files of recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from batchkit.preflight.findings import describe, is_integer

if TYPE_CHECKING:
    from batchkit.preflight.findings import PreflightFindings

_DIGEST_CHARS: Final = 64


def check_text(body: dict[str, Any], name: str, what: str, findings: PreflightFindings) -> str | None:
    """Return ``body[name]``, which must be a text with more than blanks; None, with a reason, if it is not. ``what`` says what it is."""
    value = body.get(name)
    if name not in body:
        findings.refuse(f"body.{name} is missing; give {what}")
    elif not isinstance(value, str) or not value.strip():
        findings.refuse(f"body.{name} is {describe(value)}; give {what}")
    else:
        return value
    return None


def check_input(body: dict[str, Any], findings: PreflightFindings) -> None:
    """Refuse a request of ``/responses`` or ``/embeddings`` that has no ``input``: a text, or a list."""
    value = body.get("input")
    if "input" not in body:
        findings.refuse("body.input is missing; give a text or a list")
    elif not isinstance(value, (str, list)) or not value:
        findings.refuse(f"body.input is {describe(value)}; give a text or a list")


def check_file(file: Any, findings: PreflightFindings) -> None:
    """Refuse a local file that is not named as the sync lane reads it: its path, its bytes and its SHA-256."""
    if (
        not isinstance(file, dict)
        or not isinstance(file.get("path"), str)
        or not is_integer(file.get("bytes"))
        or not isinstance(file.get("sha256"), str)
        or len(file["sha256"]) != _DIGEST_CHARS
    ):
        findings.refuse(
            "body.file is no file of this machine; write its path, its bytes and its sha256 as an object, or let "
            "`batchkit transcribe` make the requests"
        )
