import pytest

from batchkit.emulator import ScenarioLimits
from batchkit.emulator.faults import batches
from tests.emulator.support import CHAT, chat_line, chat_lines, ids_of

MODEL = "meta-llama/llama-4-scout-17b-16e-instruct"
MESSAGES = [{"role": "user", "content": "x"}]


def line(**changes):
    """Return a valid line with some of its keys changed or removed (None)."""
    return {key: value for key, value in {**chat_line("bad"), **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("bad", "code", "param"),
    [
        (b"{not json", "invalid_json_line", None),
        (b'"a string"', "invalid_json_line", None),
        (b"", "invalid_json_line", None),
        (line(custom_id=None), "missing_required_parameter", "custom_id"),
        (line(method=None), "missing_required_parameter", "method"),
        (line(url=None), "missing_required_parameter", "url"),
        (line(body=None), "missing_required_parameter", "body"),
        (line(custom_id=5), "invalid_type", "custom_id"),
        (line(method="GET"), "invalid_method", "method"),
        (line(url="/openai/v1/chat/completions"), "invalid_url", "url"),
        (line(body={"messages": MESSAGES}), "invalid_request", "body.model"),
        (line(body={"model": MODEL}), "invalid_request", "body.messages"),
        (line(url="/v1/audio/transcriptions", body={"model": "whisper-large-v3"}), "invalid_request", "body.url"),
        (line(body={"model": MODEL, "messages": MESSAGES, "stream": True}), "streaming_unsupported", "body.stream"),
    ],
)
def test_a_bad_line_fails_the_batch_and_is_named(client, bad, code, param):
    """One bad line fails the whole batch; errors is a bare list that names the line, counted from 1."""
    good = chat_lines(2)
    batch = client.run([good[0], bad, good[1]])
    assert batch["status"] == "failed"
    assert [(error["code"], error["param"], error["line"]) for error in batch["errors"]] == [(code, param, 2)]
    assert list(batch["errors"][0]) == ["code", "message", "param", "line"]
    assert (batch["output_file_id"], batch["error_file_id"]) == (None, None)
    assert client.emulator.ledger().executions(good[0]["custom_id"]) == 0


def test_a_custom_id_used_twice_fails_the_batch(client):
    """The second line with the same custom_id is the bad one."""
    batch = client.run(chat_lines(1) * 2)
    assert [(error["code"], error["line"]) for error in batch["errors"]] == [("duplicate_custom_id", 2)]


def test_duplicate_custom_ids_may_run(emulate):
    """A fault makes both lines run, and both answers have the custom_id."""
    client = emulate(batches.AllowDuplicateIds())
    same = chat_lines(1)
    output, _ = client.results(client.run(same * 2))
    assert ids_of(output) == ids_of(same) * 2
    assert client.emulator.ledger().executions(same[0]["custom_id"]) == 2


def test_bad_lines_may_be_skipped(emulate):
    """A fault runs the good lines, lists the bad ones in errors and omits them from the total and from both files."""
    client = emulate(batches.SkipBadLines())
    good = chat_lines(3)
    batch = client.run([good[0], line(method="GET"), good[1], b"{", good[2], good[0]])
    assert batch["status"] == "completed"
    assert [error["line"] for error in batch["errors"]] == [2, 4, 6]
    assert batch["request_counts"] == {"completed": 3, "failed": 0, "total": 3}
    assert ids_of(client.records(batch["output_file_id"])) == ids_of(good)


def test_only_bad_lines_fail_even_when_they_are_skipped(emulate):
    """A batch without a good line fails."""
    assert emulate(batches.SkipBadLines()).run([line(method="GET")])["status"] == "failed"


def test_too_many_lines_fail_the_batch(emulate):
    """A file with more lines than the limit fails without naming a line; one of exactly the limit runs."""
    client = emulate(limits=ScenarioLimits(max_lines=3))
    assert client.run(chat_lines(3))["status"] == "completed"
    batch = client.run(chat_lines(4))
    assert [(error["code"], error["line"]) for error in batch["errors"]] == [("too_many_tasks", None)]


def test_the_list_of_errors_is_bounded(emulate):
    """Only the first errors are listed."""
    batch = emulate(limits=ScenarioLimits(errors_shown=5)).run(
        [line(custom_id=f"b{n}", method="GET") for n in range(20)]
    )
    assert [error["line"] for error in batch["errors"]] == [1, 2, 3, 4, 5]


def test_files_may_be_mixed(client):
    """Chat, transcription and translation lines of several models run in one batch."""
    lines_in = chat_lines(3)
    lines_in[1] |= {
        "url": "/v1/audio/transcriptions",
        "body": {"model": "whisper-large-v3", "url": "https://example.com/a.mp3"},
    }
    lines_in[2] |= {
        "url": "/v1/audio/translations",
        "body": {"model": "whisper-large-v3", "url": "https://example.com/b.mp3"},
    }
    output, _ = client.results(client.run(lines_in))
    assert [record["response"]["body"].get("text") for record in output[1:]] == [
        "Transcript of https://example.com/a.mp3",
        "Translation of https://example.com/b.mp3",
    ]


def test_a_server_may_refuse_mixed_files(emulate):
    """A fault requires a single url and a single model."""
    client = emulate(batches.SingleEndpoint(model_too=True))
    lines_in = chat_lines(3)
    lines_in[1] |= {
        "url": "/v1/audio/transcriptions",
        "body": {"model": "whisper-large-v3", "url": "https://example.com/a.mp3"},
    }
    lines_in[2]["body"]["model"] = "openai/gpt-oss-20b"
    batch = client.run(lines_in)
    assert [(error["code"], error["line"]) for error in batch["errors"]] == [("invalid_url", 2), ("model_mismatch", 3)]


def test_retired_models_fail_the_batch(emulate):
    """A fault refuses models at validation."""
    batch = emulate(batches.RefuseModels(models={MODEL})).run(chat_lines(1))
    assert batch["errors"][0]["code"] == "model_not_found"
    assert batch["errors"][0]["param"] == "body.model"


def test_a_batch_may_be_refused_as_a_whole(emulate):
    """A full queue fails the batch with token_limit_exceeded and no line; the next batch runs."""
    client = emulate("queue-full")
    first, second = client.run(chat_lines(1)), client.run(chat_lines(1))
    assert (first["errors"][0]["code"], first["errors"][0]["line"]) == ("token_limit_exceeded", None)
    assert second["status"] == "completed"


def test_the_endpoint_does_not_bind_the_lines(client):
    """The batch shows the endpoint it was created with."""
    assert client.run(chat_lines(1), endpoint="/v1/audio/transcriptions")["endpoint"] != CHAT
