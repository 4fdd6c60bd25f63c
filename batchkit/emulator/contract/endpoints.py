"""The urls that lines of batches and synchronous calls name; ``CHAT_DRY_RUN`` is Qwen's free rehearsal of chat."""

from __future__ import annotations

CHAT = "/v1/chat/completions"
CHAT_DRY_RUN = "/v1/chat/ds-test"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
MODERATIONS = "/v1/moderations"
RESPONSES = "/v1/responses"
SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"

REQUIRED = {
    CHAT: ("model", "messages"),
    CHAT_DRY_RUN: ("model", "messages"),
    COMPLETIONS: ("model", "prompt"),
    EMBEDDINGS: ("model", "input"),
    MODERATIONS: ("model", "input"),
    RESPONSES: ("model", "input"),
    TRANSCRIPTIONS: ("model", "url"),
    TRANSLATIONS: ("model", "url"),
}
"""The members without which a line's body is refused before its batch runs."""

OPERATION_OF = {
    CHAT: "chat.completions",
    CHAT_DRY_RUN: "chat.completions",
    COMPLETIONS: "completions.create",
    EMBEDDINGS: "embeddings.create",
    MODERATIONS: "moderations.create",
    RESPONSES: "responses.create",
    SPEECH: "audio.speech",
    TRANSCRIPTIONS: "audio.transcriptions",
    TRANSLATIONS: "audio.translations",
}
"""The operation that a synchronous call of a url counts as."""
