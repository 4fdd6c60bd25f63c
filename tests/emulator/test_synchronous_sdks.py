"""The official SDKs call the synchronous endpoints unchanged."""

import io
import wave

import pytest

from batchkit.emulator import Scenario
from batchkit.emulator.scenarios.scenario import RateSection
from tests.emulator.sync_support import MODEL
from tests.lazy import LazyModule

groq = LazyModule("groq")
openai = LazyModule("openai")

MESSAGES = [{"role": "user", "content": "What is 6 * 7?"}]


@pytest.fixture
def groq_sdk(client):
    """Return Groq's SDK for an emulator without faults."""
    with groq.Groq(base_url=client.emulator.root_url, api_key="any", max_retries=0) as sdk:
        yield sdk


@pytest.fixture
def openai_sdk(serve):
    """Return OpenAI's SDK for an emulated OpenAI."""
    client = serve("openai")
    with openai.OpenAI(base_url=client.emulator.base_url, api_key="any", max_retries=0) as sdk:
        yield sdk


def test_groq_chats_with_a_tier(groq_sdk):
    """The answer has the tier, the id of the request and the usage; its headers have the limits."""
    raw = groq_sdk.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, service_tier="flex")
    answered = raw.parse()
    assert (answered.service_tier, answered.x_groq.id) == ("flex", raw.headers["x-request-id"])
    assert answered.usage.total_tokens == answered.usage.prompt_tokens + answered.usage.completion_tokens
    assert int(raw.headers["x-ratelimit-remaining-tokens"]) > 0


def test_groq_runs_tools_in_a_compound_system(groq_sdk):
    """The SDK's types have the tools and the breakdown."""
    answered = groq_sdk.chat.completions.create(model="groq/compound", messages=MESSAGES)
    code, search = answered.choices[0].message.executed_tools
    assert (code.type, code.code_results[0].text, code.output) == ("python", "42", "42")
    assert search.search_results.results[0].title == "About: What is 6 * 7?"
    assert answered.usage_breakdown.models[0].usage.total_tokens == answered.usage.total_tokens


def test_groq_speaks_and_hears(groq_sdk, tmp_path):
    """The file that it speaks plays, and can be transcribed and translated."""
    path = tmp_path / "speech.wav"
    spoken = groq_sdk.audio.speech.create(
        model="canopylabs/orpheus-v1-english", voice="diana", input="Good morning.", response_format="wav"
    )
    spoken.write_to_file(path)
    with wave.open(str(path)) as sound:
        seconds = sound.getnframes() / sound.getframerate()
    with path.open("rb") as file:
        heard = groq_sdk.audio.transcriptions.create(
            model="whisper-large-v3", file=("speech.wav", file.read()), response_format="verbose_json"
        )
    assert (heard.text, heard.duration) == ("Transcript of speech.wav", pytest.approx(seconds))
    translated = groq_sdk.audio.translations.create(model="whisper-large-v3", file=path)
    assert translated.text == "Translation of speech.wav"


def test_groq_meets_a_rate_limit(make_client):
    """The SDK's own error has the body."""
    client = make_client(Scenario(rates=RateSection(requests_per_minute=1)), speed=1e-6)
    with groq.Groq(base_url=client.emulator.root_url, api_key="any", max_retries=0) as sdk:
        sdk.chat.completions.create(model=MODEL, messages=MESSAGES)
        with pytest.raises(groq.RateLimitError, match="Please try again in") as caught:
            sdk.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert caught.value.response.headers["retry-after"] == "60"


def test_openai_chats_responds_embeds_and_speaks(openai_sdk):
    """Each endpoint returns the SDK's types."""
    chat = openai_sdk.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    assert chat.choices[0].message.content == "Echo: What is 6 * 7?"
    response = openai_sdk.responses.create(model="gpt-5-mini", input="What is 6 * 7?")
    assert response.output_text == "Echo: What is 6 * 7?"
    vectors = openai_sdk.embeddings.create(model="text-embedding-3-small", input=["a", "b"], encoding_format="float")
    assert [len(item.embedding) for item in vectors.data] == [8, 8]
    spoken = openai_sdk.audio.speech.create(
        model="gpt-4o-mini-tts", voice="alloy", input="Good morning.", response_format="wav"
    )
    with wave.open(io.BytesIO(spoken.content)) as sound:
        assert sound.getnframes() > 10_000


def test_openai_embeds_by_default_in_base64(openai_sdk):
    """Its SDK asks for base64 and decodes it to the same numbers."""
    asked = {"model": "text-embedding-3-small", "input": "a", "encoding_format": "base64"}
    assert isinstance(openai_sdk.post("/embeddings", body=asked, cast_to=object)["data"][0]["embedding"], str)
    plain = openai_sdk.embeddings.create(model="text-embedding-3-small", input="a", encoding_format="float")
    decoded = openai_sdk.embeddings.create(model="text-embedding-3-small", input="a")
    assert decoded.data[0].embedding == pytest.approx(plain.data[0].embedding)


def test_openai_streams(openai_sdk):
    """The chunks add up to the answer."""
    stream = openai_sdk.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Echo: What is 6 * 7?"
