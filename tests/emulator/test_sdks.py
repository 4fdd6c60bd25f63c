"""The official SDKs work unchanged, with default retries and timeouts; only the base URL is ours."""

import pytest

from batchkit.emulator.contract.models import listed_ids
from batchkit.emulator.faults import calls
from batchkit.provider.headers import parse_duration
from tests.emulator.support import CHAT, chat_lines, ids_of, jsonl
from tests.lazy import LazyModule

groq = LazyModule("groq")
openai = LazyModule("openai")


@pytest.fixture
def groq_of():
    """Return a groq SDK client for an emulator."""
    made = []

    def make(client):
        made.append(groq.Groq(base_url=client.emulator.root_url, api_key=client.emulator.api_key))
        return made[-1]

    yield make
    for sdk in made:
        sdk.close()


@pytest.fixture
def openai_of():
    """Return an openai SDK client for an emulator."""
    made = []

    def make(client):
        made.append(openai.OpenAI(base_url=client.emulator.base_url, api_key=client.emulator.api_key))
        return made[-1]

    yield make
    for sdk in made:
        sdk.close()


def test_groq_runs_a_batch(client, groq_of, tmp_path):
    """Upload, create, retrieve, list, content, info and delete return the SDK's types."""
    sdk = groq_of(client)
    lines = chat_lines(3)
    path = tmp_path / "batch_file.jsonl"
    path.write_bytes(jsonl(lines))
    with path.open("rb") as file:
        uploaded = sdk.files.create(file=file, purpose="batch")
    assert uploaded.filename == "batch_file.jsonl"
    assert uploaded.id is not None
    created = sdk.batches.create(completion_window="24h", endpoint=CHAT, input_file_id=uploaded.id, metadata={"k": "v"})
    client.wait(created.id)
    batch = sdk.batches.retrieve(created.id)
    assert batch.status == "completed"
    assert batch.request_counts.completed == 3
    assert batch.metadata == {"k": "v"}
    assert batch.output_file_id is not None
    target = tmp_path / "results.jsonl"
    sdk.files.content(batch.output_file_id).write_to_file(target)
    assert target.read_bytes() == client.content(batch.output_file_id)
    assert created.id in [listed.id for listed in sdk.batches.list().data]
    assert uploaded.id in [listed.id for listed in sdk.files.list().data]
    assert sdk.files.info(uploaded.id).bytes == uploaded.bytes
    assert sdk.files.delete(uploaded.id).deleted


def test_groq_follows_the_documented_cursor(make_client, groq_of):
    """The loop from Groq's documentation reaches every batch."""
    client = make_client()
    file_id = client.upload(chat_lines(1))
    created = {client.create(file_id)["id"] for _ in range(25)}
    sdk = groq_of(client)
    page = sdk.batches.list()
    found = {batch.id for batch in page.data}
    while page.paging and page.paging.get("next_cursor"):
        page = sdk.batches.list(extra_query={"cursor": page.paging.get("next_cursor")})
        found |= {batch.id for batch in page.data}
    assert found == created


def test_groq_cancels(client, groq_of):
    """Cancelling an ended batch raises the SDK's conflict after its two retries."""
    sdk = groq_of(client)
    batch = client.run(chat_lines(1))
    before = client.emulator.ledger().calls.get("batches.cancel", 0)
    with pytest.raises(groq.ConflictError):
        sdk.batches.cancel(batch["id"])
    assert client.emulator.ledger().calls["batches.cancel"] - before == 3


