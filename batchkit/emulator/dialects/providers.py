"""The emulated providers.

Sources: the providers' own references and SDKs (openai 3.57, together 3.1, mistralai 3.7), read on 2026-11-29; OGX's own server
code at 5a9cb55 and in ogx 1.5.0, AIBrix's in aibrix 0.8.0. Where a provider documents nothing, it answers as OpenAI does, or as is least convenient for a client.
"""

from __future__ import annotations

from dataclasses import replace

from batchkit.emulator.contract.endpoints import (
    CHAT,
    CHAT_DRY_RUN,
    COMPLETIONS,
    EMBEDDINGS,
    MODERATIONS,
    RESPONSES,
    SPEECH,
    TRANSCRIPTIONS,
    TRANSLATIONS,
)
from batchkit.emulator.contract.windows import Windows
from batchkit.emulator.dialects.dialect import Dialect
from batchkit.errors import UsageError

_CREATE_FIELDS = frozenset({"input_file_id", "endpoint", "completion_window", "metadata"})

GROQ = Dialect(
    name="groq",
    title="Groq Batch API",
    shape="groq",
    base_path="/openai/v1",
    key_variable="GROQ_API_KEY",
    default_key="gsk_emulator",
    ids="typeid",
    endpoints=(CHAT, TRANSCRIPTIONS, TRANSLATIONS),
    also_synchronous=(RESPONSES, SPEECH),
    requests_header="day",
    single_url=False,
    single_model=False,
    unknown_models="fail-line",
    unknown_parameters="refused",
    windows=Windows(24, 7 * 24),
    list_style="cursor",
    lookup="ids",
)

OPENAI = Dialect(
    name="openai",
    title="OpenAI Batch API",
    key_variable="OPENAI_API_KEY",
    models=(
        "gpt-4.1-mini",
        "gpt-4o-mini",
        "gpt-4o-mini-transcribe",
        "gpt-4o-mini-tts",
        "gpt-5-mini",
        "omni-moderation-latest",
        "text-embedding-3-small",
    ),
    endpoints=(RESPONSES, CHAT, EMBEDDINGS, COMPLETIONS, MODERATIONS),
    also_synchronous=(SPEECH, TRANSCRIPTIONS, TRANSLATIONS),
    create_fields=_CREATE_FIELDS | {"output_expires_after"},
    codes={"model_mismatch": "mismatched_model"},
)

AZURE = replace(
    OPENAI,
    name="azure",
    title="Azure OpenAI Batch API",
    base_path="/openai/v1",
    key_variable="AZURE_OPENAI_API_KEY",
    key_headers=("api-key", "authorization"),
    models=("gpt-4.1-mini-batch", "gpt-4o-mini-batch", "text-embedding-3-small-batch"),
    file_ready_seconds=120.0,
    max_files=500,
    never_expires=True,
    no_file="empty",
    empty_files=frozenset({"error"}),
    codes={"invalid_url": "url_mismatch"},
)

QWEN = replace(
    OPENAI,
    name="qwen",
    title="Qwen (DashScope) Batch API",
    base_path="/compatible-mode/v1",
    key_variable="DASHSCOPE_API_KEY",
    models=("batch-test-model", "qwen-plus", "qwen-turbo", "text-embedding-v4"),
    endpoints=(CHAT, EMBEDDINGS, CHAT_DRY_RUN),
    also_synchronous=(),
    max_bytes=500_000_000,
    max_line_bytes=6_000_000,
    windows=Windows(24, 336),
    create_fields=None,
    metadata="named",
    metadata_lengths={"ds_name": 100, "ds_description": 200},
    no_file="empty",
    cancel_ended_status=400,
    lookup="input-files",
)

KIMI = replace(
    OPENAI,
    name="kimi",
    title="Kimi (Moonshot) Batch API",
    key_variable="MOONSHOT_API_KEY",
    models=("kimi-k2-0905-preview", "kimi-k2.5", "moonshot-v1-8k"),
    endpoints=(CHAT,),
    also_synchronous=(),
    max_bytes=100_000_000,
    max_lines=None,
    max_files=1_000,
    windows=Windows(12, 7 * 24),
    create_fields=None,
    no_file="absent",
    cancel_ended_status=400,
)

NEBIUS = replace(
    OPENAI,
    name="nebius",
    title="Nebius Token Factory Batch API",
    key_variable="NEBIUS_API_KEY",
    models=("Qwen/Qwen3-32B", "meta-llama/Llama-3.3-70B-Instruct", "BAAI/bge-en-icl"),
    endpoints=(CHAT, EMBEDDINGS),
    also_synchronous=(),
    max_bytes=10_000_000_000,
    max_lines=5_000_000,
    create_fields=None,
    cancel_ended_status=400,
    page_size=10,
)

LITELLM = replace(
    OPENAI,
    name="litellm",
    title="LiteLLM proxy's Batch API",
    key_variable="LITELLM_API_KEY",
    models=("gpt-4o-mini", "hosted_vllm/llama-3.1-8b"),
    ids="unified",
    endpoints=(CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES),
    single_model=False,
    unknown_models="fail-line",
    create_fields=None,
)

