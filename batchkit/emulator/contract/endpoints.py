"""The urls that lines of batches name; ``CHAT_DRY_RUN`` is Qwen's free rehearsal of chat."""

from __future__ import annotations

CHAT = "/v1/chat/completions"
CHAT_DRY_RUN = "/v1/chat/ds-test"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
MODERATIONS = "/v1/moderations"
RESPONSES = "/v1/responses"
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
