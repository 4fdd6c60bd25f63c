"""The body of ``/v1/audio/transcriptions`` and ``/v1/audio/translations``."""

from __future__ import annotations

from typing import Any, Final

from batchkit.preflight.findings import PreflightFindings, check_range, describe, one_of
from batchkit.preflight.rules import TRANSLATIONS
from batchkit.provider.groq.models import (
    AUDIO_FORMATS,
    AUDIO_PROMPT_TOKENS,
    AUDIO_TEMPERATURE,
    GRANULARITIES,
    GRANULARITIES_FORMAT,
    SPEECH_TO_TEXT,
    TRANSLATION_LANGUAGE,
)

_CHARS_PER_TOKEN: Final = 4
_SCHEME_CHARS: Final = 16


def check(body: dict[str, Any], endpoint: str, findings: PreflightFindings) -> None:
    """Check the parameters of an audio request; source: console.groq.com/docs/speech-to-text."""
    _check_audio(body, findings)
    _check_language(body, endpoint, findings)
    _check_format(body, findings)
    _check_prompt(body, findings)
    check_range(body, "temperature", AUDIO_TEMPERATURE, SPEECH_TO_TEXT, findings)


def _check_audio(body: dict[str, Any], findings: PreflightFindings) -> None:
    if body.get("file") is not None:
        return
    if "url" not in body:
        findings.refuse(
            f"body.url is missing; give the address of the audio, or the audio itself as Base64URL ({SPEECH_TO_TEXT})"
        )
        return
    url = body["url"]
    if not isinstance(url, str) or not url:
        findings.refuse(f"body.url is {describe(url)}; give the address of the audio as a string ({SPEECH_TO_TEXT})")
        return
    # Only the beginning: the rest may be megabytes of encoded audio.
    scheme, separator, _ = url[:_SCHEME_CHARS].partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        findings.warn("body.url of the audio has a scheme other than http and https, which the provider may not reach")


def _check_language(body: dict[str, Any], endpoint: str, findings: PreflightFindings) -> None:
    language = body.get("language")
    if language is None:
        return
    if not isinstance(language, str):
        findings.refuse(
            f"body.language is {describe(language)}; give an ISO-639-1 code such as 'en' ({SPEECH_TO_TEXT})"
        )
    elif endpoint == TRANSLATIONS and language != TRANSLATION_LANGUAGE:
        findings.refuse(
            f"body.language is {describe(language)}; translations accept only "
            f"'{TRANSLATION_LANGUAGE}', or leave it out ({SPEECH_TO_TEXT})",
        )


def _check_format(body: dict[str, Any], findings: PreflightFindings) -> None:
    wanted = body.get("response_format")
    if wanted is not None and wanted not in AUDIO_FORMATS:
        findings.refuse(f"body.response_format is {describe(wanted)}; give {one_of(AUDIO_FORMATS)} ({SPEECH_TO_TEXT})")
    if body.get("timestamp_granularities[]") is not None:
        findings.warn("body.timestamp_granularities[] is the name in a form; in JSON it is timestamp_granularities")
    granularities = body.get("timestamp_granularities")
    if granularities is None:
        return
    if not isinstance(granularities, list) or any(word not in GRANULARITIES for word in granularities):
        findings.refuse(
            f"body.timestamp_granularities is {describe(granularities)}"
            f"{' with other words' if isinstance(granularities, list) else ''}; "
            f"give a list of {one_of(GRANULARITIES)} ({SPEECH_TO_TEXT})",
        )
    if wanted != GRANULARITIES_FORMAT:
        findings.refuse(
            f"body.timestamp_granularities needs body.response_format '{GRANULARITIES_FORMAT}'; "
            f"set it, or leave the granularities out ({SPEECH_TO_TEXT})",
        )


def _check_prompt(body: dict[str, Any], findings: PreflightFindings) -> None:
    prompt = body.get("prompt")
    if prompt is None:
        return
    if not isinstance(prompt, str):
        findings.refuse(f"body.prompt is {describe(prompt)}; give a string ({SPEECH_TO_TEXT})")
    elif len(prompt) > AUDIO_PROMPT_TOKENS * _CHARS_PER_TOKEN:
        # Tokens cannot be counted here, so the length is no reason to refuse.
        findings.warn(f"body.prompt of the audio is probably longer than the {AUDIO_PROMPT_TOKENS} tokens it may have")
