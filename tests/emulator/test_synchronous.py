"""The endpoints that call a model at once: answers, audio in and out, compound systems, tiers and keys."""

import io
import wave

import pytest

from batchkit.emulator import Scenario
from tests.emulator.support import chat_line
from tests.emulator.sync_support import CHAT, MODEL, ask, chat_body, refusal

SPEAKER = "canopylabs/orpheus-v1-english"
HEARER = "whisper-large-v3"


def speak(client, text="Hello there, world.", **more):
    """Ask for speech."""
    return client.http.post("/audio/speech", json={"model": SPEAKER, "input": text, "voice": "diana", **more})


def without_ids(body):
    """Return an answer without what differs from call to call."""
    return {key: value for key, value in body.items() if key not in {"id", "created", "x_groq", "service_tier"}}


def test_a_call_is_answered_like_a_line_of_a_batch(client):
    """The same body gets the same answer, except for ids, times and the tier that served it."""
    line = chat_line("one", "What is a test?")
    output, _ = client.results(client.run([line]))
    batched = output[0]["response"]["body"]
    called = client.http.post(CHAT, json=line["body"]).json()
    assert without_ids(called) == without_ids(batched)
    assert (called["service_tier"], batched["service_tier"]) == ("on_demand", "batch")


def test_every_answer_has_a_request_id(client):
    """The header is there on answers and on refusals, and in a chat it is the id in x_groq."""
    answered, refused = ask(client), ask(client, n=2)
    assert answered.headers["x-request-id"] == answered.json()["x_groq"]["id"]
    assert refused.headers["x-request-id"].startswith("req_")
    assert answered.headers["x-groq-region"] == "emulator"


def test_responses_are_answered(client):
    """A request of the responses API gets its output items and its usage."""
    answered = client.http.post("/responses", json={"model": MODEL, "input": "ping"}).json()
    assert answered["output"][0]["content"][0]["text"] == "Echo: ping"
    assert answered["usage"]["total_tokens"] == answered["usage"]["input_tokens"] + answered["usage"]["output_tokens"]


def test_only_the_endpoints_of_the_provider_exist(client, serve):
    """Groq has no embeddings, OpenAI has; a server like vLLM speaks no text."""
    body = {"model": "text-embedding-3-small", "input": ["a", "b"]}
    missing = client.http.post("/embeddings", json=body)
    assert (missing.status_code, refusal(missing)["code"]) == (404, "unknown_url")
    answered = serve("openai").http.post("/embeddings", json=body).json()
    assert [len(item["embedding"]) for item in answered["data"]] == [8, 8]
    assert serve("vllm").http.post("/audio/speech", json={}).status_code == 404


class TestSpeech:
    """Text to speech."""

    def test_an_answer_is_a_wav_file_that_plays(self, client):
        """Its header names one channel of 16 bits at 24 kHz, its length is that of its samples, and it is not silent."""
        answered = speak(client)
        assert (answered.status_code, answered.headers["content-type"]) == (200, "audio/wav")
        with wave.open(io.BytesIO(answered.content)) as sound:
            assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 24_000)
            samples = sound.readframes(sound.getnframes())
            assert len(samples) == sound.getnframes() * 2
        assert len(answered.content) == 44 + len(samples)
        assert int.from_bytes(answered.content[4:8], "little") == len(answered.content) - 8
        assert any(samples)

    def test_the_same_text_sounds_the_same_and_longer_texts_last_longer(self, client):
        """The bytes depend on the text and the voice alone."""
        assert speak(client).content == speak(client).content
        assert speak(client).content != speak(client, voice="troy").content
        assert len(speak(client, "word " * 20).content) > 3 * len(speak(client, "word " * 4).content)

    @pytest.mark.parametrize(
        ("change", "param"),
        [
            ({"input": ""}, "input"),
            ({"input": "x" * 201}, "input"),
            ({"voice": None}, "voice"),
            ({"voice": "nobody"}, "voice"),
            ({"response_format": "mp3"}, "response_format"),
        ],
    )
    def test_what_cannot_be_spoken_is_refused(self, client, change, param):
        """No text, a long one, no voice, an unknown one and another format are 400 with the parameter."""
        refused = speak(client, **change)
        assert (refused.status_code, refusal(refused)["param"]) == (400, param)

    def test_speech_is_not_offered_in_batches(self, client):
        """A line with its url is refused."""
        line = {**chat_line("one", model=SPEAKER), "url": "/v1/audio/speech"}
        assert client.run([line])["status"] == "failed"


