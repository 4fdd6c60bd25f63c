import orjson
import pytest

from batchkit.emulator import Scenario
from batchkit.emulator.faults import answers, lines
from tests.emulator.support import Client, chat_line, chat_lines, ids_of


def test_success_lines_have_groqs_shape(client):
    """A success has id, custom_id, response and a null error; the request id is that of x_groq; the answer fits its request."""
    lines_in = chat_lines(3)
    output, _ = client.results(client.run(lines_in))
    assert ids_of(output) == ids_of(lines_in)
    record = output[1]
    assert list(record) == ["id", "custom_id", "response", "error"]
    assert record["id"].startswith("batch_req_out_")
    assert record["error"] is None
    assert list(record["response"]) == ["status_code", "request_id", "body"]
    body = record["response"]["body"]
    assert record["response"]["status_code"] == 200
    assert record["response"]["request_id"] == body["x_groq"]["id"]
    assert body["service_tier"] == "batch"
    assert body["object"] == "chat.completion"
    assert body["usage_breakdown"] is None
    assert body["choices"][0]["message"]["content"] == f"Echo: {lines_in[1]['body']['messages'][0]['content']}"
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]


def test_files_are_compact_unescaped_utf8_with_a_last_newline(client):
    """Each line is one compact object; non-ASCII is not escaped; the file ends with a newline."""
    batch = client.run([chat_line("utf8-1", "Grüße 日本")])
    content = client.content(batch["output_file_id"])
    assert "Grüße 日本".encode() in content
    assert content.endswith(b"}\n")
    assert b'": ' not in content


def test_failed_lines_go_to_the_error_file(emulate):
    """Refused requests are in the error file with their status and error body; a batch with only refusals has no output file."""
    client: Client = emulate(lines.FailLines(status=422, code="some_code", message="No."))
    batch = client.run(chat_lines(2))
    assert (batch["status"], batch["output_file_id"]) == ("completed", None)
    assert batch["request_counts"] == {"completed": 0, "failed": 2, "total": 2}
    record = client.records(batch["error_file_id"])[0]
    assert record["error"] is None
    assert record["response"]["status_code"] == 422
    assert record["response"]["body"]["error"] == {
        "message": "No.",
        "type": "invalid_request_error",
        "code": "some_code",
    }


def test_failed_lines_can_lack_fields(emulate):
    """A bare error line has neither the request id nor the error key."""
    client = emulate(lines.FailLines(bare=True))
    record = client.records(client.run(chat_lines(1))["error_file_id"])[0]
    assert list(record) == ["id", "custom_id", "response"]
    assert list(record["response"]) == ["status_code", "body"]


@pytest.mark.parametrize("code", ["json_validate_failed", "tool_use_failed"])
def test_failed_generations_contain_what_was_written(emulate, code):
    """A failed generation has its code and the text that the model had written."""
    client = emulate(lines.FailGeneration(code=code, failed_generation='{"a": '))
    error = client.records(client.run(chat_lines(1))["error_file_id"])[0]["response"]["body"]["error"]
    assert (error["code"], error["failed_generation"]) == (code, '{"a": ')


def test_timed_out_lines_have_only_a_top_level_error(emulate):
    """A timeout has a null response and its code at the top, and counts as failed."""
    client = emulate(lines.TimeOutLines())
    batch = client.run(chat_lines(1))
    record = client.records(batch["error_file_id"])[0]
    assert (record["response"], record["error"]["code"]) == (None, "request_timeout")
    assert batch["request_counts"] == {"completed": 0, "failed": 1, "total": 1}


@pytest.mark.parametrize("executed", [False, True])
def test_dropped_lines_are_in_neither_file_although_counted(emulate, executed):
    """Dropped lines count as completed; the fault's parameter decides whether the ledger has them as bought."""
    client = emulate(lines.DropLines(count=5, executed=executed))
    lines_in = chat_lines(50)
    batch = client.run(lines_in)
    output, errors = client.results(batch)
    assert (len(output), errors) == (45, [])
    assert batch["request_counts"] == {"completed": 50, "failed": 0, "total": 50}
    lost = set(ids_of(lines_in)) - set(ids_of(output))
    assert {client.emulator.ledger().executions(custom_id) for custom_id in lost} == {int(executed)}


@pytest.mark.parametrize(("second", "in_output", "in_errors"), [("same", 2, 0), ("other", 2, 0), ("error", 1, 1)])
def test_duplicate_lines_share_a_custom_id(emulate, second, in_output, in_errors):
    """The second copy is identical, another answer, or an error; the request was executed once."""
    client = emulate(lines.DuplicateLines(second=second))
    lines_in = chat_lines(1)
    output, errors = client.results(client.run(lines_in))
    assert (len(output), len(errors)) == (in_output, in_errors)
    assert set(ids_of(output + errors)) == set(ids_of(lines_in))
    if in_output == 2:
        assert (output[0] == output[1]) == (second == "same")
    assert client.emulator.ledger().executions(lines_in[0]["custom_id"]) == 1


