"""Which models are served, and how requests to other models are refused."""

import pytest

from batchkit.emulator import Emulator
from batchkit.emulator.scenarios.scenario import load_scenario
from tests.emulator.support import FAST, Client, chat_line, ids_of

ABSENT = "somebody/never-listed"
MESSAGES = [{"role": "user", "content": "x"}]


def chat(client, model):
    """Call a chat model."""
    return client.http.post("/chat/completions", json={"model": model, "messages": MESSAGES})


def transcribe(client, model):
    """Call a transcription model."""
    return client.http.post("/audio/transcriptions", json={"model": model, "url": "https://example.com/a.mp3"})


def listed(client):
    """Return the models of GET /models."""
    return [model["id"] for model in client.http.get("/models").json()["data"]]


def audio_line(custom_id, model):
    """Return a transcription line."""
    body = {"model": model, "url": "https://example.com/a.mp3"}
    return {**chat_line(custom_id), "url": "/v1/audio/transcriptions", "body": body}


@pytest.mark.parametrize("call", [chat, transcribe])
def test_a_call_to_a_model_that_is_not_listed_is_404(client, call):
    """Chat and audio answer model_not_found in Groq's wording."""
    response = call(client, ABSENT)
    assert response.status_code == 404
    assert response.json()["error"] == {
        "message": f"The model `{ABSENT}` does not exist or you do not have access to it.",
        "type": "invalid_request_error",
        "code": "model_not_found",
    }


def test_a_batch_refuses_unlisted_models_line_by_line(client):
    """Lines for unlisted models are in the error file with 404, the others are answered; the batch completes."""
    lines = [
        chat_line("good"),
        chat_line("bad-chat", model=ABSENT),
        audio_line("bad-audio", "whisper-9"),
        audio_line("good-audio", "whisper-large-v3"),
    ]
    batch = client.run(lines)
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"completed": 2, "failed": 2, "total": 4}
    output, errors = client.results(batch)
    assert ids_of(output) == ["good", "good-audio"]
    assert ids_of(errors) == ["bad-chat", "bad-audio"]
    assert {record["response"]["status_code"] for record in errors} == {404}
    assert {record["response"]["body"]["error"]["code"] for record in errors} == {"model_not_found"}
    assert client.emulator.ledger().successes.get("bad-chat", 0) == 0


def test_a_batch_refuses_bad_bodies_line_by_line(client):
    """A body that a call would answer with 400 is an error line with 400; the other lines are answered."""
    bad = chat_line("bad", messages=[{"role": "user", "content": "x", "rolez": "user"}])
    batch = client.run([chat_line("one"), bad, chat_line("two")])
    output, errors = client.results(batch)
    assert ids_of(output) == ["one", "two"]
    assert [(record["custom_id"], record["response"]["status_code"]) for record in errors] == [("bad", 400)]
    assert "property 'rolez' is unsupported" in errors[0]["response"]["body"]["error"]["message"]
    assert client.http.post("/chat/completions", json=bad["body"]).status_code == 400


@pytest.mark.parametrize("body", [{"messages": []}, {"messages": "x"}, {"model": ""}, {"model": 5}, {"n": 2}], ids=str)
def test_a_wrong_body_fails_only_its_own_line(client, body):
    """Validation detects only a missing body."""
    batch = client.run([chat_line("one"), chat_line("bad", **body)])
    assert batch["request_counts"] == {"completed": 1, "failed": 1, "total": 2}
    assert [error["response"]["status_code"] for error in client.results(batch)[1]] == [400]


def test_any_model_is_answered_on_request(make_client):
    """With any_model, every name is answered in calls and in batches, and is returned when read by id."""
    client = make_client(any_model=True)
    assert ABSENT not in listed(client)
    assert chat(client, ABSENT).json()["model"] == ABSENT
    assert transcribe(client, ABSENT).status_code == 200
    assert client.http.get(f"/models/{ABSENT}").json()["id"] == ABSENT
    assert client.run([chat_line("a", model=ABSENT)])["request_counts"]["completed"] == 1


def test_any_model_survives_a_change_of_the_scenario(make_client):
    """A later scenario does not turn it off."""
    client = make_client(any_model=True)
    client.emulator.set_scenario("expire-30")
    assert chat(client, ABSENT).status_code == 200


def test_a_scenario_can_answer_any_model(emulate):
    """The scenario's key has the same effect."""
    client = emulate(any_model=True)
    assert chat(client, ABSENT).status_code == 200


def test_a_scenario_can_list_the_models(emulate):
    """GET /models returns exactly the scenario's models; others, including Groq's, are refused."""
    client = emulate(models=frozenset({ABSENT, "openai/gpt-oss-20b"}))
    assert listed(client) == ["openai/gpt-oss-20b", ABSENT]
    assert chat(client, ABSENT).status_code == 200
    assert client.http.get(f"/models/{ABSENT}").json()["active"] is True
    assert chat(client, "openai/gpt-oss-120b").status_code == 404
    assert client.http.get("/models/openai/gpt-oss-120b").status_code == 404


def test_a_scenario_file_lists_models_and_is_stored(tmp_path):
    """A TOML file may list them; a later start in the same directory serves them without it."""
    file = tmp_path / "own.toml"
    file.write_text('models = ["mine"]\n', encoding="utf-8")
    assert load_scenario(file).models == frozenset({"mine"})
    with Emulator(tmp_path / "e", file, speed=FAST) as emulator, Client(emulator) as client:
        assert listed(client) == ["mine"]
    with Emulator(tmp_path / "e", speed=FAST) as emulator, Client(emulator) as client:
        assert listed(client) == ["mine"]


def test_a_model_that_is_shut_down_is_refused(client):
    """A former model of Groq is neither listed nor answered."""
    assert "llama-3.1-8b-instant" not in listed(client)
    assert chat(client, "llama-3.1-8b-instant").status_code == 404


def test_the_shape_of_a_body_is_checked_before_its_model(client):
    """A body with an unknown model and a wrong shape is refused for its shape."""
    response = client.http.post("/chat/completions", json={"model": ABSENT, "messages": []})
    assert response.status_code == 400


def test_form_fields_of_audio_are_converted(client):
    """A number in a multipart form is read as a number; a value that is no number is refused."""
    sent = {"model": "whisper-large-v3", "url": "https://example.com/a.mp3"}
    files = {"unused": ("x", b"")}
    accepted = client.http.post("/audio/transcriptions", data={**sent, "temperature": "0.2"}, files=files)
    refused = client.http.post("/audio/transcriptions", data={**sent, "temperature": "cold"}, files=files)
    assert (accepted.status_code, refused.status_code) == (200, 400)
