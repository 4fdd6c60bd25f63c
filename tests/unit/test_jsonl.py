"""Bytes to records and back: whatever a model or a server sends is at worst malformed."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.files.jsonl import (
    MalformedJson,
    answer_text,
    body_text,
    dumps,
    loads,
    loads_leniently,
    read_output_line,
    storable_text,
)

LINE_ENDS_OF_OTHERS = "\u2028\u2029\u0085\v\f\x1c\x1d\x1e"
#: Deeper than any recursive parser or writer can go.
BOTTOMLESS = 100_000
#: The deepest nesting that the parser accepts.
DEEP = 1_000

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
#: Values that Python can hold and UTF-8 or JSON cannot: lone surrogates, infinite and huge numbers.
odd_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner, max_size=4)
    ),
    max_leaves=12,
)
nearly_json = st.lists(
    st.sampled_from(
        [
            *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\\u", b"d800", b"NaN", b"-", b"Infinity", b"1e999"),
            *(b"1" * 5_000, b"null", b" ", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b'"a"', b"\n"),
        ]
    )
    | st.binary(max_size=3),
    max_size=12,
).map(b"".join)


@given(json_values)
def test_written_values_are_read_back(value):
    """Both parsers return what was written."""
    assert loads(dumps(value)) == value
    assert loads_leniently(dumps(value)) == value


@given(nearly_json)
def test_broken_bytes_are_malformed_and_nothing_else(data):
    """Neither parser raises anything but MalformedJson; whatever was read can be written."""
    for parse in (loads, loads_leniently):
        try:
            value = parse(data)
        except MalformedJson:
            continue
        loads(dumps(value))


@given(odd_values)
def test_every_parsed_value_is_written_as_strict_json(value):
    """The output is strict JSON in UTF-8 on one line, however odd the value is."""
    data = dumps(value)
    assert b"\n" not in data
    loads(data)
    data.decode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a":1}{"b":2}',
        b"{'a':1}",
        b'{"a":1,}',
        b"\xff\xfe",
        b'"\xff"',
        b'"a\nb"',
        b"[" * BOTTOMLESS,
        b"[" * BOTTOMLESS + b"]" * BOTTOMLESS,
        b'{"a":' * BOTTOMLESS + b"1" + b"}" * BOTTOMLESS,
    ],
    ids=lambda data: repr(data[:12]),
)
def test_no_json_is_malformed_for_both_parsers(data):
    """Both refuse torn, doubled, misencoded or too deeply nested input."""
    for parse in (loads, loads_leniently):
        with pytest.raises(MalformedJson, match=r"\w"):
            parse(data)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a":"\\ud800"}', {"a": "\ud800"}),
        (b'["\\udc00\\ud800"]', ["\udc00\ud800"]),
        (b"[Infinity,-Infinity,1e999]", [math.inf, -math.inf, math.inf]),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b"[" + b"1" * 5_000 + b",-" + b"9" * 4_400 + b"]", [math.inf, -math.inf]),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_paid_answers_are_read_leniently_and_inputs_strictly(data, value):
    """The lenient parser reads in a paid answer what the strict parser refuses in an input."""
    with pytest.raises(MalformedJson):
        loads(data)
    assert loads_leniently(data) == value


def test_not_a_number_is_read_leniently():
    """NaN is a value in an answer and malformed in an input."""
    with pytest.raises(MalformedJson):
        loads(b"[NaN]")
    assert math.isnan(loads_leniently(b"[NaN]")[0])


def test_non_json_numbers_are_written_as_null():
    """NaN and the infinities become null, on the fast path and on the slow one."""
    assert dumps([math.nan, math.inf]) == b"[null,null]"
    assert dumps([math.nan, -math.inf, "\ud800"]) == '[null,null,"\ufffd"]'.encode()


def test_lone_surrogates_are_replaced():
    """A lone surrogate becomes U+FFFD in values and names: no strict reader and no database would accept it."""
    assert dumps({"\ud800": "a\udfffb"}) == '{"\ufffd":"a\ufffdb"}'.encode()


def test_huge_integers_keep_their_digits():
    """Integers beyond 64 bits are written in full."""
    assert dumps({"a": [2**70, -(2**70)]}) == b'{"a":[1180591620717411303424,-1180591620717411303424]}'


def test_slow_path_writes_what_the_fast_path_writes():
    """One odd value does not change how the others are written: order, separators, escapes."""
    value: dict[str, Any] = {"z": [1, 2.5, True, None, [], {}, {"a": 'é\n"\\\u2028'}], "a": "\x00", "": ""}
    assert dumps({"odd": 2**70, **value}) == b'{"odd":1180591620717411303424,' + dumps(value)[1:]


@pytest.mark.parametrize("opening", [b"[", b'{"a":'], ids=repr)
def test_deep_nesting_can_be_written_again(opening):
    """Whatever is read from a line can be stored, however deep it is."""
    data = opening * DEEP + b"1" + (b"]" if opening == b"[" else b"}") * DEEP
    assert dumps(loads(data)) == data
    assert dumps(loads_leniently(data)) == data


def test_own_value_that_is_no_json_is_a_bug():
    """A value that no parser can have made raises an error."""
    for value in (object(), {1: 2**70}, {"a": [2**70, {1, 2}]}):
        with pytest.raises(TypeError):
            dumps(value)


@given(st.lists(json_values, max_size=6))
def test_written_lines_are_read_back(values):
    """Records written one per line are read back one by one, whatever they contain."""
    data = b"".join(dumps(value) + b"\n" for value in values)
    assert [loads(line) for line in io.BytesIO(data)] == values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ("", None),
        ("größe", "größe"),
        ("a\x00b", "a\ufffdb"),
        ("a\ud800b", "a?b"),
        (429, "429"),
        (False, "false"),
        (["a"], '["a"]'),
        ({"a": "\x00"}, '{"a":"\\u0000"}'),
    ],
    ids=ascii,
)
def test_messages_of_the_provider_become_storable(value, text):
    """Any value may be in place of a message; NUL and lone surrogates are replaced."""
    assert storable_text(value) == text


@given(odd_values)
def test_storable_text_can_be_stored(value):
    """The result is UTF-8 text without NUL, or nothing."""
    text = storable_text(value)
    assert text is None or ("\x00" not in text and text.encode())


def line(**members: Any):
    """Return an output line with these members."""
    return read_output_line({"id": "batch_req_1", "custom_id": "a", **members})


def test_success_line_is_read_completely():
    """Status, request id and body are read unchanged."""
    body = {"choices": [], "x": 1}
    read = line(response={"status_code": 200, "request_id": "req-1", "body": body}, error=None)
    assert read is not None
    assert (read.custom_id, read.status_code, read.request_id, read.body) == ("a", 200, "req-1", body)
    assert (read.error_code, read.error_message, read.has_error) == (None, None, False)


@pytest.mark.parametrize(
    "record", [None, 1, "a", [], {}, {"custom_id": None}, {"custom_id": 7}, {"custom_id": ["a"]}], ids=str
)
def test_line_without_a_custom_id_belongs_to_no_request(record):
    """A custom_id must be text."""
    assert read_output_line(record) is None


@pytest.mark.parametrize("custom_id", ["", "a\x00b", "\ud800", " a ", "漢字"], ids=ascii)
def test_custom_id_is_read_exactly(custom_id):
    """Matching is exact: nothing is trimmed or replaced."""
    read = read_output_line({"custom_id": custom_id})
    assert read is not None
    assert read.custom_id == custom_id


@pytest.mark.parametrize("status", ["200", 200.0, True, False, None, -1, 1_000, 2**70, [], {}], ids=str)
def test_status_that_is_no_status_is_unknown(status):
    """Only integers from 0 to 999 are statuses; true is not 1."""
    read = line(response={"status_code": status, "body": {}})
    assert read is not None
    assert read.status_code is None


@pytest.mark.parametrize("status", [0, 200, 999])
def test_status_is_accepted_within_its_range(status):
    """Providers do send the odd status 0."""
    read = line(response={"status_code": status, "body": {}})
    assert read is not None
    assert read.status_code == status


@pytest.mark.parametrize("response", [None, "", [], 7, {}, {"body": None}], ids=str)
@pytest.mark.parametrize("error", [None, "", [], {}, 0, False, {"code": "", "message": None}], ids=str)
def test_every_spelling_of_nothing_is_nothing(response, error):
    """Null, empty and missing members are the same: no response and no error."""
    read = line(response=response, error=error)
    assert read is not None
    assert (read.status_code, read.body, read.has_error) == (None, None, False)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ({"code": "c", "message": "m", "type": "t"}, "c", "m"),
        ({"type": "t", "message": "m"}, "t", "m"),
        ({"code": 429, "message": None}, "429", '{"code":429,"message":null}'),
        ({"code": None, "message": "a\x00b"}, None, "a\ufffdb"),
        ("words", None, "words"),
        (["w"], None, '["w"]'),
    ],
    ids=str,
)
def test_error_is_found_at_either_level(error, code, message):
    """The same error is read beside the response and inside its body; it always has a message."""
    beside = line(response={"status_code": 400, "body": {}}, error=error)
    inside = line(response={"status_code": 400, "body": {"error": error}}, error=None)
    for read in (beside, inside):
        assert read is not None
        assert (read.error_code, read.error_message, read.has_error) == (code, message, True)


def test_outer_error_comes_first():
    """When both levels have an error, the line's own is used."""
    read = line(response={"status_code": 500, "body": {"error": "inner"}}, error="outer")
    assert read is not None
    assert read.error_message == "outer"


