"""The body of ``/v1/audio/speech``; source: console.groq.com/docs/text-to-speech."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchkit.preflight.findings import describe, one_of
from batchkit.preflight.inputs import check_text
from batchkit.provider.groq.models import SPEECH_CHARACTERS, SPEECH_FORMATS, SPEECH_VOICES, TEXT_TO_SPEECH

if TYPE_CHECKING:
    from batchkit.preflight.findings import PreflightFindings


def check(body: dict[str, Any], model: str | None, findings: PreflightFindings) -> None:
    """Check the parameters of a request for speech."""
    name = (model or "").lower()
    text = check_text(body, "input", f"the text to speak ({TEXT_TO_SPEECH})", findings)
    most = SPEECH_CHARACTERS.get(name)
    if text is not None and most is not None and len(text) > most:
        findings.refuse(
            f"body.input has {len(text):,} characters; {name} speaks at most {most:,}: cut it into several ({TEXT_TO_SPEECH})"
        )
    voices = SPEECH_VOICES.get(name, ())
    choice = f", such as {one_of(voices)}" if voices else ""
    voice = check_text(body, "voice", f"a voice{choice} ({TEXT_TO_SPEECH})", findings)
    if voice is not None and voices and voice not in voices:
        # Voices are added more often than this table changes.
        findings.warn(f"body.voice is not documented for this model; {one_of(voices)} are")
    wanted = body.get("response_format")
    if wanted is not None and wanted not in SPEECH_FORMATS:
        findings.refuse(f"body.response_format is {describe(wanted)}; give {one_of(SPEECH_FORMATS)} ({TEXT_TO_SPEECH})")
