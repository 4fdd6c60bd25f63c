"""The lines of OpenAI's shape: what is refused by every server that speaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from batchkit.preflight.findings import describe
from batchkit.preflight.inputs import check_input, check_text
from batchkit.preflight.rules import CHAT, EMBEDDINGS, RESPONSES, SPEECH, TRANSCRIPTIONS, TRANSLATIONS

if TYPE_CHECKING:
    from batchkit.preflight.findings import PreflightFindings

#: Parameters whose values are not checked: each server knows its own.
PLAIN_PARAMETERS: Final = frozenset(
    {
        "model",
        "messages",
        "max_completion_tokens",
        "max_tokens",
        "seed",
        "response_format",
        "reasoning_effort",
        "temperature",
        "top_p",
        "frequency_penalty",
        "presence_penalty",
    },
)
_CONVERSATION: Final = "give the conversation as a list of messages"


def check_body(
    body: dict[str, Any],
    endpoint: str,
    model: str | None,  # noqa: ARG001 - as every provider's check is called
    line_bytes: int,  # noqa: ARG001 - as above
    findings: PreflightFindings,
) -> None:
    """Check that a request has what it asks; parameters differ from server to server, and are left to it."""
    if endpoint == SPEECH:
        check_text(body, "input", "the text to speak", findings)
        check_text(body, "voice", "a voice", findings)
    elif endpoint in {RESPONSES, EMBEDDINGS}:
        check_input(body, findings)
    elif endpoint in {TRANSCRIPTIONS, TRANSLATIONS}:
        _check_recording(body, findings)
    if endpoint != CHAT:
        return
    if "messages" not in body:
        findings.refuse(f"body.messages is missing; {_CONVERSATION}")
    elif not isinstance(body["messages"], list) or not body["messages"]:
        findings.refuse(f"body.messages is {describe(body['messages'])}; {_CONVERSATION}")


def _check_recording(body: dict[str, Any], findings: PreflightFindings) -> None:
    if body.get("file") is None and (not isinstance(body.get("url"), str) or not body["url"]):
        findings.refuse("body.file and body.url are missing; give one of them: the recording")


def are_plain(_body: dict[str, Any]) -> bool:
    """Accept all values of ``PLAIN_PARAMETERS``."""
    return True
