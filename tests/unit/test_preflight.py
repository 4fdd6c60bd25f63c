from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.models import RemoteModel
from batchkit.preflight import Inspection, estimate_tokens, inspect, model_warnings
from batchkit.preflight.envelope import inspect_carefully
from batchkit.provider.groq.dialect import GROQ

CHAT = "/v1/chat/completions"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
GONE = object()
RULES = GROQ.rules


def changed(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Apply changes to an object; ``GONE`` removes a field."""
    return {name: value for name, value in {**fields, **changes}.items() if value is not GONE}


def line(**changes: Any) -> dict[str, Any]:
    """Return a valid chat line with changes to its envelope."""
    return changed({"custom_id": "row-1", "method": "POST", "url": CHAT, "body": chat()["body"]}, changes)


def chat(**changes: Any) -> dict[str, Any]:
    """Return a valid chat line with changes to its body."""
    body = {"model": "llama-3.1-8b-instant", "messages": [{"role": "user", "content": "Two and two? Answer as JSON."}]}
    return {"custom_id": "row-1", "method": "POST", "url": CHAT, "body": changed(body, changes)}


def message(**changes: Any) -> dict[str, Any]:
    """Return a chat line with one message, with changes to the message."""
    return chat(messages=[changed({"role": "user", "content": "Hello"}, changes)])


def image(url: Any = "https://example.org/a.png") -> dict[str, Any]:
    """Return a content part with an image."""
    return {"type": "image_url", "image_url": {"url": url}}


def audio(endpoint: str = TRANSCRIPTIONS, /, **changes: Any) -> dict[str, Any]:
    """Return a valid audio line with changes to its body."""
    body = {"model": "whisper-large-v3", "url": "https://example.org/a.wav"}
    return {"custom_id": "row-1", "method": "POST", "url": endpoint, "body": changed(body, changes)}


def tool(name: Any = "get_weather") -> dict[str, Any]:
    """Return a tool definition."""
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def schema_format(**changes: Any) -> dict[str, Any]:
    """Return a response format with a JSON schema."""
    return {"type": "json_schema", "json_schema": changed({"name": "answer", "schema": {"type": "object"}}, changes)}


ACCEPTED = {
    "plain": line(),
    "unicode outside the id": message(content="\u2028 naïve 日本語"),
    "extra field of the line": line(note="kept by the user"),
    "unknown parameter": chat(brand_new_parameter={"x": 1}),
    "unknown model": chat(model="somebody/brand-new"),
    "all numbers at their low end": chat(temperature=0, top_p=0, frequency_penalty=-2, presence_penalty=-2),
    "all numbers at their high end": chat(temperature=2, top_p=1.0, frequency_penalty=2, presence_penalty=2),
    "integers": chat(max_completion_tokens=1, max_tokens=131_072, seed=-3),
    "null parameters": chat(
        **dict.fromkeys(
            ["temperature", "top_p", "n", "stop", "tools", "tool_choice", "response_format", "logprobs", "logit_bias"],
        ),
        **dict.fromkeys(["top_logprobs", "seed", "max_tokens", "stream", "reasoning_format", "reasoning_effort"]),
    ),
    "n is 1": chat(n=1),
    "no stream": chat(stream=False),
    "every role": chat(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f"}}]},
            {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "mild"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "mild"},
            {"role": "assistant", "content": "It is", "reasoning": "It was asked."},
        ],
    ),
    "empty content": message(content=""),
    "content parts": message(content=[{"type": "text", "text": "What is it?"}, image()]),
    "document part": message(content=[{"type": "document", "document": {"data": {}}}]),
    "five images": message(content=[image()] * 5),
    "small base64 image": message(content=[image("data:image/png;base64,AAAA")]),
    "one stop": chat(stop="\n"),
    "four stops": chat(stop=["a", "b", "c", "d"]),
    "128 tools": chat(tools=[tool(f"f{n}") for n in range(128)]),
    "built-in tool": chat(tools=[{"type": "browser_search"}]),
    "no tools": chat(tools=[]),
    "tool choice": chat(tools=[tool()], tool_choice="required"),
    "named tool choice": chat(tools=[tool()], tool_choice={"type": "function", "function": {"name": "get_weather"}}),
    "text format": chat(response_format={"type": "text"}),
    "JSON mode": chat(response_format={"type": "json_object"}),
    "JSON mode asked for in a part": chat(
        messages=[{"role": "user", "content": [{"type": "text", "text": "as Json, please"}]}],
        response_format={"type": "json_object"},
    ),
    "JSON schema": chat(response_format=schema_format()),
    "raw reasoning": chat(reasoning_format="raw"),
    "raw reasoning as text": chat(reasoning_format="raw", response_format={"type": "text"}, tools=[]),
    "parsed reasoning with JSON": chat(reasoning_format="parsed", response_format=schema_format()),
    "hidden reasoning with tools": chat(reasoning_format="hidden", tools=[tool()]),
    "included reasoning": chat(include_reasoning=True),
    "reasoning effort": chat(reasoning_effort="high"),
    "guard": chat(model="meta-llama/Llama-Guard-4-12B"),
    "transcription": audio(),
    "transcription by the fast model": audio(model="whisper-large-v3-turbo"),
    "transcription of data": audio(url="UklGRiQAAABXQVZF"),
    "transcription in full": audio(
        model="distil-whisper-large-v3-en",
        language="de",
        prompt="Names: Groß",
        response_format="verbose_json",
        temperature=1,
        timestamp_granularities=["word", "segment"],
    ),
    "transcription with nulls": audio(
        **dict.fromkeys(["language", "prompt", "response_format", "temperature", "timestamp_granularities", "file"]),
    ),
    "translation": audio(TRANSLATIONS, language="en", response_format="text"),
}

# A wrong value, and words that the one reason for its refusal must contain.
REFUSED: dict[str, tuple[Any, list[str]]] = {
    "null": (None, ["the line is null", "JSON object"]),
    "list": ([line()], ["the line is a list"]),
    "number": (7, ["the line is 7"]),
    "no custom_id": (line(custom_id=GONE), ["custom_id is missing"]),
    "number as custom_id": (line(custom_id=17), ["custom_id is 17", "as a string"]),
    "empty custom_id": (line(custom_id=""), ["custom_id is an empty string"]),
    "endless custom_id": (line(custom_id="x" * 513), ["513 characters", "512"]),
    "newline in custom_id": (line(custom_id="a\nb"), ["control character", r"'a\nb'"]),
    "NUL in custom_id": (line(custom_id="a\0"), ["control character"]),
    "C1 control in custom_id": (line(custom_id="a\u0085b"), ["control character"]),
    "half a surrogate pair in custom_id": (line(custom_id="a\ud800"), ["surrogate", r"\ud800"]),
    "no method": (line(method=GONE), ["method is missing"]),
    "GET": (line(method="GET"), ["method is 'GET'", "POST"]),
    "lower-case method": (line(method="post"), ["method is 'post'"]),
    "null method": (line(method=None), ["method is null"]),
    "no url": (line(url=GONE), ["url is missing", CHAT]),
    "null url": (line(url=None), ["url is null", CHAT]),
    "url with /openai": (line(url="/openai/v1/chat/completions"), ["/openai", f"write it as {CHAT}"]),
    "full url": (line(url="https://api.groq.com/openai/v1/chat/completions"), [f"write it as {CHAT}"]),
    "url with slash": (line(url=CHAT + "/"), [f"write it as {CHAT}"]),
    "url without slash": (line(url="v1/chat/completions"), [f"write it as {CHAT}"]),
    "url without version": (line(url="/chat/completions"), [f"write it as {CHAT}"]),
    "url with query": (line(url=CHAT + "?x=1"), [f"write it as {CHAT}"]),
    "embeddings": (line(url="/v1/embeddings"), ["/v1/embeddings", CHAT, TRANSLATIONS]),
    "empty url": (line(url=""), ["url is an empty string", CHAT]),
    "no body": (line(body=GONE), ["body is missing"]),
    "text as body": (line(body="{}"), ["body is '{}'"]),
    "no model": (chat(model=GONE), ["body.model is missing"]),
    "null model": (chat(model=None), ["body.model is null"]),
    "empty model": (chat(model=""), ["body.model is an empty string"]),
    "stream": (chat(stream=True), ["body.stream", "leave it out"]),
    "audio stream": (audio(stream=True), ["body.stream"]),
    "audio model on chat": (chat(model="whisper-large-v3"), ["does not answer on", TRANSCRIPTIONS]),
    "speech model": (chat(model="playai-tts"), ["playai-tts", "not served"]),
    "chat model on audio": (audio(model="openai/gpt-oss-20b"), ["does not answer on", CHAT]),
    "turbo on translations": (
        audio(TRANSLATIONS, model="whisper-large-v3-turbo"),
        ["does not answer on", TRANSCRIPTIONS],
    ),
    "no messages": (chat(messages=GONE), ["body.messages is missing"]),
    "empty messages": (chat(messages=[]), ["body.messages is an empty list"]),
    "text as messages": (chat(messages="Hello"), ["body.messages is 'Hello'"]),
    "text as message": (chat(messages=["Hello"]), ["body.messages[0] is 'Hello'"]),
    "no role": (message(role=GONE), ["body.messages[0] has no role"]),
    "unknown role": (message(role="human"), ["'human'", "user"]),
    "list as role": (message(role=["user"]), ["the role a list"]),
    "no content": (message(content=GONE), ["body.messages[0] has no content"]),
    "null content": (message(content=None), ["body.messages[0] has no content"]),
    "number as content": (message(content=5), ["content that is 5"]),
    "empty list as content": (message(content=[]), ["an empty list"]),
    "object as content": (message(content={"text": "Hello"}), ["content that is an object"]),
    "silent assistant": (message(role="assistant", content=GONE), ["neither content nor tool_calls"]),
    "tool without id": (message(role="tool"), ["no tool_call_id"]),
    "name": (message(name="Ada"), ["body.messages[0] has a name", "leave it out"]),
    "text as part": (message(content=["Hello"]), ["body.messages[0].content[0] is 'Hello'"]),
    "part without type": (message(content=[{"text": "Hello"}]), ["content[0] has no type"]),
    "part without text": (message(content=[{"type": "text"}]), ["content[0] has no text"]),
    "image as text": (
        message(content=[{"type": "image_url", "image_url": "https://..."}]),
        ["content[0] has no image"],
    ),
    "image without url": (message(content=[image(None)]), ["content[0] has no image"]),
    "six images": (
        chat(messages=[{"role": "user", "content": [image()] * 3}, {"role": "user", "content": [image()] * 3}]),
        ["6 images", "at most 5", "docs/vision"],
    ),
    "logprobs": (chat(logprobs=True), ["body.logprobs", "400"]),
    "logit_bias": (chat(logit_bias={}), ["body.logit_bias", "400"]),
    "top_logprobs": (chat(top_logprobs=3), ["body.top_logprobs", "400"]),
    "n is 2": (chat(n=2), ["body.n is 2"]),
    "n is true": (chat(n=True), ["body.n is true"]),
    "temperature too high": (chat(temperature=2.1), ["body.temperature is 2.1", "0 to 2"]),
    "temperature too low": (chat(temperature=-0.1), ["body.temperature is -0.1"]),
    "temperature as text": (chat(temperature="0.5"), ["body.temperature is '0.5'"]),
    "temperature is true": (chat(temperature=True), ["body.temperature is true"]),
    "temperature is not a number": (chat(temperature=math.nan), ["body.temperature is nan"]),
    "top_p too high": (chat(top_p=1.5), ["body.top_p is 1.5"]),
    "frequency_penalty too high": (chat(frequency_penalty=3), ["body.frequency_penalty is 3"]),
    "presence_penalty too low": (chat(presence_penalty=-3), ["body.presence_penalty is -3"]),
    "fraction of a token": (chat(max_completion_tokens=1.5), ["body.max_completion_tokens is 1.5"]),
    "max_tokens as text": (chat(max_tokens="100"), ["body.max_tokens is '100'"]),
    "seed as text": (chat(seed="1"), ["body.seed is '1'"]),
    "five stops": (chat(stop=list("abcde")), ["body.stop has 5", "at most 4"]),
    "number as stop": (chat(stop=1), ["body.stop is 1"]),
    "number among stops": (chat(stop=["a", 1]), ["body.stop is a list with values other than strings"]),
    "129 tools": (chat(tools=[tool()] * 129), ["body.tools has 129", "at most 128"]),
    "object as tools": (chat(tools=tool()), ["body.tools is an object"]),
    "text as tool": (chat(tools=["f"]), ["body.tools[0] is 'f'"]),
    "tool without type": (chat(tools=[{"function": {"name": "f"}}]), ["body.tools[0] has no type"]),
    "tool without function": (chat(tools=[{"type": "function"}]), ["body.tools[0] has no function name"]),
    "tool with a space in its name": (chat(tools=[tool("get weather")]), ["body.tools[0] has no function name"]),
    "tool with a long name": (chat(tools=[tool("f" * 65)]), ["body.tools[0] has no function name"]),
    "tool choice": (chat(tools=[tool()], tool_choice="any"), ["body.tool_choice is 'any'", "required"]),
    "list as tool choice": (chat(tool_choice=["auto"]), ["body.tool_choice is a list"]),
    "text as format": (chat(response_format="json_object"), ["body.response_format is 'json_object'"]),
    "unknown format": (chat(response_format={"type": "xml"}), ["the type 'xml'", "json_schema"]),
    "format without type": (chat(response_format={}), ["the type null"]),
    "schema missing": (chat(response_format={"type": "json_schema"}), ["no name"]),
    "schema without name": (chat(response_format=schema_format(name=GONE)), ["no name"]),
    "schema with a space in its name": (chat(response_format=schema_format(name="an answer")), ["no name"]),
    "unknown reasoning format": (chat(reasoning_format="verbose"), ["body.reasoning_format is 'verbose'", "parsed"]),
    "both ways of reasoning": (chat(reasoning_format="parsed", include_reasoning=False), ["exclude each other"]),
    "raw with JSON mode": (
        chat(reasoning_format="raw", response_format={"type": "json_object"}),
        ["'raw'", "JSON mode"],
    ),
    "raw with a schema": (chat(reasoning_format="raw", response_format=schema_format()), ["'raw'", "JSON mode"]),
    "raw with tools": (chat(reasoning_format="raw", tools=[tool()]), ["'raw'", "tools", "400"]),
    "number as effort": (chat(reasoning_effort=3), ["body.reasoning_effort is 3"]),
    "effort of another model": (
        chat(model="openai/gpt-oss-20b", reasoning_effort="none"),
        ["body.reasoning_effort is 'none'", "low, medium or high for openai/gpt-oss-20b"],
    ),
    "effort that Qwen does not grade": (
        chat(model="Qwen/Qwen3-32B", reasoning_effort="high"),
        ["body.reasoning_effort is 'high'", "none or default for Qwen/Qwen3-32B"],
    ),
    "audio without url": (audio(url=GONE), ["body.url is missing"]),
    "audio with an empty url": (audio(url=""), ["body.url is an empty string"]),
    "audio with a list as url": (audio(url=["https://example.org/a.wav"]), ["body.url is a list"]),
    "audio file": (audio(file="a.wav"), ["body.file is a file of this machine", "--lane sync"]),
    "srt": (audio(response_format="srt"), ["'srt'", "verbose_json"]),
    "object as audio format": (audio(response_format={"type": "json"}), ["body.response_format is an object"]),
    "audio temperature": (audio(temperature=1.1), ["body.temperature is 1.1", "0 to 1"]),
    "granularities of json": (audio(timestamp_granularities=["word"]), ["needs body.response_format 'verbose_json'"]),
    "text as granularities": (
        audio(timestamp_granularities="word", response_format="verbose_json"),
        ["body.timestamp_granularities is 'word'", "a list of"],
    ),
    "unknown granularity": (
        audio(timestamp_granularities=["letter"], response_format="verbose_json"),
        ["a list with other words"],
    ),
    "German translation": (audio(TRANSLATIONS, language="de"), ["body.language is 'de'", "'en'"]),
    "number as language": (audio(language=1), ["body.language is 1"]),
    "number as prompt": (audio(prompt=1), ["body.prompt is 1"]),
}

WARNED = {
    "long custom_id": (line(custom_id="x" * 65), "custom_id is longer than 64"),
    "space in custom_id": (line(custom_id="row 1"), "custom_id is longer than 64"),
    "umlaut in custom_id": (line(custom_id="müller"), "custom_id is longer than 64"),
    "service tier": (chat(service_tier="flex"), "service_tier"),
    "service tier of audio": (audio(service_tier="on_demand"), "service_tier"),
    "no room": (chat(max_completion_tokens=0), "max_completion_tokens is below 1"),
    "unknown field of a message": (message(timestamp=1), "fields besides role"),
    "unknown part": (message(content=[{"type": "input_audio"}]), "content parts of a type"),
    "system message for the guard": (
        chat(model="meta-llama/llama-guard-4-12b", messages=[{"role": "system", "content": "Judge."}]),
        "guard model",
    ),
    "JSON mode without the word": (
        chat(messages=[{"role": "user", "content": "Hello"}], response_format={"type": "json_object"}),
        "no message asks for JSON",
    ),
    "new effort": (chat(reasoning_effort="utmost"), "reasoning_effort"),
    "unknown translation model": (audio(TRANSLATIONS, model="whisper-9"), "only model documented"),
    "bucket as audio": (audio(url="s3://bucket/a.wav"), "scheme"),
    "form field": (audio(**{"timestamp_granularities[]": ["word"]}), "name in a form"),
    "long prompt": (audio(prompt="x" * 897), "224 tokens"),
}


def both_ways(record: Any, line_bytes: int = 200) -> Inspection:
    """Inspect with and without the fast path, which must agree."""
    answer = inspect(record, line_bytes, RULES)
    assert answer == inspect_carefully(record, line_bytes, RULES)
    return answer


class TestRules:
    """Each rule, on both paths."""

    @pytest.mark.parametrize("record", ACCEPTED.values(), ids=ACCEPTED)
    def test_accepted(self, record):
        """A line that the documentation allows passes without a problem or a warning."""
        answer = both_ways(record)
        assert answer == Inspection(record["custom_id"], record["url"], record["body"]["model"], (), ())
        assert isinstance(answer, Inspection)

    @pytest.mark.parametrize(("record", "words"), REFUSED.values(), ids=REFUSED)
    def test_refused(self, record, words):
        """A line that the documentation forbids gets one sentence that says what is wrong and what to do."""
        (reason,) = both_ways(record).reasons
        assert all(word in reason for word in words)
        assert "\n" not in reason
        assert len(reason) < 400

    @pytest.mark.parametrize(("record", "words"), WARNED.values(), ids=WARNED)
    def test_warned(self, record, words):
        """An odd value that is not forbidden may be sent, with a warning."""
        answer = both_ways(record)
        assert answer.reasons == ()
        (warning,) = answer.warnings
        assert words in warning

    def test_base64_size(self):
        """A line with base64 images above four million bytes is refused; one with addresses only is not."""
        encoded = message(content=[image("https://example.org/a.png"), image("DATA:image/png;base64,AAAA")])
        assert both_ways(encoded, 4_000_000).reasons == ()
        (reason,) = both_ways(encoded, 4_000_001).reasons
        assert "4,000,001 bytes" in reason
        assert "docs/vision" in reason
        assert both_ways(message(content=[image()]), 5_000_000).reasons == ()
        assert both_ways(line(), 5_000_000).reasons == ()

    @pytest.mark.parametrize("model", sorted(RULES.model_endpoints))
    @pytest.mark.parametrize("endpoint", RULES.endpoints)
    def test_known_models(self, model, endpoint):
        """A known model is accepted on its own endpoints and on no other, in upper or lower case."""
        record = (chat if endpoint == CHAT else lambda **body: audio(endpoint, **body))(model=model.upper())
        assert (both_ways(record).reasons == ()) == (endpoint in RULES.model_endpoints[model])

    def test_all_problems_are_reported(self):
        """All problems of a line are reported in the order of the line, even after a wrong url."""
        record = line(
            custom_id=1,
            method="GET",
            url="https://api.groq.com/openai/v1/chat/completions",
            body={"stream": True, "temperature": 9, "messages": [{"role": "user"}], "service_tier": "flex"},
        )
        answer = both_ways(record)
        starts = ["custom_id", "method", "url", "body.model", "body.stream", "body.messages[0]", "body.temperature"]
        assert [reason.split()[0] for reason in answer.reasons] == starts
        assert len(answer.warnings) == 1
        assert (answer.custom_id, answer.endpoint, answer.model) == (None, record["url"], None)

    def test_present_parts_are_returned(self):
        """The parts that are strings are returned unchanged, valid or not."""
        answer = both_ways({"custom_id": "", "url": "/nowhere", "body": {"model": "m"}})
        assert answer[:3] == ("", "/nowhere", "m")

    def test_same_problem_many_times(self):
        """Thousands of bad messages give one sentence with the first place and the number of others."""
        (reason,) = both_ways(
            chat(messages=[{"role": "user", "content": "x"}, *[{"role": "bot", "content": "x"}] * 3000])
        ).reasons
        assert reason.startswith("body.messages[1] (and 2,999 more) has the role 'bot'")

    def test_many_problems(self):
        """The number of sentences is limited."""
        reasons = both_ways(chat(messages=[{"role": f"bot{n}", "content": "x"} for n in range(100)])).reasons
        assert len(reasons) == 9
        assert "92 more" in reasons[-1]

    def test_warnings_can_be_counted(self):
        """A warning contains no value of its line, so equal warnings can be counted."""
        assert both_ways(line(custom_id="a b")).warnings == both_ways(line(custom_id="c d")).warnings
        assert both_ways(chat(service_tier="flex")).warnings == both_ways(chat(service_tier="auto")).warnings

    def test_huge_values(self):
        """Values are named and not quoted in full."""
        deep: list[Any] = []
        for _ in range(5000):
            deep = [deep]
        for value in ("x" * 10**6, 10**5000, deep, {"x": deep}):
            for record in (
                line(method=value),
                line(url=value),
                chat(n=value),
                chat(stop=[value] * 9),
                message(role=value),
            ):
                assert all(len(reason) < 400 for reason in both_ways(record).reasons)

    def test_date(self):
        """The facts have the month in which their pages were read."""
        assert RULES.as_of == "2025-07"


text = st.text(st.characters(codec=None, exclude_categories=()), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=8,
)


def mostly(*good: Any) -> st.SearchStrategy[Any]:
    """A valid value more often than not, else any JSON value."""
    return st.sampled_from(good) | st.sampled_from(good) | json_values


parts = st.fixed_dictionaries(
    {},
    optional={"type": mostly("text", "image_url"), "text": mostly("json"), "image_url": mostly({"url": "data:,"})},
)
messages = st.fixed_dictionaries(
    {"role": mostly("system", "user", "assistant"), "content": mostly("Hello") | st.lists(parts, max_size=2)},
    optional={"name": mostly("x"), "tool_calls": mostly([{}])},
)
bodies = st.fixed_dictionaries(
    {"model": mostly("m", "whisper-large-v3"), "messages": st.lists(messages, max_size=3) | json_values},
    optional={
        **{name: mostly(1, 0.5, -1, 3) for name in ("temperature", "top_p", "max_tokens", "seed", "n")},
        "stop": mostly("x", ["x"]),
        "tools": mostly([tool()]),
        "response_format": mostly({"type": "json_object"}, {"type": "text"}, schema_format(), schema_format(name="")),
        "reasoning_effort": mostly("low", "utmost"),
        "reasoning_format": mostly("raw", "parsed"),
        "url": mostly("https://example.org"),
        "timestamp_granularities": mostly(["word"]),
    },
)
records = st.fixed_dictionaries(
    {
        "custom_id": mostly("a", "a b"),
        "method": mostly("POST"),
        "url": mostly(CHAT, CHAT, TRANSLATIONS),
        "body": bodies | json_values,
    },
)


class TestAnyValue:
    """Any value that a JSON parser returns."""

    @given(record=records | json_values, line_bytes=st.sampled_from([0, 5_000_000]))
    def test_no_crash(self, record, line_bytes):
        """Every value gets the same result with and without the fast path, and it can be written as UTF-8."""
        answer = both_ways(record, line_bytes)
        for said in answer.reasons + answer.warnings:
            said.encode()
        assert len(set(answer.reasons)) == len(answer.reasons)
        assert isinstance(answer.custom_id, str) or answer.reasons
        estimate = estimate_tokens(record)
        assert estimate.prompt >= 0
        assert estimate.max_completion is None or estimate.max_completion >= 0

    @given(record=records | json_values)
    def test_record_is_not_changed(self, record):
        """Inspection does not modify the record."""
        before = repr(record)
        inspect(record, 0, RULES)
        estimate_tokens(record)
        assert repr(record) == before


class TestModelWarnings:
    """The models of the input against ``GET /models``."""

    AVAILABLE = (RemoteModel("llama", active=True), RemoteModel("old", active=False))

    def test_all_active(self):
        """Active models give no warning."""
        assert model_warnings(["llama", "llama"], self.AVAILABLE) == []

    def test_problems(self):
        """Inactive, missing and differently spelled models give one warning each, sorted by model."""
        inactive, missing = model_warnings(["old", "none", "old"], self.AVAILABLE)[::-1]
        assert "old is listed as inactive" in inactive
        assert "none is not listed" in missing
        (spelling,) = model_warnings(iter(["Llama"]), self.AVAILABLE)
        assert "listed as llama" in spelling


class TestEstimate:
    """Token estimates without a tokenizer."""

    def test_text(self):
        """Four bytes of UTF-8 are a token, and each message costs four tokens."""
        assert estimate_tokens(message(content="x" * 400)).prompt == 104
        assert estimate_tokens(message(content="日" * 400)).prompt == 304
        assert estimate_tokens(message(content=[{"type": "text", "text": "x" * 400}])).prompt == 104

    def test_limit(self):
        """The limit of an answer is the request's, max_completion_tokens before max_tokens."""
        assert estimate_tokens(chat()).max_completion is None
        assert estimate_tokens(chat(max_tokens=9)).max_completion == 9
        assert estimate_tokens(chat(max_tokens=9, max_completion_tokens=0)).max_completion == 0
        assert estimate_tokens(chat(max_tokens="9")).max_completion is None

    def test_images(self):
        """An image counts the same, whether it is an address or a million bytes."""
        assert estimate_tokens(message(content=[image()])) == estimate_tokens(
            message(content=[image("data:," + "A" * 10**6)])
        )
        assert estimate_tokens(message(content=[image()])).prompt == 1504

    def test_tools_and_schema(self):
        """Tool definitions and schemas are part of the prompt."""
        plain = estimate_tokens(chat()).prompt
        assert estimate_tokens(chat(tools=[tool()])).prompt - plain == pytest.approx(len(str(tool())) / 4, rel=0.2)
        assert estimate_tokens(chat(response_format=schema_format())).prompt > plain

    def test_audio(self):
        """Audio has no token estimate: it is billed by length."""
        assert estimate_tokens(audio()) == (0, 0, 0)
        assert estimate_tokens(None) == (0, 0, 0)

    def test_other_endpoints(self):
        """Speech counts its characters; the input of a response or of embeddings is a text."""
        spoken = {"url": "/v1/audio/speech", "body": {"model": "m", "input": "x" * 80}}
        assert estimate_tokens(spoken) == (0, 0, 80)
        assert estimate_tokens({**spoken, "url": "/v1/embeddings"}) == (20, 0, 0)
        assert estimate_tokens({**spoken, "url": "/v1/responses"}) == (20, None, 0)
