"""Audio of a row: an address for the endpoints of console.groq.com/docs/speech-to-text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchkit.preflight.facts import GRANULARITIES_FORMAT, TRANSCRIPTIONS, TRANSLATIONS

if TYPE_CHECKING:
    from batchkit.annotation.parameters import Audio

#: The page takes "Base64URL" in place of an address; a table cell is taken for that only where it says so itself.
_ADDRESSES = ("http://", "https://", "data:")
_LONGEST_SCHEME = max(map(len, _ADDRESSES))


class AudioTrouble(ValueError):
    """A cell that is no address of audio; the message says why."""


def endpoint_of(audio: Audio) -> str:
    """Choose the endpoint."""
    return TRANSLATIONS if audio.translate else TRANSCRIPTIONS


def audio_body(audio: Audio, value: Any, prompt: str | None) -> dict[str, Any]:
    """Write the body of a request, the model aside, for the cell ``value``. Raises ``AudioTrouble``."""
    if value is None or value == "":
        raise AudioTrouble("there is no address")
    if not isinstance(value, str) or not value[:_LONGEST_SCHEME].lower().startswith(_ADDRESSES):
        shown = repr(value[:60]) if isinstance(value, str) else f"of type {type(value).__name__}"
        raise AudioTrouble(
            f"the audio is {shown}, and a batch takes no files: put it where the provider can fetch it, and give the address"
        )
    optional = {"language": audio.language, "prompt": prompt, "temperature": audio.temperature}
    return {
        "url": value,
        "response_format": GRANULARITIES_FORMAT,
        "timestamp_granularities": list(audio.timestamps),
        **{name: given for name, given in optional.items() if given is not None},
    }
