"""The audio of a row: an address for the endpoints of console.groq.com/docs/speech-to-text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchkit.preflight.rules import TRANSCRIPTIONS, TRANSLATIONS

if TYPE_CHECKING:
    from batchkit.annotation.parameters import Audio

#: The API also accepts "Base64URL" in place of an address; a cell counts as that only if it begins with `data:`.
_ADDRESSES = ("http://", "https://", "data:")
#: The format that has the times of segments and words.
_FORMAT_WITH_TIMES = "verbose_json"
_LONGEST_SCHEME = max(map(len, _ADDRESSES))


class InvalidAudio(ValueError):
    """A cell that holds no address of audio; the message says why."""


class NoAudio(InvalidAudio):
    """A cell that is empty."""


def endpoint_of(audio: Audio) -> str:
    """Return the endpoint."""
    return TRANSLATIONS if audio.translate else TRANSCRIPTIONS


def audio_body(audio: Audio, value: Any, prompt: str | None) -> dict[str, Any]:
    """Return the body of a request, without the model, for the cell ``value``. Raises ``InvalidAudio``."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise NoAudio("the cell has no address")
    if not isinstance(value, str) or not value[:_LONGEST_SCHEME].lower().startswith(_ADDRESSES):
        shown = repr(value[:60]) if isinstance(value, str) else f"of type {type(value).__name__}"
        raise InvalidAudio(
            f"the audio is {shown}; a batch accepts addresses only: upload the file to where the provider can fetch it, and use that address"
        )
    optional = {"language": audio.language, "prompt": prompt, "temperature": audio.temperature}
    return {
        "url": value,
        "response_format": _FORMAT_WITH_TIMES,
        "timestamp_granularities": list(audio.timestamps),
        **{name: given for name, given in optional.items() if given is not None},
    }