OGX = replace(
    OPENAI,
    name="ogx",
    title="OGX (llama-stack) Batch API",
    key_variable="OGX_API_KEY",
    models=("all-minilm:l6-v2", "llama3.2:3b-instruct-fp16"),
    endpoints=(CHAT, COMPLETIONS, EMBEDDINGS),
    also_synchronous=(RESPONSES,),
    max_bytes=None,
    max_lines=None,
    single_model=False,
    never_expires=True,
    create_fields=_CREATE_FIELDS | {"idempotency_key"},
    idempotency_field="idempotency_key",
    absent_members=frozenset({"expires_at", "model"}),
    empty_files=frozenset({"output", "error"}),
    error_lines="error",
    bodies_as_text=True,
    relayed_error={"type": "request_failed", "message": "Error code: {status} - {message}"},
)

AIBRIX = replace(
    OPENAI,
    name="aibrix",
    title="AIBrix Batch API",
    key_variable="AIBRIX_API_KEY",
    models=("llama-3-8b-instruct", "qwen3-8b"),
    ids="uuid",
    endpoints=(CHAT, COMPLETIONS, EMBEDDINGS),
    max_bytes=104_857_600,
    windows=Windows(24, 336),
    create_fields=None,
    no_file="absent",
    status_words={"validating": "scheduling"},
    error_lines="error",
    relayed_error={"code": "inference_failed", "message": "[http_error] http://engine: HTTP {status} status={status}"},
)

VLLM = replace(
    OPENAI,
    name="vllm",
    title="Batch API of a vLLM-style server (llm-d)",
    key_variable="VLLM_API_KEY",
    models=("meta-llama/Llama-3.1-8B-Instruct",),
    endpoints=(CHAT, EMBEDDINGS),
    also_synchronous=(COMPLETIONS, RESPONSES, TRANSCRIPTIONS, TRANSLATIONS),
    single_model=False,
    unknown_models="fail-line",
    create_fields=None,
    error_lines="error",
    cancel_ended_status=400,
)

TOGETHER = Dialect(
    name="together",
    title="Together Batch API",
    shape="together",
    key_variable="TOGETHER_API_KEY",
    models=("meta-llama/Llama-3.3-70B-Instruct-Turbo", "openai/gpt-oss-20b", "openai/whisper-large-v3"),
    ids="uuid",
    upload_purpose="batch-api",
    upload_by_redirect=True,
    max_bytes=100_000_000,
    max_id_characters=64,
    endpoints=(CHAT, TRANSCRIPTIONS, TRANSLATIONS),
    also_synchronous=(COMPLETIONS, EMBEDDINGS, SPEECH),
    line_keys=("custom_id", "body"),
    unknown_models="fail-line",
    windows=Windows(only="24h", default="24h"),
    create_wrapper="job",
    metadata="none",
    status_words={
        "validating": "VALIDATING",
        "in_progress": "IN_PROGRESS",
        "finalizing": "IN_PROGRESS",
        "cancelling": "IN_PROGRESS",
        "completed": "COMPLETED",
        "failed": "FAILED",
        "expired": "EXPIRED",
        "cancelled": "CANCELLED",
    },
    unexecuted_lines_listed=False,
    error_lines="error",
    cancel_ended_status=400,
    list_style="bare",
)

MISTRAL = Dialect(
    name="mistral",
    title="Mistral Batch API",
    shape="mistral",
    batches_path="/batch/jobs",
    key_variable="MISTRAL_API_KEY",
    models=("mistral-embed", "mistral-small-latest", "open-mistral-nemo"),
    ids="uuid",
    max_bytes=512_000_000,
    max_lines=100_000,
    endpoints=(CHAT, EMBEDDINGS, MODERATIONS),
    also_synchronous=(TRANSCRIPTIONS,),
    line_keys=("custom_id", "body"),
    model_of_job=True,
    unknown_models="fail-line",
    windows=Windows(1, 7 * 24, default="24h"),
    status_words={
        "validating": "QUEUED",
        "in_progress": "RUNNING",
        "finalizing": "RUNNING",
        "cancelling": "CANCELLATION_REQUESTED",
        "completed": "SUCCESS",
        "failed": "FAILED",
        "expired": "TIMEOUT_EXCEEDED",
        "cancelled": "CANCELLED",
    },
    unexecuted_lines_listed=False,
    cancel_ended_status=400,
    list_style="page",
    page_size=100,
    max_page_size=1_000,
)

DIALECTS = {
    dialect.name: dialect
    for dialect in (GROQ, OPENAI, AIBRIX, AZURE, QWEN, KIMI, NEBIUS, LITELLM, OGX, VLLM, TOGETHER, MISTRAL)
}


DEFAULT_PROVIDER = GROQ.name


def provider_names() -> list[str]:
    """Return the names of the emulated providers, the default first."""
    return list(DIALECTS)


def find_dialect(name: str) -> Dialect:
    """Return the description of a provider. Raises ``UsageError`` for a name that is not emulated."""
    dialect = DIALECTS.get(name)
    if dialect is None:
        raise UsageError(f"the emulator does not know the provider {name!r}", hint=f"it knows: {', '.join(DIALECTS)}")
    return dialect
