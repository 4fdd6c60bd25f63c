"""The Groq Batch API (console.groq.com/docs/batch and /docs/api-reference) as a dialect."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from batchkit.preflight.inputs import check_input
from batchkit.preflight.rules import CHAT, RESPONSES, SPEECH, TRANSLATIONS, LineRules
from batchkit.provider.dialect import (
    ApiShape,
    Dialect,
    Hints,
    KeySource,
    ListStyle,
    ModelFacts,
    OrdinaryCalls,
    Prices,
    Retention,
)
from batchkit.provider.groq import audio, chat, models, speech
from batchkit.provider.rate_limits import LimitPeriod
from batchkit.sharding import ShardLimits, Windows

if TYPE_CHECKING:
    from batchkit.preflight.findings import PreflightFindings

BASE_URL: Final = "https://api.groq.com/openai/v1"


def check_body(
    body: dict[str, Any], endpoint: str, model: str | None, line_bytes: int, findings: PreflightFindings
) -> None:
    """Check the parameters of a request against the documentation."""
    if endpoint == CHAT:
        chat.check(body, model, line_bytes, findings)
        return
    if endpoint == SPEECH:
        speech.check(body, model, findings)
        return
    if endpoint == RESPONSES:
        check_input(body, findings)
        return
    audio.check(body, endpoint, findings)
    if endpoint == TRANSLATIONS and model and model.lower() not in models.MODEL_ENDPOINTS:
        findings.warn(f"body.model is not {models.TRANSLATION_MODEL}, the only model documented for translations")


GROQ: Final = Dialect(
    name="groq",
    title="Groq",
    verified=f"documentation of {models.LIMITS_AS_OF}",
    base_url=BASE_URL,
    key=KeySource(variables=("GROQ_API_KEY",), page="console.groq.com/keys"),
    rules=LineRules(
        page=models.BATCH,
        as_of=models.LIMITS_AS_OF,
        endpoints=models.ENDPOINTS,
        check_body=check_body,
        are_plain=chat.are_plain,
        plain_parameters=chat.PLAIN_PARAMETERS,
        model_endpoints=models.MODEL_ENDPOINTS,
        particular_models=models.PARTICULAR_MODELS,
        reasoning_efforts=models.REASONING_EFFORTS_OF_MODELS,
        sync_endpoints=models.SYNC_ENDPOINTS,
        sync_models=models.SYNC_MODELS,
    ),
    # console.groq.com/docs/batch: 50,000 lines, 200 MB (the smaller unit), about 1,000 lines to avoid expiry, 200 ids in a status
    # call, windows from 24 hours to 7 days. Files of 200 MB have been refused.
    limits=ShardLimits(
        max_lines=50_000,
        max_bytes=200_000_000,
        default_bytes=100_000_000,
        min_default_lines=1_000,
        polled_batches=200,
    ),
    windows=Windows(shortest_hours=24, longest_hours=7 * 24, spellings=((7 * 24, "7d"),)),
    api=ApiShape(listing=ListStyle.CURSOR, page_size=None, ids_per_status_call=200),
    hints=Hints(
        address=(
            f"check the base URL (BATCHKIT_BASE_URL): the one of Groq is {BASE_URL}, and /openai/v1 belongs to it; "
            "and check that no proxy or login page answers in its place"
        ),
        account=(
            "the account itself is refused, whatever it sends: check its billing, its spend limit and its restrictions "
            "(console.groq.com/settings/billing), then run the same command again"
        ),
        by_status={
            HTTPStatus.UNAUTHORIZED: "the key is missing, wrong or revoked: check GROQ_API_KEY (console.groq.com/keys)",
            HTTPStatus.FORBIDDEN: "this key may not do that: check its project and its permissions (console.groq.com)",
            HTTPStatus.NOT_FOUND: "it is gone (files are kept for 30 days), it belongs to another key's organisation, or the "
            "base URL lacks its /openai/v1",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "cut the file smaller: 50,000 lines and 200 MB at most",
        },
        by_code={
            "not_available_for_plan": "the free plan has no Batch API: upgrade the organisation to the Developer tier "
            "(console.groq.com/settings/billing) or use a key of one that has it"
        },
        limits_page="console.groq.com/settings/limits",
    ),
    models=ModelFacts(
        schema=models.SCHEMA_MODELS,
        strict_schema=models.STRICT_SCHEMA_MODELS,
        max_completion_tokens=models.MAX_COMPLETION_TOKENS,
        chat=models.CHAT_MODELS,
        transcription=models.TRANSCRIPTION_MODELS,
        guard=tuple(sorted(models.GUARD_MODELS)),
        speech=tuple(models.SPEECH_CHARACTERS),
        runs_tools=frozenset(models.COMPOUND_MODELS),
        uploads=models.AUDIO_UPLOADS,
        max_images=models.MAX_IMAGES,
        max_base64_request_bytes=models.MAX_BASE64_REQUEST_BYTES,
    ),
    prices=Prices(
        catalogue="groq",
        # console.groq.com/docs/batch: "50% cost discount compared to synchronous APIs".
        discount=0.5,
        # console.groq.com/docs/speech-to-text: "Minimum Billed Length 10 seconds".
        min_billed_seconds=10.0,
    ),
    # console.groq.com/docs/batch: files are kept for 30 days.
    retention=Retention(input_days=30, output_days=30),
    # console.groq.com/docs/rate-limits: the headers of requests count per day, those of tokens per minute.
    calls=OrdinaryCalls(requests_header=LimitPeriod.DAY),
)
