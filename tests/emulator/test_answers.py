import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchkit.emulator.answers.answers import answer
from batchkit.emulator.answers.model_request import ModelRequest, count_tokens
from batchkit.emulator.contract.endpoints import CHAT, TRANSCRIPTIONS, TRANSLATIONS

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def ask(endpoint=CHAT, /, **body):
    """Send a request and return status and body."""
    return answer(ModelRequest(endpoint, body, 2**100 + 12345, "req_x", 1_700_000_000, "batch"))


def chat(text="hello", **body):
    """Send a request to a chat model."""
    return ask(
        **{
            "model": "meta-llama/llama-4-scout-17b-16e-instruct",
            "messages": [{"role": "user", "content": text}],
            **body,
        }
    )


def message(**body):
    """Send a request to a chat model and return the message."""
    status, answered = chat(**body)
    assert status == 200, answered
    return answered["choices"][0]["message"]


def test_the_same_request_gets_the_same_answer():
    """The answer depends on the body alone and quotes its last user message."""
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "two"},
    ]
    assert message(messages=messages)["content"] == "Echo: two"
    assert message(messages=messages) == message(messages=messages)


def test_content_parts_are_read():
    """The text of a vision message counts, and its images do not."""
    parts = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
    ]
    assert message(messages=[{"role": "user", "content": parts}])["content"] == "Echo: what is this?"


def test_json_mode_answers_json():
    """json_object returns an object."""
    assert orjson.loads(message(response_format={"type": "json_object"})["content"]) == {"echo": "hello"}


def test_structured_outputs_follow_the_schema():
    """json_schema returns a value of the schema."""
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 3}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert orjson.loads(message(response_format=wanted)["content"]) == {"n": 3}


def test_an_impossible_schema_is_a_failed_generation():
    """It is 400 json_validate_failed."""
    status, body = chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}})
    assert (status, body["error"]["code"], body["error"]["failed_generation"]) == (400, "json_validate_failed", "")


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("auto", "weather"),
        ("required", "weather"),
        ("none", None),
        ({"type": "function", "function": {"name": "clock"}}, "clock"),
    ],
)
def test_tools_are_called_as_chosen(choice, called):
    """The first tool is called unless another is named or none is wanted; the arguments fit the parameters."""
    status, body = chat(tools=[WEATHER, CLOCK], tool_choice=choice)
    assert status == 200
    made = body["choices"][0]["message"].get("tool_calls")
    assert (made and made[0]["function"]["name"]) == called
    assert body["choices"][0]["finish_reason"] == ("tool_calls" if called else "stop")
    if called == "weather":
        assert orjson.loads(made[0]["function"]["arguments"])["unit"] in {"C", "F"}


def test_a_tool_result_is_answered_in_text():
    """After a tool's result the model answers with text."""
    messages = [
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "name": "weather", "tool_call_id": "c", "content": "12"},
    ]
    assert message(messages=messages, tools=[WEATHER])["content"] == "Echo: 12"


@pytest.mark.parametrize(
    ("settings", "field", "thinks_aloud"),
    [
        ({"model": "openai/gpt-oss-20b"}, True, False),
        ({"model": "openai/gpt-oss-20b", "include_reasoning": False}, False, False),
        ({"model": "qwen/qwen3-32b"}, False, True),
        ({"model": "qwen/qwen3-32b", "reasoning_format": "parsed"}, True, False),
        ({"model": "qwen/qwen3-32b", "reasoning_format": "hidden"}, False, False),
        ({"model": "qwen/qwen3-32b", "reasoning_effort": "none"}, False, False),
        ({"model": "qwen/qwen3-32b", "response_format": {"type": "json_object"}}, True, False),
        ({"model": "meta-llama/llama-4-scout-17b-16e-instruct"}, False, False),
    ],
)
def test_reasoning_is_returned_as_requested(settings, field, thinks_aloud):
    """Reasoning is in a field, in the text, or hidden, depending on model and parameter."""
    got = message(**settings)
    assert ("reasoning" in got) == field
    assert got["content"].startswith("<think>") == thinks_aloud


def test_reasoning_tokens_are_counted():
    """Usage has the number of reasoning tokens."""
    usage = chat(model="openai/gpt-oss-20b")[1]["usage"]
    assert 0 < usage["completion_tokens_details"]["reasoning_tokens"] < usage["completion_tokens"]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("How do I bake bread?", "safe"),
        ("Write a script to hack a network", "unsafe\nS2"),
        ("build a bomb", "unsafe\nS9"),
    ],
)
def test_llama_guard_gives_a_verdict(text, verdict):
    """The safeguard model returns safe, or unsafe with the category on the next line."""
    assert message(text=text, model="meta-llama/llama-guard-4-12b")["content"] == verdict


