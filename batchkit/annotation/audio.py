"""The audio of a row, for the endpoints of console.groq.com/docs/speech-to-text: an address, or a file of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchkit.annotation.recording_files import NoRecording, is_file_name
from batchkit.preflight.rules import TRANSCRIPTIONS, TRANSLATIONS

if TYPE_CHECKING:
    from batchkit.annotation.parameters import Audio
    from batchkit.annotation.recording_files import RecordingFiles

#: The format that has the times of segments and words.
_FORMAT_WITH_TIMES = "verbose_json"


class InvalidAudio(ValueError):
    """A cell that names no audio; the message says why."""


class NoAudio(InvalidAudio):
    """A cell that is empty."""


def endpoint_of(audio: Audio) -> str:
    """Return the endpoint."""
    return TRANSLATIONS if audio.translate else TRANSCRIPTIONS


def audio_body(audio: Audio, value: Any, prompt: str | None, files: RecordingFiles) -> dict[str, Any]:
    """Return the body of a request, without the model, for the cell ``value``. Raises ``InvalidAudio``.

    The API also accepts "Base64URL" in place of an address; a cell counts as that only if it begins with ``data:``.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise NoAudio("the cell has no audio")
    if not isinstance(value, str):
        raise InvalidAudio(f"the audio is of type {type(value).__name__}; give an address or the path of a file")
    try:
        recording = {"file": files.named(value)} if is_file_name(value) else {"url": value}
    except NoRecording as error:
        raise InvalidAudio(str(error)) from None
    optional = {"language": audio.language, "prompt": prompt, "temperature": audio.temperature}
    return {
        **recording,
        "response_format": _FORMAT_WITH_TIMES,
        "timestamp_granularities": list(audio.timestamps),
        **{name: given for name, given in optional.items() if given is not None},
    }