def test_unknown_lines_are_extra(emulate):
    """A line with an unknown custom_id follows a real one."""
    lines_in = chat_lines(2)
    client = emulate(lines.UnknownLines(custom_ids={lines_in[0]["custom_id"]}))
    output, _ = client.results(client.run(lines_in))
    first, second = ids_of(lines_in)
    assert ids_of(output) == [first, f"unknown-{first}", second]


@pytest.mark.parametrize("how", ["cut", "unescaped", "not-utf8"])
def test_broken_lines_do_not_parse_but_contain_their_custom_id(emulate, how):
    """A broken line is no JSON, is on its own line, and still contains its custom_id."""
    lines_in = chat_lines(3)
    client = emulate(lines.BreakLines(custom_ids={lines_in[1]["custom_id"]}, how=how))
    raw = client.content(client.run(lines_in)["output_file_id"]).split(b"\n")
    assert len(raw) == 4
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(raw[1])
    assert lines_in[1]["custom_id"].encode() in raw[1]
    assert orjson.loads(raw[2])["custom_id"] == lines_in[2]["custom_id"]


def test_zero_status_lines_are_empty(emulate):
    """Status 0 comes with an empty request id, an empty body and a null error, in the error file."""
    client = emulate(lines.ZeroStatusLines())
    record = client.records(client.run(chat_lines(1))["error_file_id"])[0]
    assert record["response"] == {"status_code": 0, "request_id": "", "body": {}}
    assert record["error"] is None


@pytest.mark.parametrize("how", ["error", "null-body", "null-response"])
def test_empty_successes_are_in_the_output_file(emulate, how):
    """A line of the output file may be no success, and the ledger knows it."""
    client = emulate(lines.HollowSuccesses(how=how))
    lines_in = chat_lines(1)
    record = client.records(client.run(lines_in)["output_file_id"])[0]
    assert record["error"] is not None or record["response"] is None or record["response"]["body"] is None
    assert client.emulator.ledger().successes[lines_in[0]["custom_id"]] == 0


def test_raw_separators_do_not_end_a_line(emulate):
    """U+2028, U+2029 and U+0085 are unescaped inside a line, which only a newline byte ends."""
    client = emulate(answers.RawSeparators())
    content = client.content(client.run(chat_lines(4))["output_file_id"])
    assert content.count(b"\n") == 4
    assert len(content.decode().splitlines()) == 16
    assert orjson.loads(content.split(b"\n")[0])["response"]["body"]["choices"][0]["message"]["content"].endswith("end")


def test_answers_may_be_cut_or_empty(emulate):
    """A cut answer has finish reason length; an empty one has null content; both are successes."""
    lines_in = chat_lines(2)
    first, second = ids_of(lines_in)
    client = emulate(answers.CutAnswers(custom_ids={first}), answers.EmptyAnswers(custom_ids={second}))
    choices = [record["response"]["body"]["choices"][0] for record in client.results(client.run(lines_in))[0]]
    assert choices[0]["finish_reason"] == "length"
    assert choices[1]["message"]["content"] is None


@pytest.mark.parametrize(
    ("into", "read"),
    [
        ("choices", lambda body: [(one["finish_reason"], one["message"]["content"]) for one in body["choices"]]),
        ("parts", lambda body: [(one["type"], one["text"]) for one in body["choices"][0]["message"]["content"]]),
        ("output", lambda body: [(one["status"], one["content"][0]["text"]) for one in body["output"]]),
    ],
)
def test_answers_may_be_split(emulate, into, read):
    """The answer has several items, of which only the last is complete: choices, content parts, or responses API items."""
    client = emulate(answers.SplitAnswers(into=into))
    output, _ = client.results(client.run([chat_line("split-1", "a question")]))
    marks = {"choices": ("length", "stop"), "parts": ("text", "text"), "output": ("incomplete", "completed")}[into]
    assert read(output[0]["response"]["body"]) == [(marks[0], "Echo: a "), (marks[1], "Echo: a question")]


def test_lines_may_have_extra_fields(emulate):
    """Undocumented fields are beside the response, inside it and in its body, in both files; the rest is unchanged."""
    refused, answered = chat_lines(2)
    client = emulate(lines.FailLines(custom_ids={refused["custom_id"]}), lines.ExtraLineFields(fields={"new": 1}))
    output, errors = client.results(client.run([refused, answered]))
    for record in (*output, *errors):
        assert (record["new"], record["response"]["new"], record["response"]["body"]["new"]) == (1, 1, 1)
    assert (ids_of(output), ids_of(errors)) == ([answered["custom_id"]], [refused["custom_id"]])