class TestAudio:
    """Transcription and translation."""

    def test_a_file_or_a_url_is_transcribed(self, client):
        """The text names what was heard."""
        by_url = client.http.post("/audio/transcriptions", json={"model": HEARER, "url": "https://example.com/a.mp3"})
        assert by_url.json()["text"] == "Transcript of https://example.com/a.mp3"
        sent = {"data": {"model": HEARER}, "files": {"file": ("talk.mp3", b"ID3" + b"x" * 5_000)}}
        assert client.http.post("/audio/transcriptions", **sent).json()["text"] == "Transcript of talk.mp3"
        assert client.http.post("/audio/translations", **sent).json()["text"] == "Translation of talk.mp3"

    def test_the_length_of_a_wav_file_is_its_own(self, client):
        """Speech that is sent back is as long as it was."""
        spoken = speak(client).content
        form = {"model": HEARER, "response_format": "verbose_json"}
        heard = client.http.post("/audio/transcriptions", data=form, files={"file": ("a.wav", spoken)}).json()
        assert heard["duration"] == pytest.approx((len(spoken) - 44) / 48_000)

    def test_a_file_above_the_plans_size_is_413(self, make_client):
        """The free plan takes 25 MB; the whole body is read, so that the refusal arrives, and the connection stays open."""
        client = make_client(plan="free", speed=1)
        sent = {"data": {"model": HEARER}, "files": {"file": ("a.wav", b"RIFF" + bytes(25_000_001))}}
        refused = client.http.post("/audio/transcriptions", **sent)
        assert (refused.status_code, refusal(refused)["code"]) == (413, "request_too_large")
        assert ask(client).status_code == 200

    @pytest.mark.parametrize(
        "sent",
        [
            {"data": b"--x\r\nnonsense", "headers": {"content-type": "multipart/form-data; boundary=b"}},
            {"data": b"model=whisper", "headers": {"content-type": "application/x-www-form-urlencoded"}},
            {"data": b"[1]", "headers": {"content-type": "application/json"}},
        ],
        ids=["broken", "urlencoded", "list"],
    )
    def test_a_body_that_is_no_form_is_400(self, client, sent):
        """It is refused as JSON."""
        refused = client.http.post("/audio/transcriptions", content=sent["data"], headers=sent["headers"])
        assert refused.status_code == 400
        assert refusal(refused)["message"]


class TestCompound:
    """Systems in which the server runs tools."""

    def test_the_message_says_which_tools_were_run(self, client):
        """A sum is computed, and what else is asked is searched; the usage is broken down by model."""
        answered = ask(client, "How many are 17 * 3 apples?", model="groq/compound").json()
        tools = answered["choices"][0]["message"]["executed_tools"]
        assert [(tool["index"], tool["type"]) for tool in tools] == [(0, "python"), (1, "search")]
        assert tools[0]["output"] == "51"
        assert tools[1]["search_results"]["results"][0]["url"].startswith("https://example.com/")
        assert answered["usage_breakdown"]["models"][0]["usage"] == answered["usage"]

    def test_the_mini_system_runs_one_tool(self, client):
        """It searches if there is nothing to compute."""
        for text, kind in (("2 + 2", "python"), ("news?", "search")):
            message = ask(client, text, model="groq/compound-mini").json()["choices"][0]["message"]
            assert [tool["type"] for tool in message["executed_tools"]] == [kind]

    def test_other_models_run_no_tools(self, client):
        """Their messages have no such member."""
        assert "executed_tools" not in ask(client, "2 + 2").json()["choices"][0]["message"]

    def test_it_is_not_offered_in_batches(self, client):
        """Its line is in the error file with 400."""
        _, errors = client.results(client.run([chat_line("one", model="groq/compound"), chat_line("two")]))
        assert [(line["custom_id"], line["response"]["status_code"]) for line in errors] == [("one", 400)]


class TestTiers:
    """Service tiers."""

    @pytest.mark.parametrize("tier", ["flex", "auto", "performance"])
    def test_a_plan_without_the_tier_refuses_it(self, make_client, tier):
        """It is 400 in Groq's words."""
        refused = ask(make_client(plan="free"), service_tier=tier)
        assert (refused.status_code, refusal(refused)["type"]) == (400, "invalid_request_error")
        assert refusal(refused)["message"] == f"`service_tier` `{tier}` is not available for this org"

    @pytest.mark.parametrize(
        ("asked", "served"), [(None, "on_demand"), ("on_demand", "on_demand"), ("flex", "flex"), ("auto", "on_demand")]
    )
    def test_an_answer_names_the_tier_that_served_it(self, make_client, asked, served):
        """With room left, auto is on_demand."""
        assert ask(make_client(plan="developer"), service_tier=asked).json()["service_tier"] == served

    def test_an_unknown_tier_is_refused(self, client):
        """It is 400 with the parameter."""
        refused = ask(client, service_tier="best")
        assert (refused.status_code, refusal(refused)["param"]) == (400, "service_tier")


def test_the_key_is_checked(make_client):
    """A missing and a wrong key are 401, and nothing is executed."""
    client = make_client(api_key="right")
    for key in ("", "Bearer wrong", "right"):
        refused = client.http.post(CHAT, json=chat_body(), headers={"authorization": key})
        assert (refused.status_code, refusal(refused)["code"]) == (401, "invalid_api_key")
    assert client.emulator.ledger().synchronous.executed == 0
    assert ask(client).status_code == 200


@pytest.mark.parametrize("plan", ["free", "developer"])
def test_the_plan_decides_about_batches(make_client, plan):
    """The free plan refuses them with 403; a plan stays when the scenario changes, unless that names its own."""
    client = make_client(plan=plan)
    client.emulator.set_scenario(Scenario(name="other"))
    expected = 403 if plan == "free" else 200
    assert client.http.get("/batches").status_code == expected
    assert client.http.get("/models").status_code == 200
    client.emulator.set_scenario(Scenario(plan="developer"))
    assert client.http.get("/batches").status_code == 200


def test_a_refusal_has_the_shape_of_its_provider(serve):
    """Mistral says 404 with a detail, OpenAI with all four members."""
    body = {"model": "nobody/none", "messages": [{"role": "user", "content": "x"}]}
    assert "does not exist" in serve("mistral").http.post(CHAT, json=body).json()["detail"]
    assert set(refusal(serve("openai").http.post(CHAT, json=body))) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("content", "status"), [(b"{", 400), (b"[]", 400), (b"", 400), (b'{"model":"x"}', 404)])
def test_a_body_that_is_no_request_is_refused(client, content, status):
    """It is answered, not dropped."""
    headers = {"content-type": "application/json"}
    expected = 400 if content == b'{"model":"x"}' else status
    assert client.http.post(CHAT, content=content, headers=headers).status_code == expected
