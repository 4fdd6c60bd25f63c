"""Whatever a batch's files hold, the merge finishes, and answers are exported as they arrived."""

from __future__ import annotations

import csv
import hashlib
import json  # noqa: TID251 - reads with other eyes than the code under test
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.provider import wire
from tests.properties.lab import LONG, Lab, content
from tests.properties.odd_json import changed, in_utf8, kept, mutations, nearly_json, texts, values, written
from tests.properties.scripted import Ending
from tests.properties.wording import NOISE, chat_body
from tests.workloads import chat_line

MEBIBYTE = 1 << 20
STATES = {"succeeded", "failed", "cancelled", "pending", "in_flight"}

real_bodies = st.builds(chat_body, texts) | st.fixed_dictionaries({"text": texts})


def row(number: int) -> str:
    """Return the custom_id of a request."""
    return f"row-{number}"


def answer(custom_id: str, body: Any) -> dict[str, Any]:
    """Return a success line."""
    return {
        "id": "batch_req_1",
        "custom_id": custom_id,
        "response": {"status_code": 200, "request_id": "req_1", "body": body},
        "error": None,
    }


REFUSAL = {"error": {"message": "no", "type": "invalid_request_error", "code": "invalid", "param": "a"}}


@st.composite
def odd_lines(draw: st.DrawFn, custom_id: str) -> bytes:
    """Draw a line for ``custom_id`` that was mutated."""
    body = draw(real_bodies | st.just(REFUSAL))
    record = answer(custom_id, body)
    match draw(st.integers(0, 5)):
        case 0:
            return draw(nearly_json | st.sampled_from(NOISE))
        case 1:
            return draw(mutations(written(record)))
        case 2:
            record["response"]["body"] = draw(values)
        case 3:
            record["error"] = draw(values)
            record["response"]["status_code"] = draw(st.sampled_from([200, 400, 503, "200", 200.0, -1, 2**70, None]))
        case _:
            return written(draw(changed(record)))
    return written(record)


def merged(store, folder, *, count: int, output: bytes | None, error: bytes | None = None) -> Lab:
    """Submit ``count`` requests, and merge these files of their batch."""
    lab = Lab(store, folder)
    lab.split(content(written(chat_line(row(number))) for number in range(count)), max_attempts=1, max_expiries=1)
    lab.send()
    (batch_id,) = lab.provider.running()
    lab.provider.end(batch_id, Ending(output=output, error=error))
    lab.look()
    for _ in range(8):
        lab.merge()
        lab.clock.advance(LONG)
    return lab


def exported(lab: Lab) -> list[dict[str, Any]]:
    """Export as lines and as a table, which must agree."""
    lines = [json.loads(line) for line in lab.exported().read_bytes().split(b"\n")[:-1]]
    csv.field_size_limit(100 * MEBIBYTE)
    with lab.exported(".csv").open(encoding="utf-8", newline="") as handle:
        table = list(csv.DictReader(handle))
    assert [(line["custom_id"], line["status"]) for line in lines] == [
        (cells["custom_id"], cells["status"]) for cells in table
    ]
    for line, cells in zip(lines, table, strict=True):
        body = (line["response"] or {}).get("body")
        if line["status"] == "succeeded":
            assert cells["answer"] == in_utf8(text_of(body) or "")
        assert cells["error_code"] == ((line["error"] or {}).get("code") or "")
        assert cells["error_message"] == ((line["error"] or {}).get("message") or "")
    return lines


def text_of(body: Any) -> str | None:
    """Return the answer in a body as the documentation describes it."""
    if isinstance(body, str):
        return body
    try:
        text = body["choices"][0]["message"]["content"] if body.get("choices") else body["text"]
    except (AttributeError, KeyError, IndexError, TypeError):
        return None
    return text if isinstance(text, str) else None