@given(odd_values, odd_values, odd_values, odd_values)
def test_no_line_breaks_the_reader(status, body, error, request_id):
    """Whatever the members contain, the line is read, and its messages can be stored."""
    read = line(response={"status_code": status, "body": body, "request_id": request_id}, error=error)
    assert read is not None
    for text in (read.request_id, read.error_code, read.error_message):
        assert text is None or ("\x00" not in text and text.encode())


contents = (
    st.none() | st.text() | st.integers() | st.lists(st.text(), max_size=2) | st.dictionaries(st.text(), st.text())
)
messages = st.none() | st.text() | st.dictionaries(st.sampled_from(["content", "role"]), contents)
choices = (
    st.none()
    | st.text()
    | st.integers()
    | st.dictionaries(st.sampled_from(["message", "index", "finish_reason"]), messages, max_size=2)
)
answers = (
    st.fixed_dictionaries({}, optional={"choices": st.lists(choices, max_size=2) | choices, "text": contents})
    | contents
    | json_values
)


@given(answers)
def test_the_text_of_an_answer_is_its_first_message_or_its_transcript(value):
    """Whatever else an answer contains: the first choice's content, else its text, else the answer itself."""
    expected = value if isinstance(value, str) else None
    if isinstance(value, dict):
        first = value.get("choices")
        if isinstance(first, list) and first and isinstance(first[0], dict):
            message = first[0].get("message")
            expected = message.get("content") if isinstance(message, dict) else None
        else:
            expected = value.get("text")
    assert answer_text(dumps(value)) == (expected if isinstance(expected, str) else None)


def test_without_a_body_there_is_no_text():
    """A missing answer has no text, and neither has one that is nested deeper than a parser goes."""
    assert answer_text(None) is None
    with pytest.raises(MalformedJson):
        answer_text(b"[" * BOTTOMLESS + b"]" * BOTTOMLESS)


def test_a_body_that_a_server_wrote_as_text_is_read_as_the_object():
    """OGX does so; it is stored as an object too. Any other text is an answer, such as a transcription."""
    inner = '{"choices": [], "text": "naïve \\\\ud83d \\"quoted\\""}'
    line = dumps({"custom_id": "a", "response": {"status_code": 200, "body": inner}})
    answer = read_output_line(loads_leniently(line))
    assert answer is not None
    body = answer.body
    assert body == loads_leniently(inner.encode())
    assert loads_leniently(body_text(line, body).encode()) == body
    for text in ("just words", "{no json", '["a list"]'):
        line = dumps({"custom_id": "a", "response": {"status_code": 200, "body": text}})
        answer = read_output_line(loads_leniently(line))
        assert answer is not None
        assert (answer.body, loads_leniently(body_text(line, answer.body).encode())) == (text, text)
