"""What makes two requests the same question: the bytes of the body, the endpoint, the sample, the provider's address."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.errors import InputInvalid
from batchkit.files import jsonl
from batchkit.models import ReuseMode
from batchkit.provider.groq.dialect import GROQ
from batchkit.steps.block_check import check_block, lines_of
from batchkit.steps.request_digests import RequestDigests, names_remote_content
from tests.steps.asking import Asking, answered
from tests.workloads import CHAT, TRANSCRIPTION, audio_line, chat_line

if TYPE_CHECKING:
    from collections.abc import Sequence

BODY = b'{"model":"openai/gpt-oss-20b","messages":[{"role":"user","content":"caf\xc3\xa9"}]}'
SHARED = {
    "as most write it": b'{"custom_id":"%d","method":"POST","url":"/v1/chat/completions","body":' + BODY + b"}",
    "custom_id last": b'{"body":' + BODY + b',"method":"POST","url":"/v1/chat/completions","custom_id":"%d"}',
    "spaces": b'{ "custom_id" : "%d", "method": "POST", "url":\t"/v1/chat/completions" , "body" :  ' + BODY + b" }",
    "spaces around": b'  {"custom_id":"%d","method":"POST","url":"/v1/chat/completions","body":' + BODY + b"}  ",
    "more members": b'{"custom_id":"%d","x":[1,{"body":2}],"method":"POST","url":"/v1/chat/completions","body":'
    + BODY
    + b"}",
    "escapes": b'{"c\\u0075stom_id":"%d","method":"P\\u004fST","url":"\\/v1/chat/completions","b\\u006fdy":'
    + BODY
    + b"}",
    "a body twice": b'{"body":{},"custom_id":"%d","method":"POST","url":"/v1/chat/completions","body":' + BODY + b"}",
}
OTHER = {
    "a space in the body": BODY.replace(b":[", b": ["),
    "another order": b'{"messages":[{"role":"user","content":"caf\xc3\xa9"}],"model":"openai/gpt-oss-20b"}',
    "an escape": BODY.replace(b"\xc3\xa9", b"\\u00e9"),
    "the other form of an accent": BODY.replace(b"\xc3\xa9", b"e\xcc\x81"),
    "a large integer": BODY.replace(b"}]}", b'}],"seed":12345678901234567890123}'),
    "the next large integer": BODY.replace(b"}]}", b'}],"seed":12345678901234567890124}'),
}


def digests_of(
    lines: Sequence[bytes], *, mode: ReuseMode = ReuseMode.ON, scope: str = "groq", is_of_table: bool = False
) -> list[bytes | None]:
    """Return the digests of lines as a split makes them."""
    block = b"".join(line + b"\n" for line in lines)
    return RequestDigests(mode, scope=scope, is_of_table=is_of_table).of_lines(lines_of(block), block=block)


def line_of(custom_id: str, body: bytes, url: str = CHAT) -> bytes:
    """Return a line with the given bytes as its body."""
    return b'{"custom_id":"%s","method":"POST","url":"%s","body":%s}' % (custom_id.encode(), url.encode(), body)


def test_only_the_bytes_of_the_body_count():
    """Lines that differ outside of the body ask the same; every other byte of the body asks something else."""
    same = [line % number for number, line in enumerate(SHARED.values())]
    assert not check_block(b"".join(line + b"\n" for line in same), rules=GROQ.rules, max_line_bytes=10_000).problems
    found = [*digests_of(same), *(digests_of([line])[0] for line in same)]
    assert None not in found
    assert len(set(found)) == 1
    others = digests_of([line_of(str(number), body) for number, body in enumerate((BODY, *OTHER.values()))])
    assert None not in others
    assert len(set(others)) == 1 + len(OTHER)
    assert others[0] == found[0]


def test_lines_that_are_written_differently_share_an_answer(timed, tmp_path):
    """One of them is sent, byte for byte, and the answer is that of all; a body with another byte is sent, too."""
    asking = Asking(timed, tmp_path)
    same = [line % number for number, line in enumerate(SHARED.values())]
    others = [line_of(f"other-{number}", body) for number, body in enumerate(list(OTHER.values())[:4])]

    asking.split_lines("work", [*same, *others])
    assert asking.finish("work").all_succeeded

    assert sum(asking.sent().values()) == 1 + len(others)
    assert len(asking.export("work")) == len(same) + len(others)
    assert asking.runner.find("work").repeated_requests == len(same) - 1


BROKEN = {
    "no JSON": b"nonsense",
    "no object": b"[1]",
    "cut off": line_of("x", BODY)[:-3],
    "two objects": line_of("x", BODY) + line_of("y", BODY),
    "no body": b'{"custom_id":"x","method":"POST","url":"/v1/chat/completions"}',
    "a body that is a list": line_of("x", b"[]"),
    "a body that is null": line_of("x", b"null"),
    "a lone surrogate": line_of("x", BODY.replace(b"\xc3\xa9", b"\\ud800")),
    "bytes that are not UTF-8": line_of("x", BODY.replace(b"\xc3\xa9", b"\xff\xfe")),
    "10,000 levels": line_of("x", BODY.replace(b'"caf\xc3\xa9"', b"[" * 10_000 + b"]" * 10_000)),
    "10,000 levels beside the body": line_of("x", BODY)[:-1] + b',"z":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "an endpoint that does not exist": line_of("x", BODY, "/v1/nothing"),
    "no custom_id": line_of("x", BODY).replace(b"custom_id", b"custom"),
    "an empty custom_id": line_of("", BODY),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_line_that_is_refused_is_refused_with_reuse(timed, tmp_path, name):
    """The problem is the same with reuse and without, and nothing is stored."""
    asking = Asking(timed, tmp_path)
    lines = [line_of("first", BODY), BROKEN[name], line_of("last", BODY)]
    said = []
    for mode in (ReuseMode.OFF, ReuseMode.ON, ReuseMode.URLS):
        with pytest.raises(InputInvalid) as refused:
            asking.split_lines("work", lines, reuse=mode)
        said.append(str(refused.value))
    assert said[0] == said[1] == said[2]
    assert asking.left() == {}


@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=8,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_body_has_the_digest_of_its_bytes(values):
    """Equal bytes have equal digests, and other bytes others; alone or in a block, and whatever stands around them."""
    bodies = [jsonl.dumps({"model": "m", "x": value}) for value in values]
    lines = [line_of(f"id-{number}", body) for number, body in enumerate(bodies)]
    padded = [line.replace(b',"method"', b' ,\t"method"') for line in lines]
    found = digests_of(lines)
    assert found == digests_of(padded) == [digests_of([line])[0] for line in lines]
    for (one, first), (two, second) in combinations(zip(bodies, found, strict=True), 2):
        assert (one == two) == (first == second)


REMOTE: dict[str, bytes] = {
    "an image": b'{"type":"image_url","image_url":{"url":"https://example.com/a.jpg"}}',
    "an image as a text": b'{"type":"image_url","image_url":"http://example.com/a.jpg"}',
    "a recording": b'{"url":"https://example.com/a.mp3"}',
    "spaces after the colon": b'{ "image_url" :  { "url" :\t\r "https://example.com/a.jpg" } }',
    "spaces in the text": b'{"url":" \\n https://example.com/a.jpg"}',
    "a control character in the text": b'{"url":"\\u0001https://example.com/a.jpg"}',
    "capitals": b'{"url":"HTTPS://EXAMPLE.COM/A.JPG"}',
    "an escaped name": b'{"\\u0075rl":"https://example.com/a.jpg"}',
    "names escaped whole": b'{"image_\\u0075\\u0072\\u006C":{"\\u0075\\u0072\\u006c":"https://example.com/a.jpg"}}',
    "an escaped text": b'{"url":"\\u0068ttps:\\/\\/example.com/a.jpg"}',
    "a name in capitals": b'{"URL":"https://example.com/a.jpg"}',
    "a file": b'{"type":"input_file","file_url":"https://example.com/a.pdf"}',
    "a film": b'{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}',
    "a server of tools": b'{"type":"mcp","server_url":"https://example.com/mcp"}',
    "another scheme": b'{"url":"gs://bucket/a.jpg"}',
    "no scheme": b'{"url":"//example.com/a.jpg"}',
}
OWN: dict[str, bytes] = {
    "a text about addresses": b'"Is the url https://example.com or image_url?"',
    "an address in a text": b'"url: https://example.com/a.jpg"',
    "an embedded image": b'{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk="}}',
    "an embedded image in capitals": b'{"type":"image_url","image_url":{"url":"DATA:image/png;base64,aGk="}}',
    "a schema": b'{"properties":{"url":{"type":"string","format":"uri"}},"required":["url"]}',
    "another member": b'{"text":"https://example.com","curl":"https://example.com","name":"url"}',
}


def content(part: bytes) -> bytes:
    """Return a body with something in its message."""
    return b'{"model":"m","messages":[{"role":"user","content":[' + part + b"]}]}"


@pytest.mark.parametrize("name", REMOTE)
def test_remote_content_is_not_reused(name):
    """What the provider fetches from an address may change; only with addresses allowed such a request has a digest."""
    for body in (content(REMOTE[name]), REMOTE[name]):
        line = b'{"custom_id":"x","method":"POST","url":"/v1/chat/completions","body":%s}' % body
        assert RequestDigests(ReuseMode.ON, scope="", is_of_table=False).of_lines([line]) == [None]
        assert names_remote_content(body)
        (allowed,) = RequestDigests(ReuseMode.URLS, scope="", is_of_table=False).of_lines([line])
        assert allowed is not None


@pytest.mark.parametrize("name", OWN)
def test_a_mention_of_an_address_is_reused(name):
    """A text that only speaks of an address, and an image that is in the request, do not change."""
    (digest,) = digests_of([line_of("x", content(OWN[name]))])
    assert digest is not None


@pytest.mark.parametrize("mode", [ReuseMode.ON, ReuseMode.URLS])
def test_a_remote_recording_is_neither_given_nor_taken(timed, tmp_path, mode):
    """Each is sent, unless addresses are allowed: in both workloads that share it."""
    asking = Asking(timed, tmp_path)
    lines = [{**audio_line("x"), "custom_id": f"row-{number}"} for number in range(3)]
    assert lines[0]["url"] == TRANSCRIPTION
    timed.provider.answer = lambda line: answered(chat_line(line["custom_id"], line["body"]["url"]))
    for name in ("first", "second"):
        asking.split_lines(name, lines, reuse=mode)
        assert asking.finish(name).all_succeeded
    assert sum(timed.provider.executed.values()) == (6 if mode is ReuseMode.ON else 1)
    assert len(asking.export("second")) == 3


def test_addresses_that_were_bought_without_permission_are_not_found_with_it(timed, tmp_path):
    """A workload with plain reuse notes no digest of them."""
    asking = Asking(timed, tmp_path)
    timed.provider.answer = lambda line: answered(chat_line(line["custom_id"], line["body"]["url"]))
    for name, mode in (("first", ReuseMode.ON), ("second", ReuseMode.URLS), ("third", ReuseMode.URLS)):
        asking.split_lines(name, [audio_line("x")], reuse=mode)
        assert asking.finish(name).all_succeeded
    assert asking.rows("SELECT count(*) FROM requests WHERE digest IS NOT NULL") == [(1,)]
    assert sum(timed.provider.executed.values()) == 2


def test_samples_are_separate_draws_that_are_kept():
    """The last part of a custom_id is the sample of a table's row; without a table it is just a name."""
    ids = ["a:m:1", "a:m:2", "b:m:1", "b:m:2"]
    lines = [line_of(custom_id, BODY) for custom_id in ids]
    one, two, three, four = digests_of(lines, is_of_table=True)
    assert (one, two) == (three, four)
    assert one != two
    assert len(set(digests_of(lines))) == 1


@pytest.mark.parametrize("scope", ["groq http://127.0.0.1:1", "groq", "groq http://127.0.0.1:2 run x"])
def test_other_scopes_share_nothing(scope):
    """The digest covers the provider, its address, and the run of an evaluation."""
    line = line_of("x", BODY)
    assert digests_of([line], scope=scope) != digests_of([line], scope="groq http://127.0.0.1:2")


def test_an_answer_of_another_address_is_not_reused(timed, tmp_path):
    """The settings' address is part of what is asked; its case and a final slash are not."""
    asking = Asking(timed, tmp_path)
    asking.run("first", ["a", "b"])
    asking.runner = timed.open(base_url="https://other.example/openai/")
    asking.run("second", ["a", "b"])
    assert asking.sent() == {"a": 2, "b": 2}
    asking.runner = timed.open(base_url="https://OTHER.example/openai")
    asking.run("third", ["b", "a"])
    assert asking.sent() == {"a": 2, "b": 2}