def test_long_answers_stop_at_the_limit():
    """Text is cut with finish_reason length; JSON that would be cut is a failure."""
    status, body = chat("word " * 100, max_completion_tokens=5)
    assert (status, body["choices"][0]["finish_reason"]) == (200, "length")
    assert count_tokens(body["choices"][0]["message"]["content"]) <= 5
    status, body = chat("word " * 100, max_completion_tokens=5, response_format={"type": "json_object"})
    assert (status, body["error"]["code"]) == (400, "json_validate_failed")
    assert body["error"]["failed_generation"]


def test_stop_sequences_end_the_answer():
    """The answer ends before the first stop sequence."""
    assert message(text="one STOP two", stop=["STOP"])["content"] == "Echo: one "
    assert message(text="one STOP two", stop="two")["content"] == "Echo: one STOP "
    assert message(text="one STOP two", stop=["", "two"])["content"] == "Echo: one STOP "


@pytest.mark.parametrize(
    "body",
    [
        {"logprobs": True},
        {"logprobs": False},
        {"logit_bias": {"1": 1}},
        {"thinking": {"type": "enabled"}},
        {"top_logprobs": 2},
        {"n": 2},
        {"n": 0},
        {"n": True},
        {"temperature": "warm"},
        {"temperature": 3},
        {"top_p": -0.5},
        {"seed": 1.5},
        {"max_completion_tokens": "64"},
        {"parallel_tool_calls": "yes"},
        {"user": 7},
        {"metadata": ["a"]},
        {"messages": None},
        {"messages": []},
        {"messages": {"role": "user", "content": "x"}},
        {"messages": ["x"]},
        {"messages": [{"content": "x"}]},
        {"messages": [{"role": None, "content": "x"}]},
        {"messages": [{"role": ["user"], "content": "x"}]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": {"text": "x"}}]},
        {"messages": [{"role": "user", "content": []}]},
        {"messages": [{"role": "user", "content": ["x"]}]},
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
        {"messages": [{"role": "user", "content": [{"text": "x"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "video", "video": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "https://a/b.png"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]},
        {"messages": [{"role": "assistant"}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": []}]},
        {"messages": [{"role": "assistant", "tool_calls": {"id": "c"}}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}]}]},
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f"}}]}
            ]
        },
        {"messages": [{"role": "assistant", "content": "x", "refusal": None}]},
        {"messages": [{"role": "tool", "content": "12"}]},
        {"messages": [{"role": "function", "content": "12"}]},
        {"messages": [{"role": "user", "content": "x", "tool_call_id": "c"}]},
        {"messages": [{"role": "robot", "content": ""}]},
        {"messages": [{"role": "user", "name": "n", "content": ""}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}] * 6}]},
        {"model": None},
        {"tools": [CLOCK] * 129},
        {"tools": {"type": "function"}},
        {"tools": [{}]},
        {"tools": ["clock"]},
        {"tools": [{"type": "function", "function": {"name": None}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": "none"}}]},
        {"tool_choice": "always"},
        {"tool_choice": ["auto"]},
        {"tool_choice": "required"},
        {"tools": [CLOCK], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
        {"response_format": "json_object"},
        {"response_format": {"type": "xml"}},
        {"response_format": {"type": ["json_object"]}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": "object"}}},
        {"response_format": {"type": "json_schema"}},
        {"reasoning_format": "raw", "tools": [CLOCK]},
        {"reasoning_format": "raw", "response_format": {"type": "json_object"}},
        {"reasoning_format": "parsed", "include_reasoning": True},
        {"reasoning_format": "loud"},
        {"model": "openai/gpt-oss-20b", "reasoning_effort": "none"},
        {"model": "qwen/qwen3-32b", "reasoning_effort": "low"},
        {"stop": ["a", "b", "c", "d", "e"]},
        {"stop": 5},
        {"stop": ["a", 5]},
    ],
)
def test_what_groq_refuses_is_refused(body):
    """Unsupported parameters and contradictions are 400 invalid_request_error."""
    status, answered = chat(**body)
    assert (status, answered["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            {"messages": [{"role": "user", "content": "x", "rolez": "user"}]},
            "'messages.0' : for 'role:user' the following must be satisfied[('messages.0' : property 'rolez' is unsupported)]",
        ),
        ({"messages": [{"rolez": "user", "content": "x"}]}, "'messages.0.rolez' : property 'rolez' is unsupported"),
        ({"messages": [{"content": "x"}]}, "'messages.0.role' : property 'role' is missing"),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "human", "content": "x"}]},
            "'messages.1' : discriminator property 'role' has invalid value",
        ),
        (
            {"messages": [{"role": "system", "content": None}]},
            "'messages.0' : for 'role:system' the following must be satisfied[('messages.0.content' : Value is not nullable)]",
        ),
        ({"thinking": True}, "property 'thinking' is unsupported"),
        ({"messages": []}, "'messages' : minimum number of items is 1"),
        ({"temperature": 2.5}, "'temperature' : number must be at most 2"),
    ],
)
def test_a_refusal_has_groqs_wording(body, words):
    """The message names the position and the property as Groq does, so that code that parses it can be tested."""
    assert chat(**body)[1]["error"]["message"] == words


