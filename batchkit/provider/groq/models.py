"""The limits of batch requests in Groq's documentation, with which the checks compare.

Every value stands below the page that states it; all pages were read as of ``LIMITS_AS_OF``. A change of a page changes only this
module. Sizes are bytes, with MB read as 1,000,000 bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from batchkit.preflight.rules import CHAT, RESPONSES, SPEECH, TRANSCRIPTIONS, TRANSLATIONS
from batchkit.provider.dialect import AudioUploads

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMITS_AS_OF: Final = "2025-07"

# console.groq.com/docs/batch: the fields of a line, the one method, the three urls.
BATCH: Final = "console.groq.com/docs/batch"
ENDPOINTS: Final = (CHAT, TRANSCRIPTIONS, TRANSLATIONS)

# console.groq.com/docs/openai: parameters that are answered with 400, and other differences from OpenAI.
OPENAI: Final = "console.groq.com/docs/openai"
UNSUPPORTED: Final = ("logprobs", "logit_bias", "top_logprobs")
ONLY_N: Final = 1

# console.groq.com/docs/api-reference: the types and ranges of the chat parameters, the roles, the 128 tools, the four
# stop sequences, the names of functions and schemas.
API: Final = "console.groq.com/docs/api-reference"
ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MESSAGE_FIELDS: Final = frozenset(
    {"role", "content", "name", "tool_calls", "tool_call_id", "function_call", "reasoning"},
)
PART_TYPES: Final = frozenset({"text", "image_url", "document"})
RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
}
INTEGERS: Final = ("max_completion_tokens", "max_tokens", "seed")
RESPONSE_FORMATS: Final = ("text", "json_object", "json_schema")
MAX_STOP: Final = 4
MAX_TOOLS: Final = 128
TOOL_CHOICES: Final = ("none", "auto", "required")
NAME: Final = r"[A-Za-z0-9_-]{1,64}"
# The list has grown over time: a value outside it is a warning.
REASONING_EFFORTS: Final = ("none", "default", "low", "medium", "high")
# The official client lists them by model; others are answered with 400 ("reasoning_effort must be one of none or
# default": earendil-works/pi#1745).
_OF_GPT_OSS: Final = ("low", "medium", "high")
REASONING_EFFORTS_OF_MODELS: Final = {
    "openai/gpt-oss-20b": _OF_GPT_OSS,
    "openai/gpt-oss-120b": _OF_GPT_OSS,
    "qwen/qwen3-32b": ("none", "default"),
}

# console.groq.com/docs/reasoning: "raw" with JSON mode or tools is answered with 400.
REASONING: Final = "console.groq.com/docs/reasoning"
REASONING_FORMATS: Final = ("parsed", "raw", "hidden")

# console.groq.com/docs/vision: images per request; a request with base64 images above 4 MB is answered with 413.
VISION: Final = "console.groq.com/docs/vision"
MAX_IMAGES: Final = 5
MAX_BASE64_REQUEST_BYTES: Final = 4_000_000

# console.groq.com/docs/flex-processing: service_tier chooses between synchronous tiers.
# console.groq.com/docs/content-moderation: the guard model needs no system message.
GUARD_MODELS: Final = frozenset({"meta-llama/llama-guard-4-12b"})

# console.groq.com/docs/speech-to-text: parameters of both audio endpoints.
SPEECH_TO_TEXT: Final = "console.groq.com/docs/speech-to-text"
AUDIO_UPLOADS: Final = AudioUploads(
    # The first for the free tier, the second for the developer tier.
    free_bytes=25_000_000,
    max_bytes=100_000_000,
    kinds=("flac", "mp3", "mp4", "mpeg", "mpga", "m4a", "ogg", "wav", "webm"),
    page=SPEECH_TO_TEXT,
)
AUDIO_FORMATS: Final = ("json", "verbose_json", "text")
GRANULARITIES: Final = ("segment", "word")
GRANULARITIES_FORMAT: Final = "verbose_json"
AUDIO_TEMPERATURE: Final = (0, 1)
TRANSLATION_LANGUAGE: Final = "en"
AUDIO_PROMPT_TOKENS: Final = 224

# console.groq.com/docs/models, /batch and /speech-to-text: the urls of known models. Models change faster than this
# table, so a model that is not in it is never refused: GET /models decides (``model_warnings``).
_BATCHED_CHAT_MODELS: Final = (
    "deepseek-r1-distill-llama-70b",
    "gemma2-9b-it",
    "llama-3.1-8b-instant",
    "llama-3.3-70b-versatile",
    "meta-llama/llama-4-maverick-17b-128e-instruct",
    "meta-llama/llama-4-scout-17b-16e-instruct",
    "meta-llama/llama-guard-4-12b",
    "meta-llama/llama-prompt-guard-2-22m",
    "meta-llama/llama-prompt-guard-2-86m",
    "mistral-saba-24b",
    "moonshotai/kimi-k2-instruct",
    "openai/gpt-oss-120b",
    "openai/gpt-oss-20b",
    "qwen/qwen3-32b",
)
# console.groq.com/docs/compound (read 2026-11): systems that run tools on the server; no page offers them in batches.
COMPOUND_MODELS: Final = ("compound-beta", "compound-beta-mini", "groq/compound", "groq/compound-mini")
CHAT_MODELS: Final = (*COMPOUND_MODELS, *_BATCHED_CHAT_MODELS)
# console.groq.com/docs/text-to-speech and /orpheus (read 2026-11): no batches, the one format, the voices and the characters that an
# input may have. The voices of the PlayAI models are on the page of 2025-07.
TEXT_TO_SPEECH: Final = "console.groq.com/docs/text-to-speech"
SPEECH_FORMATS: Final = ("wav",)
ORPHEUS_ENGLISH: Final = "canopylabs/orpheus-v1-english"
SPEECH_VOICES: Final[Mapping[str, tuple[str, ...]]] = {
    ORPHEUS_ENGLISH: ("autumn", "diana", "hannah", "austin", "daniel", "troy"),
    "canopylabs/orpheus-arabic-saudi": ("fahad", "sultan", "lulwa", "noura", "abdullah", "aisha"),
    "playai-tts-arabic": ("Ahmad-PlayAI", "Amira-PlayAI", "Khalid-PlayAI", "Nasser-PlayAI"),
}
SPEECH_CHARACTERS: Final[Mapping[str, int]] = {
    ORPHEUS_ENGLISH: 200,
    "canopylabs/orpheus-arabic-saudi": 200,
    "playai-tts": 10_000,
    "playai-tts-arabic": 10_000,
}
# console.groq.com/docs/api-reference: the ordinary endpoints that batches do not have.
SYNC_ENDPOINTS: Final = (SPEECH, RESPONSES)
SYNC_MODELS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(COMPOUND_MODELS, (CHAT, RESPONSES)),
    **dict.fromkeys(SPEECH_CHARACTERS, (SPEECH,)),
    **dict.fromkeys(_BATCHED_CHAT_MODELS, (CHAT, RESPONSES)),
}
MODEL_ENDPOINTS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(_BATCHED_CHAT_MODELS, (CHAT,)),
    "whisper-large-v3": (TRANSCRIPTIONS, TRANSLATIONS),
    "whisper-large-v3-turbo": (TRANSCRIPTIONS,),
    "distil-whisper-large-v3-en": (TRANSCRIPTIONS,),
    **dict.fromkeys((*COMPOUND_MODELS, *SPEECH_CHARACTERS), ()),
}
#: Models with rules of their own.
PARTICULAR_MODELS: Final = GUARD_MODELS | {model for model, urls in MODEL_ENDPOINTS.items() if CHAT not in urls}
TRANSCRIPTION_MODELS: Final = tuple(model for model, urls in MODEL_ENDPOINTS.items() if TRANSCRIPTIONS in urls)
#: console.groq.com/docs/speech-to-text: the only model that translates.
TRANSLATION_MODEL: Final = "whisper-large-v3"

# console.groq.com/docs/structured-outputs (read 2026-02): models with constrained decoding, for schemas that require all their
# properties and allow no others; and models that accept a schema without that guarantee.
STRICT_SCHEMA_MODELS: Final = frozenset({"openai/gpt-oss-20b", "openai/gpt-oss-120b"})
SCHEMA_MODELS: Final = STRICT_SCHEMA_MODELS | {
    "meta-llama/llama-4-maverick-17b-128e-instruct",
    "meta-llama/llama-4-scout-17b-16e-instruct",
    "moonshotai/kimi-k2-instruct",
    "moonshotai/kimi-k2-instruct-0905",
    "openai/gpt-oss-safeguard-20b",
}
# console.groq.com/docs/models (read 2025-07): the largest number of output tokens, where it is below the context length.
MAX_COMPLETION_TOKENS: Final[Mapping[str, int]] = {
    "gemma2-9b-it": 8_192,
    "llama-3.3-70b-versatile": 32_768,
    "meta-llama/llama-4-maverick-17b-128e-instruct": 8_192,
    "meta-llama/llama-4-scout-17b-16e-instruct": 8_192,
    "meta-llama/llama-guard-4-12b": 1_024,
    "moonshotai/kimi-k2-instruct": 16_384,
    "qwen/qwen3-32b": 40_960,
}
