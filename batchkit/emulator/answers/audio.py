"""Answers to transcriptions and translations (console.groq.com/docs/speech-to-text)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchkit.emulator.answers.model_request import check_served
from batchkit.emulator.contract.ids import stable_hash
from batchkit.emulator.contract.refusals import refused
from batchkit.emulator.requests.chat_requests import check_model_name, check_number

if TYPE_CHECKING:
    from batchkit.emulator.answers.model_request import ModelRequest

FILE_SECONDS = "emulator.file_seconds"
"""The member in which the server notes how long an uploaded file is."""

_SOURCE_CHARACTERS = 4_000
_MINUTES_30_SECONDS = 1_800


def audio_body(asked: ModelRequest) -> Any:
    """Answer a transcription or translation.

    Raises ``RequestRefused``. With ``response_format`` text the body is a string.
    """
    body = asked.body
    check_audio(body)
    check_served(asked)
    source = body.get("url") or body["filename"]
    shape = body.get("response_format") or "json"
    granularities = body.get("timestamp_granularities") or ["segment"]
    verb = "Transcript" if asked.url.endswith("transcriptions") else "Translation"
    text = f"{verb} of {str(source)[:_SOURCE_CHARACTERS]}"
    if shape == "text":
        return text
    answered: dict[str, Any] = {"text": text}
    if shape == "verbose_json":
        seconds = audio_seconds(body)
        answered = {
            "task": "transcribe" if verb == "Transcript" else "translate",
            "language": body.get("language") or "en",
            "duration": seconds,
            **answered,
            **_timestamps(text, seconds, granularities),
        }
    return {**answered, "x_groq": {"id": asked.request_id}} if asked.dialect.shape == "groq" else answered


def audio_seconds(body: dict[str, Any]) -> float:
    """Return the length of the audio: of an uploaded WAV file its own, else one that depends on the name or url."""
    known = body.get(FILE_SECONDS)
    source = str(body.get("url") or body["filename"])
    return float(10 + stable_hash(source) % _MINUTES_30_SECONDS) if known is None else float(known)


def check_audio(body: dict[str, Any]) -> None:
    """Refuse what Groq refuses in an audio request. Raises ``RequestRefused``."""
    check_model_name(body)
    for name in ("url", "language", "prompt", "response_format"):
        if not isinstance(body.get(name), (str, type(None))):
            raise refused(400, f"'{name}' : value must be a string", param=name)
    check_number(body, "temperature", 0, 1)
    if not body.get("url") and not body.get("filename"):
        raise refused(400, "one of `file` or `url` must be provided", code="missing_required_parameter")
    shape = body.get("response_format") or "json"
    if shape not in {"json", "text", "verbose_json"}:
        raise refused(
            400, f"response_format must be one of [json text verbose_json], not {shape!r}", code="invalid_value"
        )
    granularities = body.get("timestamp_granularities")
    if granularities is None:
        return
    if not isinstance(granularities, list) or any(item not in ("word", "segment") for item in granularities):
        raise refused(400, "timestamp_granularities must be an array of word and segment", code="invalid_value")
    if granularities and shape != "verbose_json":
        raise refused(400, "timestamp_granularities needs response_format verbose_json", code="invalid_value")


def _timestamps(text: str, seconds: float, granularities: list[str]) -> dict[str, Any]:
    stamped: dict[str, Any] = {}
    if "word" in granularities:
        words = text.split()
        step = seconds / len(words)
        stamped["words"] = [
            {"word": word, "start": round(index * step, 2), "end": round((index + 1) * step, 2)}
            for index, word in enumerate(words)
        ]
    if "segment" in granularities:
        stamped["segments"] = [
            {
                "id": 0,
                "seek": 0,
                "start": 0.0,
                "end": seconds,
                "text": text,
                "tokens": [],
                "temperature": 0,
                "avg_logprob": -0.1,
                "compression_ratio": 1.2,
                "no_speech_prob": 0.01,
            }
        ]
    return stamped
