"""Transcripts: their text, their segments, and a quality.

The three numbers of a segment are those of console.groq.com/docs/speech-to-text, "Understanding Metadata Fields". The page calls
an ``avg_logprob`` of -0.5 or lower a sign of trouble, a ``no_speech_prob`` near 1 silence or noise, and an unusual
``compression_ratio`` repeated or garbled words. It has no limits for the last two; the limits here are Whisper's defaults.
"""

from __future__ import annotations

import math
from typing import Any, Final

LOW_CONFIDENCE_LOGPROB: Final = -0.5
NO_SPEECH_PROBABILITY: Final = 0.6
REPEATED_COMPRESSION_RATIO: Final = 2.4

_NUMBERS: Final = ("start", "end", "avg_logprob", "no_speech_prob", "compression_ratio")


def read_transcript(body: Any) -> dict[str, Any] | None:
    """Return the transcript of a transcription's or translation's body; None if the body has none.

    It has ``text``, ``language``, ``duration`` (seconds), ``segments`` (each with ``start`` and ``end`` in seconds, ``text``, the three
    numbers and its ``quality``) and ``quality``: the worst of the segments, ``ok`` < ``low_confidence`` < ``repetitive`` <
    ``no_speech``; None without segments.
    """
    if isinstance(body, str):
        return _transcript(body, {}, [])
    if not isinstance(body, dict) or not isinstance(text := body.get("text"), str):
        return None
    raw = body.get("segments")
    segments = [_segment(item) for item in raw if isinstance(item, dict)] if isinstance(raw, list) else []
    return _transcript(text, body, segments)


_ORDER: Final = ("ok", "low_confidence", "repetitive", "no_speech")


def _transcript(text: str, body: dict[str, Any], segments: list[dict[str, Any]]) -> dict[str, Any]:
    language = body.get("language")
    return {
        "text": text.strip(),
        "language": language if isinstance(language, str) else None,
        "duration": _number(body.get("duration")),
        "segments": segments,
        "quality": max((segment["quality"] for segment in segments), key=_ORDER.index, default=None),
    }


def _segment(item: dict[str, Any]) -> dict[str, Any]:
    text = item.get("text")
    segment: dict[str, Any] = {name: _number(item.get(name)) for name in _NUMBERS}
    segment["text"] = text.strip() if isinstance(text, str) else ""
    segment["quality"] = _quality(segment)
    return segment


def _quality(segment: dict[str, Any]) -> str:
    logprob, silence, ratio = segment["avg_logprob"], segment["no_speech_prob"], segment["compression_ratio"]
    if silence is not None and silence > NO_SPEECH_PROBABILITY:
        return "no_speech"
    if ratio is not None and ratio > REPEATED_COMPRESSION_RATIO:
        return "repetitive"
    if logprob is not None and logprob <= LOW_CONFIDENCE_LOGPROB:
        return "low_confidence"
    return "ok"


def _number(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
