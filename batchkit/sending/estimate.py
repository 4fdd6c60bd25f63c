"""How many tokens a request may use, without a tokenizer. Rough: each key corrects it by what its answers used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from batchkit.sending.reservations import Amounts

_CHARS_PER_TOKEN: Final = 4.0
_BYTES_PER_OTHER_TOKEN: Final = 3.0
_TOKENS_PER_MESSAGE: Final = 4.0
#: Images and recordings within a chat are billed by their size, which a URL does not tell; these are usual sizes.
_TOKENS_PER_IMAGE: Final = 1_000.0
_TOKENS_PER_RECORDING: Final = 500.0
#: What a request without a limit of its own is taken to use: the documented default of some reasoning models
#: (console.groq.com/docs/reasoning); for others it is not documented.
DEFAULT_OUTPUT_TOKENS: Final = 1_024.0
_OUTPUT_LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_MEDIA: Final = {
    "image_url": _TOKENS_PER_IMAGE,
    "input_image": _TOKENS_PER_IMAGE,
    "input_audio": _TOKENS_PER_RECORDING,
    "audio_url": _TOKENS_PER_RECORDING,
    "file": _TOKENS_PER_IMAGE,
    "input_file": _TOKENS_PER_IMAGE,
}
#: Members whose text is part of the prompt.
_PROMPT_MEMBERS: Final = (
    "messages",
    "input",
    "prompt",
    "instructions",
    "tools",
    "functions",
    "response_format",
    "text",
)
_DEEPEST: Final = 30
_MOST_OUTPUT: Final = 1e7
#: Endings of endpoints whose answers have no tokens.
_WITHOUT_OUTPUT: Final = ("/embeddings", "/audio/speech", "/moderations")
_OF_RECORDINGS: Final = ("/audio/transcriptions", "/audio/translations")


def estimate(body: Mapping[str, object], endpoint: str, *, audio_seconds: float = 0.0) -> Amounts:
    """Return what a request may use: its input by the length of its texts, its output by the limit that it sets, times ``n``.

    ``audio_seconds`` is the length of its recording, where that is known. Never raises, whatever the body has.
    """
    if endpoint.endswith(_OF_RECORDINGS):
        return Amounts(audio_seconds=audio_seconds)
    found = sum(_tokens(body[name], 0) for name in _PROMPT_MEMBERS if name in body)
    messages = body.get("messages")
    if isinstance(messages, list):
        found += _TOKENS_PER_MESSAGE * len(messages)
    output = 0.0 if endpoint.endswith(_WITHOUT_OUTPUT) else _output_tokens(body)
    return Amounts(input_tokens=found, output_tokens=output, audio_seconds=audio_seconds)


def tokens_of_text(text: str) -> float:
    """Return about how many tokens a text has: four characters of ASCII each, or three bytes of other text."""
    if text.isascii():
        return len(text) / _CHARS_PER_TOKEN
    return len(text.encode("utf-8", "surrogatepass")) / _BYTES_PER_OTHER_TOKEN


def _tokens(value: object, depth: int) -> float:
    if isinstance(value, str):
        return tokens_of_text(value)
    if depth > _DEEPEST:
        return 0.0
    if isinstance(value, Mapping):
        kind = value.get("type")
        if isinstance(kind, str) and kind in _MEDIA:
            return _MEDIA[kind]
        return sum(_tokens(entry, depth + 1) for entry in value.values())
    if isinstance(value, list):
        return sum(_tokens(entry, depth + 1) for entry in value)
    return 1.0


def _output_tokens(body: Mapping[str, object]) -> float:
    limit = next((number for name in _OUTPUT_LIMITS if (number := _number(body.get(name))) is not None), None)
    choices = _number(body.get("n"))
    return min(
        _MOST_OUTPUT, (DEFAULT_OUTPUT_TOKENS if limit is None else limit) * (1.0 if choices is None else choices)
    )


def _number(value: object) -> float | None:
    """Return a number that counts something."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _MOST_OUTPUT:
        return None
    return float(value)


class RunningRatio:
    """The ratio of used to estimated tokens: the mean of about the last 20 requests, weighted by their sizes."""

    _KEPT: Final = 0.95
    _LEAST: Final = 0.1
    _MOST: Final = 10.0

    def __init__(self) -> None:
        self._used = self._estimated = 0.0

    @property
    def value(self) -> float:
        """Return the factor for an estimate; 1.0 before the first answer."""
        if not self._estimated:
            return 1.0
        return min(self._MOST, max(self._LEAST, self._used / self._estimated))

    def add(self, *, used: float, estimated: float) -> None:
        """Take an answer into account."""
        if used > 0 and estimated > 0:
            self._used = self._KEPT * self._used + used
            self._estimated = self._KEPT * self._estimated + estimated