def test_any_lines_are_merged(store, folder, effort):
    """Every request has one final state with storable messages, and no row is torn, whatever the files hold."""
    count = 6
    chosen = effort(quick=16, deep=1_500) if store.is_sqlite else effort(quick=6, deep=400)

    @chosen
    @given(
        lines=st.tuples(*(st.lists(odd_lines(row(number)), max_size=2) for number in range(count))), cut=st.booleans()
    )
    def holds(lines: tuple[list[bytes], ...], cut: bool) -> None:
        flat = [line for several in lines for line in several]
        files = content(flat[::2]), content(flat[1::2])
        lab = merged(store, folder, count=count, output=files[0][:-1] if cut else files[0], error=files[1])
        found = exported(lab)
        assert [line["custom_id"] for line in found] == [row(number) for number in range(count)]
        assert {line["status"] for line in found} <= {"succeeded", "failed"}
        for line in found:
            if line["status"] == "failed":
                assert line["error"]["code"]
            else:
                assert line["response"]["body"]

    holds()


def test_bodies_are_exported_as_they_arrived(store, folder, effort):
    """The exported body is JSON-equal to that of the output file, except for what no reader or database accepts."""
    chosen = effort(quick=16, deep=1_500) if store.is_sqlite else effort(quick=6, deep=400)
    bodies = st.lists((values | real_bodies).filter(lambda body: bool(kept(body))), min_size=1, max_size=8)

    @chosen
    @given(bodies=bodies, is_ascii=st.booleans())
    def holds(bodies: list[Any], is_ascii: bool) -> None:
        records = [answer(row(number), body) for number, body in enumerate(bodies)]
        lines = [json.dumps(record, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass") for record in records]
        found = exported(merged(store, folder, count=len(bodies), output=content(reversed(lines))))
        for line, body in zip(found, bodies, strict=True):
            if isinstance(body, dict) and body.get("error"):
                continue
            assert line["status"] == "succeeded"
            assert kept(line["response"]["body"]) == kept(body)

    holds()


def noise_text(length: int) -> str:
    """Return text that no database can compress."""
    return "".join(hashlib.sha256(str(number).encode()).hexdigest() for number in range(length // 64))


LONG_WORDS = noise_text(100_000)


@pytest.mark.parametrize(
    ("record", "status"),
    [
        ({"error": {"code": LONG_WORDS, "message": "no"}}, "failed"),
        ({"error": {"code": None, "type": LONG_WORDS, "message": LONG_WORDS}}, "failed"),
        ({"error": {"code": {"a": [LONG_WORDS]}, "message": ["\x00"]}}, "failed"),
        ({"response": {"status_code": 400, "request_id": LONG_WORDS, "body": LONG_WORDS}}, "failed"),
        (answer(row(0), {"choices": [{"message": {"content": "\x00"}, "finish_reason": LONG_WORDS}]}), "succeeded"),
        (answer(row(0), {"text": LONG_WORDS * 5}), "succeeded"),
        (answer(row(0), {"text": "\x00\ud800", "usage": {"prompt_tokens": 2**70, "total_tokens": -1}}), "succeeded"),
    ],
    ids=["code", "type and message", "code that is no word", "request id", "finish reason", "body", "numbers"],
)
def test_very_long_messages_are_stored(store, folder, record, status):
    """Messages of a hundred kilobytes are cut for an index or a reader, and never make a merge fail."""
    strangers = [written(answer(LONG_WORDS, "a")), written(answer("\ud800\x00", "a"))]
    lab = merged(store, folder, count=2, output=content([written({"custom_id": row(0), **record}), *strangers]))
    first, second = exported(lab)
    assert (first["status"], second["status"]) == (status, "failed")
    if status == "failed":
        assert len(first["error"]["code"]) <= 200
        assert len(first["error"]["message"]) <= 2_000
    else:
        assert first["response"]["body"] == kept(record["response"]["body"])


def test_long_messages_of_a_refused_batch_are_stored(store, folder):
    """The same holds for the errors of a batch that failed validation, and for its status in a list."""
    lab = Lab(store, folder)
    lab.split(content([written(chat_line(row(0))), written(chat_line(row(1)))]))
    lab.send()
    (batch_id,) = lab.provider.running()
    batch = wire.batch(
        {
            "id": batch_id,
            "status": "failed",
            "errors": [{"code": LONG_WORDS, "message": LONG_WORDS, "line": 1, "param": LONG_WORDS}],
        }
    )
    assert batch is not None
    lab.provider.end(batch_id, Ending(batch.status, problems=batch.problems))
    lab.look()
    lab.merge()
    first, second = exported(lab)
    assert first["status"] == "failed"
    assert len(first["error"]["code"]) <= 200
    assert second["status"] == "pending"
