"""Speech: a WAV file whose tones follow the words, so that the same text always sounds the same (console.groq.com/docs/text-to-speech).

A word is one tone as long as its letters, followed by a pause; its pitch depends on the word and the voice.
"""

from __future__ import annotations

import math
import struct
from array import array
from functools import lru_cache
from typing import TYPE_CHECKING

from batchkit.emulator.answers.model_request import check_served
from batchkit.emulator.contract.ids import stable_hash
from batchkit.emulator.contract.refusals import refused
from batchkit.emulator.requests.chat_requests import check_model_name, check_number

if TYPE_CHECKING:
    from batchkit.emulator.answers.model_request import ModelRequest

SAMPLE_RATE = 24_000
"""Samples a second, of two bytes, in one channel."""

_SAMPLE_BYTES = 2
_LETTER_SECONDS = 0.06
_PAUSE_SECONDS = 0.06
_MAX_CHARACTERS = 10_000
_MAX_CHARACTERS_OF_ORPHEUS = 200
_VOICES = {
    "canopylabs/orpheus-v1-english": ("autumn", "diana", "hannah", "austin", "daniel", "troy"),
    "canopylabs/orpheus-arabic-saudi": ("fahad", "sultan", "lulwa", "noura"),
}
"""The voices by model (console.groq.com/docs/text-to-speech/orpheus); other models take any."""

_LOUDNESS = 6_000
_PITCHES = tuple(range(60, 220, 10))
"""The samples of one wave: 400 to 109 Hz."""


def speech_body(asked: ModelRequest) -> bytes:
    """Answer with a WAV file. Raises ``RequestRefused``."""
    body = asked.body
    check_speech(body)
    check_served(asked)
    return _wav(body["input"], body["voice"])


def check_speech(body: dict[str, object]) -> None:
    """Refuse what the provider refuses in a request for speech. Raises ``RequestRefused``."""
    check_model_name(body)
    for name in ("input", "voice"):
        if not isinstance(body.get(name), str) or not body[name]:
            raise refused(400, f"'{name}' : property '{name}' is missing", param=name)
    voices = _VOICES.get(str(body["model"]))
    longest = _MAX_CHARACTERS if voices is None else _MAX_CHARACTERS_OF_ORPHEUS
    if len(str(body["input"])) > longest:
        raise refused(400, f"'input' : maximum length is {longest} characters", param="input")
    if voices is not None and body["voice"] not in voices:
        raise refused(400, f"voice must be one of [{' '.join(voices)}]", param="voice")
    shape = body.get("response_format") or "wav"
    if shape != "wav":
        raise refused(400, f"response_format must be one of [wav], not {shape!r}", param="response_format")
    check_number(body, "speed", 0.25, 5)


def _wav(text: str, voice: str) -> bytes:
    pause = bytes(int(_PAUSE_SECONDS * SAMPLE_RATE) * _SAMPLE_BYTES)
    samples = b"".join(
        _tone(_PITCHES[stable_hash(voice, word) % len(_PITCHES)], len(word)) + pause for word in text.split()
    )
    per_second = SAMPLE_RATE * _SAMPLE_BYTES
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLE_RATE, per_second, _SAMPLE_BYTES, 8 * _SAMPLE_BYTES)
    data = struct.pack("<4sI", b"data", len(samples))
    return struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(data) + len(samples), b"WAVE") + form + data + samples


def _tone(period: int, letters: int) -> bytes:
    waves = int(letters * _LETTER_SECONDS * SAMPLE_RATE) // period
    return _wave(period) * waves


@lru_cache(maxsize=len(_PITCHES))
def _wave(period: int) -> bytes:
    values = array("h", (int(_LOUDNESS * math.sin(2 * math.pi * place / period)) for place in range(period)))
    return struct.pack(f"<{period}h", *values)