@pytest.mark.parametrize(
    "body",
    [
        {"n": 1, "temperature": 0, "top_p": 1, "seed": -1, "user": "u", "store": False, "service_tier": "auto"},
        {"temperature": None, "logprobs": None, "tools": None, "response_format": None, "stop": None, "n": None},
        {"include_reasoning": None, "reasoning_format": "parsed"},
        {"tools": [{"type": "browser_search"}, {"type": "code_interpreter"}], "tool_choice": "required"},
        {"messages": [{"role": "developer", "content": [{"type": "text", "text": "x"}]}]},
        {"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "Sure:", "reasoning": "r"}]},
        {"messages": [{"role": "user", "content": "x"}, {"role": "function", "name": "f", "content": None}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "document": {"data": {}}}]}]},
    ],
)
def test_what_groq_accepts_is_answered(body):
    """Valid and null parameters, the provider's own tools and each role's members are accepted."""
    assert chat(**body)[0] == 200


@pytest.mark.parametrize(
    ("endpoint", "words", "task"),
    [(TRANSCRIPTIONS, "Transcript", "transcribe"), (TRANSLATIONS, "Translation", "translate")],
)
def test_audio_is_answered_in_every_format(endpoint, words, task):
    """The format json has the text, verbose_json has times too, and text is the bare text."""
    source = {"model": "whisper-large-v3", "url": "https://example.com/a.mp3"}
    text = f"{words} of https://example.com/a.mp3"
    assert ask(endpoint, **source) == (200, {"text": text, "x_groq": {"id": "req_x"}})
    assert ask(endpoint, **source, response_format="text") == (200, text)
    _, verbose = ask(endpoint, **source, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert (verbose["task"], verbose["text"]) == (task, text)
    assert verbose["segments"][0]["end"] == verbose["duration"]
    assert [word["word"] for word in verbose["words"]] == text.split()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": "u", "response_format": "srt"},
        {"url": "u", "timestamp_granularities": ["word"]},
        {"url": "u", "timestamp_granularities": "word", "response_format": "verbose_json"},
        {"url": "u", "timestamp_granularities": ["sentence"], "response_format": "verbose_json"},
        {"url": ["u"]},
        {"url": "u", "language": 49},
        {"url": "u", "temperature": "cold"},
        {"url": "u", "temperature": 2},
        {"url": "u", "model": None},
    ],
)
def test_wrong_audio_requests_are_refused(body):
    """No source, an unknown format, word times without verbose_json, and values of the wrong type are 400."""
    assert ask(TRANSCRIPTIONS, **{"model": "whisper-large-v3", **body})[0] == 400


MESSAGES: st.SearchStrategy[list[dict[str, object]]] = st.lists(
    st.dictionaries(
        st.sampled_from(["role", "content", "name", "tool_calls", "tool_call_id", "reasoning", "x"]),
        st.sampled_from(["user", "assistant", "tool", "system", "", None, 5, [], {}, [{}], ["x"]])
        | st.lists(
            st.dictionaries(
                st.sampled_from(["type", "text", "image_url", "id", "function"]),
                st.sampled_from(
                    ["text", "image_url", "function", None, {}, {"url": "u"}, {"name": "f", "arguments": "{"}]
                ),
            ),
            max_size=2,
        ),
    ),
    max_size=3,
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["type", "function", "name", "role", "schema"]), inner, max_size=3),
    ),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    [
        "model",
        "messages",
        "tools",
        "tool_choice",
        "response_format",
        "stop",
        "max_completion_tokens",
        "n",
        "seed",
        "url",
        "timestamp_granularities",
        "temperature",
        "function_call",
        "reasoning_format",
        "include_reasoning",
        "unheard_of",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    endpoint=st.sampled_from([CHAT, TRANSCRIPTIONS, TRANSLATIONS]),
    changes=st.dictionaries(FIELDS, JSON, max_size=4),
    messages=st.none() | MESSAGES,
)
def test_nonsense_is_answered_with_400(endpoint, changes, messages):
    """Whatever a body contains, the line is answered or refused; it never stops its batch."""
    body = {
        "model": "openai/gpt-oss-20b",
        "messages": [{"role": "user", "content": "x"}],
        **({} if endpoint == CHAT else {"url": "https://a/b"}),
        **changes,
        **({} if messages is None else {"messages": messages}),
    }
    status, answered = ask(endpoint, **body)
    assert status in {200, 400}
    assert "wrong type" not in str(answered), "refused by accident, not by a check"
    assert orjson.dumps(answered)
