"""Schemas are closed, their formats count, and their check ends."""

from __future__ import annotations

import http.server
import threading
import time
from typing import Any

import pytest

from batchkit.answers import bounded_check
from batchkit.answers.check import AnswerCheck
from batchkit.answers.rules import AnswerRules
from batchkit.answers.schemas import ClosedSchema
from batchkit.errors import ConfigurationError
from tests.answers.support import read, said


@pytest.fixture
def asked():
    """Serve a schema on loopback; gives its address and the list of the paths that were asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"type":"integer"}')

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("place", ["property", "items", "dialect", "base", "tool", "dynamic"])
def test_nothing_outside_a_schema_is_asked_for(asked, place):
    """Not as a reference, not as the schema of the schema, not relative to its own name; the refusal says what to do."""
    address, paths = asked
    schema = {
        "property": {"properties": {"n": {"$ref": f"{address}/n.json"}}},
        "items": {"type": "array", "items": {"$ref": f"{address}/n.json#/$defs/x"}},
        "dialect": {"$schema": f"{address}/meta.json", "type": "object"},
        "base": {"$id": f"{address}/a.json", "properties": {"n": {"$ref": "n.json"}}},
        "tool": {"properties": {"n": {"$ref": f"{address}/n.json"}}},
        "dynamic": {"$dynamicRef": f"{address}/n.json"},
    }[place]
    rules = (
        AnswerRules(format="tools", tools=({"type": "function", "function": {"name": "f", "parameters": schema}},))
        if place == "tool"
        else AnswerRules(format="json", json_schema=schema)
    )
    with pytest.raises(ConfigurationError) as raised:
        AnswerCheck(rules)
    assert paths == []
    if place in {"property", "items", "tool"}:
        assert f"the schema refers to {address}/n.json" in raised.value.message
        assert "$defs" in (raised.value.hint or "")


def test_no_file_is_read(tmp_path):
    """A reference to a file is refused as well, whether the file is there or not."""
    (tmp_path / "n.json").write_text('{"type":"integer"}')
    for reference in (f"file://{tmp_path}/n.json", "n.json", "./n.json#/x"):
        with pytest.raises(ConfigurationError, match="which is not in it"):
            ClosedSchema({"properties": {"n": {"$ref": reference}}})


def test_references_within_a_schema_are_followed():
    """By pointer and by name."""
    by_pointer = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}
    by_name = {"properties": {"n": {"$ref": "n"}}, "$defs": {"n": {"$id": "n", "$anchor": "x", "type": "integer"}}, "$id": "https://example.com/s"}  # fmt: skip
    assert ClosedSchema(by_pointer).problem(1) is None
    assert ClosedSchema(by_pointer).problem("1") == 'the document: "1" is not of type "integer"'
    assert ClosedSchema(by_name).problem({"n": "1"}) == 'n: "1" is not of type "integer"'


FORMATS = {
    "date": (
        ["2026-02-28", "0001-01-01"],
        ["next Tuesday", "2026-02-30", "2026-2-1", "20260228", "0000-01-01", "\u0662026-01-01"],
    ),
    "date-time": (
        ["2026-01-01T00:00:00Z", "2026-01-01t10:00:00.123456789+05:30", "2016-12-31T23:59:60Z"],
        [
            "2026-01-01T00:00:00",
            "2026-01-01 00:00:00Z",
            "2026-01-01",
            "2026-01-01T24:00:00Z",
            "9999-12-31T23:59:59-14:00",
        ],
    ),
    "time": (["10:00:00Z", "23:59:60+00:00", "10:00:00.5-02:00"], ["10:00:00", "10:00Z", "25:00:00Z", "noon"]),
    "email": (["a@example.com"], ["nobody"]),
    "ipv6": (["2001:db8::1"], ["2001:db8"]),
    "uri": (["https://example.com/"], ["not an address"]),
    "ipv4": (["192.0.2.1"], ["192.0.2"]),
    "a format of nobody": (["anything"], []),
}


@pytest.mark.parametrize("dialect", [None, "http://json-schema.org/draft-07/schema#"])
@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_checked(name, dialect):
    """A text that is not in the format does not conform; what is no text has no format."""
    schema = {"format": name} | ({} if dialect is None else {"$schema": dialect})
    check = ClosedSchema(schema)
    good, bad = FORMATS[name]
    assert {text: check.problem(text) for text in good} == dict.fromkeys(good)
    assert [text for text in bad if check.problem(text) is None] == []
    assert check.problem(7) is None


def test_a_schema_whose_references_multiply_the_work_is_given_up(monkeypatch):
    """The check takes twice as long with every definition: the answer is invalid, the next one is checked again."""
    monkeypatch.setattr(bounded_check, "_SECONDS", 0.3)
    definitions: dict[str, Any] = {"d0": {"required": ["x"]}}
    for number in range(1, 45):
        inner = {"$ref": f"#/$defs/d{number - 1}"}
        definitions[f"d{number}"] = {"anyOf": [inner, {"allOf": [inner, {"type": "object"}]}]}
    check = AnswerCheck(AnswerRules(format="json", json_schema={"$ref": "#/$defs/d44", "$defs": definitions}))

    started = time.perf_counter()
    readings = [check.read(said(text)) for text in ('{"y": 1}', '{"x": 1}')]

    assert time.perf_counter() - started < 30
    assert (readings[0].code, readings[0].message) == ("answer_invalid", "the check took longer than 0.3 s")
    assert readings[1].value == {"x": 1}


@pytest.mark.parametrize(
    "document",
    [
        "[" * 900 + "]" * 900,
        '{"a":' * 300 + "1" + "}" * 300,
        '{"n": 1' + "0" * 30 + "}",
        '{"s": "\\ud800"}',
        "1" + "0" * 400,
        '{"n":1e999}',
    ],
)
def test_odd_documents_are_read_or_rejected(document):
    """Deep ones, huge numbers, halves of surrogate pairs: a value or a reason, and nothing else."""
    for schema in ({}, {"type": "object"}, {"properties": {"a": {"$ref": "#"}}}):
        reading = read(said(document), format="json", json_schema=schema)
        assert (reading.code is None) != (reading.value is None)


def test_whole_numbers_of_any_size_stay_exact():
    """Of numbers beyond 64 bits no digit is lost."""
    assert read(said('{"n": 123456789012345678901234567890}'), format="json").value == {
        "n": 123456789012345678901234567890
    }
    long = read(said("1" * 5_000), format="json")
    assert (long.value, long.code) == (None, "answer_invalid")
