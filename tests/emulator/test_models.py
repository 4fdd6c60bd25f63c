"""Which models are served, and how requests to others are refused."""

import pytest

from batchkit.emulator import Emulator
from batchkit.emulator.scenarios.scenario import load_scenario
from tests.emulator.support import FAST, Client, chat_line, ids_of

ABSENT = "somebody/never-listed"
MESSAGES = [{"role": "user", "content": "x"}]


def chat(client, model):
    """Ask a model in a call."""
    return client.http.post("/chat/completions", json={"model": model, "messages": MESSAGES})


def transcribe(client, model):
    """Ask for a transcript in a call."""
    return client.http.post("/audio/transcriptions", json={"model": model, "url": "https://example.com/a.mp3"})


def listed(client):
    """Name the models of GET /models."""
    return [model["id"] for model in client.http.get("/models").json()["data"]]


def audio_line(custom_id, model):
    """Make a transcription line."""
    body = {"model": model, "url": "https://example.com/a.mp3"}
    return {**chat_line(custom_id), "url": "/v1/audio/transcriptions", "body": body}


@pytest.mark.parametrize("call", [chat, transcribe])
def test_a_call_to_a_model_that_is_not_listed_is_404(client, call):
    """Chat and audio answer model_not_found in Groq's words."""
    response = call(client, ABSENT)
    assert response.status_code == 404
    assert response.json()["error"] == {
        "message": f"The model `{ABSENT}` does not exist or you do not have access to it.",
        "type": "invalid_request_error",
        "code": "model_not_found",
    }


def test_a_batch_refuses_unlisted_models_line_by_line(client):
    """The lines of unlisted models are in the error file with 404, the others are answered; the batch completes."""
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
    """A body that a call would answer with 400 is an error line with 400; the lines around it are answered."""
    bad = chat_line("bad", messages=[{"role": "user", "content": "x", "rolez": "user"}])
    batch = client.run([chat_line("one"), bad, chat_line("two")])
    output, errors = client.results(batch)
    assert ids_of(output) == ["one", "two"]
    assert [(record["custom_id"], record["response"]["status_code"]) for record in errors] == [("bad", 400)]
    assert "property 'rolez' is unsupported" in errors[0]["response"]["body"]["error"]["message"]
    assert client.http.post("/chat/completions", json=bad["body"]).status_code == 400


@pytest.mark.parametrize("body", [{"messages": []}, {"messages": "x"}, {"model": ""}, {"model": 5}, {"n": 2}], ids=str)
def test_a_body_that_is_there_but_wrong_fails_its_own_line_only(client, body):
    """Only what is missing altogether is found before the batch runs."""
    batch = client.run([chat_line("one"), chat_line("bad", **body)])
    assert batch["request_counts"] == {"completed": 1, "failed": 1, "total": 2}
    assert [error["response"]["status_code"] for error in client.results(batch)[1]] == [400]


def test_any_model_is_answered_when_that_is_asked_for(make_client):
    """The constructor's any_model answers whatever the name, in calls and in batches, and shows it when asked by id."""
    client = make_client(any_model=True)
    assert ABSENT not in listed(client)
    assert chat(client, ABSENT).json()["model"] == ABSENT
    assert transcribe(client, ABSENT).status_code == 200
    assert client.http.get(f"/models/{ABSENT}").json()["id"] == ABSENT
    assert client.run([chat_line("a", model=ABSENT)])["request_counts"]["completed"] == 1


def test_any_model_outlives_a_change_of_the_scenario(make_client):
    """A scenario that comes later does not turn it off."""
    client = make_client(any_model=True)
    client.emulator.set_scenario("expire-30")
    assert chat(client, ABSENT).status_code == 200


def test_a_scenario_can_answer_any_model(emulate):
    """The scenario's key does the same."""
    client = emulate(any_model=True)
    assert chat(client, ABSENT).status_code == 200


def test_a_scenario_can_list_the_models(emulate):
    """GET /models shows exactly the scenario's models; others, Groq's too, are refused."""
    client = emulate(models=frozenset({ABSENT, "openai/gpt-oss-20b"}))
    assert listed(client) == ["openai/gpt-oss-20b", ABSENT]
    assert chat(client, ABSENT).status_code == 200
    assert client.http.get(f"/models/{ABSENT}").json()["active"] is True
    assert chat(client, "openai/gpt-oss-120b").status_code == 404
    assert client.http.get("/models/openai/gpt-oss-120b").status_code == 404


def test_a_scenario_file_lists_models_and_is_kept(tmp_path):
    """A TOML file may name them; the directory serves them again later without it."""
    file = tmp_path / "own.toml"
    file.write_text('models = ["mine"]\n', encoding="utf-8")
    assert load_scenario(file).models == frozenset({"mine"})
    with Emulator(tmp_path / "e", file, speed=FAST) as emulator, Client(emulator) as client:
        assert listed(client) == ["mine"]
    with Emulator(tmp_path / "e", speed=FAST) as emulator, Client(emulator) as client:
        assert listed(client) == ["mine"]


def test_a_model_that_is_shut_down_is_refused(client):
    """A model of Groq's past is neither listed nor answered."""
    assert "llama-3.1-8b-instant" not in listed(client)
    assert chat(client, "llama-3.1-8b-instant").status_code == 404


def test_the_shape_of_a_body_is_checked_before_its_model(client):
    """A body that is wrong in both ways is told about its shape."""
    response = client.http.post("/chat/completions", json={"model": ABSENT, "messages": []})
    assert response.status_code == 400


def test_form_fields_of_audio_are_read_as_what_they_mean(client):
    """A number in a multipart form is a number; one that is none is refused."""
    sent = {"model": "whisper-large-v3", "url": "https://example.com/a.mp3"}
    files = {"unused": ("x", b"")}
    accepted = client.http.post("/audio/transcriptions", data={**sent, "temperature": "0.2"}, files=files)
    refused = client.http.post("/audio/transcriptions", data={**sent, "temperature": "cold"}, files=files)
    assert (accepted.status_code, refused.status_code) == (200, 400)