def test_groq_chats(client, groq_of):
    """Chat, streaming chat, tools, models and audio return the SDK's types."""
    sdk = groq_of(client)
    messages = [{"role": "user", "content": "hello there, how are you today?"}]
    answered = sdk.chat.completions.create(model="openai/gpt-oss-20b", messages=messages)
    assert answered.choices[0].message.content == "Echo: hello there, how are you today?"
    assert answered.choices[0].message.reasoning
    assert answered.x_groq.id.startswith("req_")
    assert answered.service_tier == "on_demand"
    chunks = list(sdk.chat.completions.create(model="openai/gpt-oss-20b", messages=messages, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == answered.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].x_groq.usage.total_tokens > 0
    assert "whisper-large-v3" in [model.id for model in sdk.models.list().data]
    assert sdk.models.retrieve("openai/gpt-oss-20b").owned_by == "OpenAI"
    assert (
        sdk.audio.transcriptions.create(model="whisper-large-v3", file=("a.mp3", b"sound")).text
        == "Transcript of a.mp3"
    )
    assert sdk.audio.translations.create(model="whisper-large-v3", url="https://example.com/a.mp3").text.startswith(
        "Translation"
    )


def test_openai_runs_a_batch(client, openai_of):
    """The openai SDK does the same with the full path prefix."""
    sdk = openai_of(client)
    lines = chat_lines(3)
    uploaded = sdk.files.create(file=("a.jsonl", jsonl(lines)), purpose="batch")
    created = sdk.batches.create(completion_window="24h", endpoint=CHAT, input_file_id=uploaded.id)
    client.wait(created.id)
    batch = sdk.batches.retrieve(created.id)
    assert (batch.status, batch.request_counts.total) == ("completed", 3)
    content = sdk.files.content(batch.output_file_id).content
    assert content.count(b"\n") == 3
    assert sdk.files.retrieve(uploaded.id).bytes == uploaded.bytes
    assert sdk.batches.list().data[0].id == created.id
    assert sdk.files.delete(uploaded.id).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.files.retrieve(uploaded.id)


def test_openai_chats(client, openai_of):
    """Chat and its stream work through the openai SDK."""
    sdk = openai_of(client)
    messages = [{"role": "user", "content": "hello"}]
    assert (
        sdk.chat.completions.create(model="openai/gpt-oss-20b", messages=messages).choices[0].message.content
        == "Echo: hello"
    )
    stream = sdk.chat.completions.create(
        model="openai/gpt-oss-20b", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    assert [chunk.usage.total_tokens for chunk in stream if chunk.usage]
    assert "openai/gpt-oss-20b" in [model.id for model in sdk.models.list()]


def test_an_sdk_that_retries_a_lost_create_buys_twice(emulate, groq_of):
    """A create whose reply is lost is sent again by the SDK, and makes a second batch."""
    client = emulate(calls.LoseReply(on=("batches.create",)))
    lines = chat_lines(2)
    file_id = client.upload(lines)
    batch = groq_of(client).batches.create(completion_window="24h", endpoint=CHAT, input_file_id=file_id)
    for made in [made for made in client.emulator.ledger().batches if made.input_file_id == file_id]:
        client.wait(made.id)
    ledger = client.emulator.ledger()
    assert [ledger.executions(custom_id) for custom_id in ids_of(lines)] == [2, 2]
    assert batch.id == ledger.batches[-1].id


def test_an_sdk_waits_for_a_rate_limit(emulate, groq_of):
    """The SDK obeys retry-after, and the upload succeeds."""
    client = emulate(calls.RateLimit(retry_after=0.2))
    before = client.emulator.ledger().calls.get("files.create", 0)
    assert groq_of(client).files.create(file=("a.jsonl", jsonl(chat_lines(1))), purpose="batch").id
    assert client.emulator.ledger().calls["files.create"] - before == 2


def test_flex_is_refused_with_498_only_for_flex(emulate):
    """A full flex tier refuses flex requests and no others."""
    client = emulate(calls.FlexFull())
    body = {"model": "openai/gpt-oss-20b", "messages": [{"role": "user", "content": "x"}]}
    refused = client.http.post("/chat/completions", json={**body, "service_tier": "flex"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (498, "capacity_exceeded")
    assert client.http.post("/chat/completions", json=body).status_code == 200


def test_a_single_request_can_exceed_the_token_limit(emulate):
    """The reply is 413 with the message of a rate limit."""
    body = {"model": "openai/gpt-oss-20b", "messages": [{"role": "user", "content": "x"}]}
    error = emulate(calls.RequestTooLarge()).http.post("/chat/completions", json=body)
    assert (error.status_code, error.json()["error"]["code"]) == (413, "rate_limit_exceeded")


def test_chat_refusals_and_headers(client):
    """A refused chat is 400 with its body; an answered one has the rate-limit headers as Go durations."""
    messages = [{"role": "user", "content": "x"}]
    refused = client.http.post("/chat/completions", json={"model": "openai/gpt-oss-20b", "messages": messages, "n": 2})
    assert refused.status_code == 400
    answered = client.http.post("/chat/completions", json={"model": "openai/gpt-oss-20b", "messages": messages})
    assert parse_duration(answered.headers["x-ratelimit-reset-requests"]) is not None
    assert answered.headers["x-request-id"] == answered.json()["x_groq"]["id"]


def test_audio_by_form_and_json(client):
    """A form with granularities and a JSON body with a URL are both accepted; a missing model is refused."""
    form = {
        "model": "whisper-large-v3",
        "response_format": "verbose_json",
        "timestamp_granularities[]": ["word", "segment"],
    }
    verbose = client.http.post("/audio/transcriptions", data=form, files={"file": ("talk.mp3", b"x" * 100_000)}).json()
    assert verbose["words"][0]["word"] == "Transcript"
    text = client.http.post(
        "/audio/translations", json={"model": "whisper-large-v3", "url": "https://a/b", "response_format": "text"}
    )
    assert text.text == "Translation of https://a/b"
    assert client.http.post("/audio/transcriptions", json={"url": "https://a/b"}).status_code == 400
    assert (
        client.http.post(
            "/audio/transcriptions", content=b"[1", headers={"content-type": "application/json"}
        ).status_code
        == 400
    )


def test_models_have_groqs_fields_and_end_at_their_shutdown_date(client):
    """The list has Groq's fields; a model is served until its shutdown date; an unknown one is 404."""
    listed = client.http.get("/models").json()["data"]
    assert {"id", "object", "created", "owned_by", "active", "context_window", "public_apps"} <= set(listed[0])
    assert client.http.get("/models/some/other").json()["error"]["code"] == "model_not_found"
    shut_down = 1_786_838_400  # 2026-08-16
    assert "llama-3.1-8b-instant" in listed_ids(shut_down - 1)
    assert "llama-3.1-8b-instant" not in listed_ids(shut_down)