def test_models_may_be_retired_line_by_line(emulate):
    """Requests to a retired model are 404 model_not_found in the error file; those to other models are answered."""
    kept, gone = chat_lines(2)
    gone["body"]["model"] = "qwen/qwen3-32b"
    client = emulate(lines.RetireModels(models={"qwen/qwen3-32b"}))
    batch = client.run([kept, gone])
    output, errors = client.results(batch)
    assert batch["status"] == "completed"
    assert ids_of(output) == [kept["custom_id"]]
    assert errors[0]["response"]["status_code"] == 404
    assert errors[0]["response"]["body"]["error"]["code"] == "model_not_found"
    assert "qwen/qwen3-32b" in errors[0]["response"]["body"]["error"]["message"]


def test_tool_calls_may_be_broken(emulate):
    """The arguments of a broken tool call are invalid JSON."""
    tools = [
        {
            "type": "function",
            "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
        }
    ]
    client = emulate(answers.BreakToolCalls())
    message = client.records(client.run([chat_line("tool-1", tools=tools)])["output_file_id"])[0]["response"]["body"][
        "choices"
    ][0]["message"]
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(message["tool_calls"][0]["function"]["arguments"])


class TestSelection:
    """The lines that a fault hits."""

    def test_a_share_is_selected_by_the_seed(self, make_client):
        """The same seed selects the same custom_ids, another seed others, and about the requested share."""
        lines_in = [chat_line(f"s{n}") for n in range(400)]

        def failed(seed):
            client = make_client(Scenario(seed=seed, faults=(lines.FailLines(fraction=0.3),)))
            return set(ids_of(client.results(client.run(lines_in))[1]))

        first = failed(1)
        assert first == failed(1)
        assert first != failed(2)
        assert 90 <= len(first) <= 150

    def test_attempts_count_the_batches_that_contained_the_request(self, emulate):
        """A fault of the first two attempts is absent at the third."""
        client = emulate(lines.FailLines(attempts=2))
        lines_in = chat_lines(1)
        failed = [client.run(lines_in)["request_counts"]["failed"] for _ in range(3)]
        assert failed == [1, 1, 0]

    def test_requests_that_expire_at_the_first_attempt_succeed_when_resubmitted(self, emulate):
        """They succeed in the next batch, and none is executed twice."""
        client = emulate("expire-30")
        lines_in = chat_lines(100)
        first = client.run(lines_in)
        left = set(ids_of(client.results(first)[1]))
        assert 15 <= len(left) <= 45
        second = client.run([line for line in lines_in if line["custom_id"] in left])
        assert second["status"] == "completed"
        ledger = client.emulator.ledger()
        assert {ledger.executions(custom_id) for custom_id in ids_of(lines_in)} == {1}

    @pytest.mark.parametrize(("count", "total"), [(0, 7), (1, 7), (5, 7), (7, 7), (9, 7), (3, 1_000)])
    def test_a_count_is_exact(self, emulate, count, total):
        """Exactly this many lines of a batch are hit, at most all of them."""
        client = emulate(lines.FailLines(count=count))
        assert client.run(chat_lines(total))["request_counts"]["failed"] == min(count, total)

    def test_selections_are_combined_with_and(self, emulate):
        """Two selections together hit only the lines that both select."""
        lines_in = chat_lines(10)
        wanted = frozenset(ids_of(lines_in)[:4])
        client = emulate(lines.FailLines(custom_ids=wanted, count=5))
        assert set(ids_of(client.results(client.run(lines_in))[1])) < wanted


def test_garbled_answers_look_complete(emulate):
    """A garbled answer is a success with finish reason stop, and is neither the requested answer nor JSON."""
    client: Client = emulate(answers.GarbleAnswers())
    wanted = {"type": "json_object"}
    output, _ = client.results(client.run([chat_line("a", "Say it in JSON", response_format=wanted)]))
    choice = output[0]["response"]["body"]["choices"][0]
    assert choice["finish_reason"] == "stop"
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(choice["message"]["content"])


def test_wrong_answers_become_the_next_of_the_given_ones(emulate):
    """A model's answer is replaced by the next of the given contents, so that no correct answer stays correct."""
    client: Client = emulate(answers.WrongAnswers(contents=("Echo: yes", "Echo: no")))
    output, _ = client.results(client.run([chat_line("a", "yes"), chat_line("b", "no"), chat_line("c", "maybe")]))
    said = {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in output}
    assert said == {"a": "Echo: no", "b": "Echo: yes", "c": "Echo: yes"}


@pytest.mark.parametrize(
    ("sign", "number"),
    [("low_confidence", "avg_logprob"), ("repetitive", "compression_ratio"), ("no_speech", "no_speech_prob")],
)
def test_blurred_segments_are_recognisable(emulate, sign, number):
    """One number of a transcript's last segment is out of its usual range."""
    body = {"model": "whisper-large-v3", "url": "https://example.com/a.mp3", "response_format": "verbose_json"}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/audio/transcriptions", "body": body}
    numbers = []
    for faults in ((), (answers.BlurSegments(sign=sign),)):
        client: Client = emulate(*faults)
        output, _ = client.results(client.run([line]))
        numbers.append(output[0]["response"]["body"]["segments"][-1][number])
    assert numbers[0] != numbers[1]
