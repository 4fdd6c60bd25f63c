"""A lone surrogate in an answer is kept as its escape in JSON, and becomes U+FFFD with a note in text."""

from __future__ import annotations

import csv
import json  # noqa: TID251 - reads with other eyes than the code under test
import logging

import pytest
from hypothesis import given
from pyarrow import parquet as pq
from sqlalchemy import text

from batchkit.answers.check import AnswerCheck
from batchkit.answers.rules import AnswerRules
from batchkit.files import jsonl
from tests.properties.lab import content
from tests.properties.odd_json import kept, mutations, values, written
from tests.properties.test_output_bytes import answer, merged, row
from tests.properties.wording import chat_body

#: Escapes as a provider may write them: in upper and lower case, halves in the wrong order, a pair, a lookalike, and NUL.
ODD = rb"\ud83d \uD83D \udc00\ud83d \ud83d\ude00 \\ud83d \u0000 lone0-d83d"
READ = "\ufffd \ufffd \ufffd\ufffd \U0001f600 \\ud83d \x00 lone0-d83d"


def odd_body(said: str = "SAID") -> bytes:
    """Return a body with whitespace and numbers that none of our writers produces."""
    template = b'{ "choices":[{"index":0,"message":{"content":"%s"},"finish_reason":"stop"}],"\\udead":1.50 , "big":123456789012345678901 }'
    return template % (ODD if said == "SAID" else said.encode())


def line_of(custom_id: str, body: bytes) -> bytes:
    """Return an output line with this body."""
    return b'{"custom_id":"%s","response":{"status_code":200,"request_id":"req_1","body":%s},"error":null}' % (
        custom_id.encode(),
        body,
    )


@pytest.fixture
def lab(store, folder):
    """Merge three answers, the second of which is odd, in one block with plain ones."""
    lines = [
        written(answer(row(0), chat_body("plain"))),
        line_of(row(1), odd_body()),
        written(answer(row(2), {"text": "plain"})),
    ]
    return merged(store, folder, count=3, output=content(lines))


def test_the_stored_body_and_the_exported_line_are_the_providers_bytes(lab, store):
    """Every space, digit and escape is that of the output file."""
    lines = lab.exported().read_bytes().split(b"\n")
    assert b'"body":' + odd_body() + b"}" in lines[1]
    with store.read() as connection:
        stored = {body for (body,) in connection.execute(text("SELECT body FROM bodies"))}
    assert odd_body().decode() in stored


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_tables_have_a_replacement_character_and_a_note(lab, caplog, ending):
    """The note is printed once, with the number of answers; JSON Lines need none."""
    with caplog.at_level(logging.WARNING, logger="batchkit"):
        target = lab.exported(ending)
    notes = [record.getMessage() for record in caplog.records if "surrogate" in record.getMessage()]
    assert len(notes) == 1
    assert f"{target}: U+FFFD stands for half of a surrogate pair in 1 answer" in notes[0]
    if ending == ".csv":
        with target.open(encoding="utf-8", newline="") as handle:
            assert list(csv.DictReader(handle))[1]["answer"] == READ
    else:
        table = pq.read_table(target).to_pydict()
        assert table["text"][1] == READ
        assert json.loads(table["response"][1])["choices"][0]["message"]["content"] == READ
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="batchkit"):
        lab.exported()
    assert not [record for record in caplog.records if "surrogate" in record.getMessage()]


def test_the_view_of_answers_is_readable(lab, store):
    """SQL shows U+FFFD as well, for NUL too, and the other answers are shown beside it."""
    with store.read() as connection:
        answers = [found for (found,) in connection.execute(text("SELECT answer FROM succeeded ORDER BY seq"))]
    assert lab is not None
    assert answers == ["plain", READ.replace("\x00", "\ufffd"), "plain"]


def test_failures_keep_their_bodies_and_their_messages_are_stored(store, folder):
    """Surrogates and NULs in an error's code and message, a request id, an unknown custom_id or a finish reason do no harm."""
    refused = rb'{"error":{"message":"no \ud83d\u0000","type":"invalid_request_error","code":"bad\udc00"}}'
    lines = [
        b'{"custom_id":"row-0","response":{"status_code":400,"request_id":"r\\ud800","body":%s},"error":null}'
        % refused,
        line_of(r"row-\ud800", odd_body()),
        line_of(row(1), odd_body().replace(b'"stop"', rb'"st\ud800p"')),
        rb'{"custom_id":"row-2","response":null,"error":{"code":"\ud800","message":"\ud800"}}',
    ]
    lab = merged(store, folder, count=3, output=content(lines[1:3]), error=content([lines[0], lines[3]]))
    found = [json.loads(line) for line in lab.exported().read_bytes().split(b"\n")[:-1]]
    assert [line["status"] for line in found] == ["failed", "succeeded", "failed"]
    assert b'"body":' + refused in lab.exported().read_bytes()
    assert found[0]["error"]["code"].startswith("bad")
    assert len(lab.exported(".csv").read_bytes()) > 0
    assert pq.read_table(lab.exported(".parquet")).num_rows == 3


@pytest.mark.parametrize(
    ("rules", "said", "value"),
    [
        ({}, ODD.decode(), READ),
        ({"format": "json"}, r"{\"a\":\"\\ud83d\"}", {"a": "\ufffd"}),
        ({"format": "json"}, r"{\"a\":\"\ud83d\"}", {"a": "\ufffd"}),
        ({"format": "choice", "choices": ("yes", "no")}, r"yes", "yes"),
        ({"format": "pattern", "pattern": ".*"}, r"a\ud83d", "a\ufffd"),
    ],
)
def test_rules_read_halves_as_replacement_characters(rules, said, value):
    """An answer does not break its rules by a lone surrogate, not even inside a document."""
    reading = AnswerCheck(AnswerRules(**rules)).read(odd_body(said))
    assert (reading.code, reading.value) == (None, value)


def test_the_stored_body_equals_the_body_that_was_read(effort):
    """Whatever a line holds, the stored body means what the strict reader read, is UTF-8, and is byte-identical."""

    @effort(quick=200, deep=20_000)
    @given(body=values.filter(lambda body: body is not None))
    def holds(body) -> None:
        line = json.dumps(answer("a", body), separators=(",", ":")).encode()
        read = jsonl.loads_leniently(line)["response"]["body"]
        stored = jsonl.body_text(line, read)
        assert kept(json.loads(stored.encode())) == kept(read)
        if "NaN" not in json.dumps(body) and "Infinity" not in json.dumps(body):
            assert stored == json.dumps(body, separators=(",", ":"))

    holds()


def test_damaged_lines_give_a_body_or_none(effort):
    """For a line that the strict reader accepts, a body can be stored, whatever its bytes are."""

    @effort(quick=200, deep=20_000)
    @given(line=mutations(line_of("a", odd_body())))
    def holds(line) -> None:
        try:
            read = jsonl.read_output_line(jsonl.loads_leniently(line))
        except jsonl.MalformedJson:
            return
        if read is None or read.body is None:
            return
        stored = jsonl.body_text(line, read.body)
        assert kept(jsonl.loads_leniently(stored.encode())) == kept(read.body)
        assert "\n" not in stored

    holds()
