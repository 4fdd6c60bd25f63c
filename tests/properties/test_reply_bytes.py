"""Whatever an API answers, a call soon ends with a value or with one of our errors."""

from __future__ import annotations

import gzip
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from batchkit.errors import ProviderError
from batchkit.files.jsonl import dumps
from batchkit.models import BatchId, FileId, ShardState
from batchkit.provider.client import BatchApi
from batchkit.provider.groq.dialect import GROQ
from batchkit.provider.options import HttpOptions
from batchkit.store import batches
from tests.factories import add_shard, add_workload
from tests.properties.odd_json import changed, nearly_json, texts, values, written
from tests.provider.conftest import KEY, FakeTime
from tests.provider.server import ScriptedServer, raw

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The longest that one example may take; a hang would take forever.
TIMEOUT_SECONDS = 20.0

BATCH = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "input_file_id": "file_1",
    "completion_window": "24h",
    "status": "completed",
    "output_file_id": "file_2",
    "error_file_id": None,
    "created_at": 1_750_000_000,
    "expires_at": 1_750_086_400,
    "request_counts": {"completed": 3, "failed": 0, "total": 3},
    "metadata": {"batchkit_key": "k1"},
    "errors": {"object": "list", "data": [{"code": "c", "line": 1, "message": "m", "param": None}]},
}
FILE = {"id": "file_1", "object": "file", "bytes": 3, "created_at": 1, "filename": "a.jsonl", "purpose": "batch"}
LIST = {"object": "list", "data": [BATCH, FILE], "paging": {"next_cursor": "cursor_1"}}
ERROR = {"error": {"message": "Please try again in 9m38.016s", "type": "requests", "code": "rate_limit_exceeded"}}

objects: st.SearchStrategy[dict[str, Any]] = st.sampled_from([BATCH, FILE, LIST, ERROR])
bodies = st.one_of(objects.flatmap(changed).map(written), values.map(written), nearly_json, st.binary(max_size=40))
durations = st.one_of(
    st.sampled_from(
        [
            *(
                "0",
                "-1",
                "1e999",
                "nan",
                "2m59.56s",
                "120ms",
                "1h1h1h",
                "9" * 400,
                "1_0",
                "\u0663".encode().decode("latin-1"),
            ),
            *("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 99 Foo 0000 99:99:99 +9999", "Mon, 01 Jan 0001 00:00:00 -2359"),
            *("Fri, 31 Dec 9999 23:59:59 +2359", "1750000000", "1.7976931348623157e308", "", ";", "s", "\xb5s"),
        ]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20),
)
names = st.sampled_from(
    [
        *("Retry-After", "Date", "x-ratelimit-reset-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset"),
        *("x-request-id", "Location", "Content-Type", "Content-Encoding", "Set-Cookie", "WWW-Authenticate", "Link"),
    ]
)
cookies = st.sampled_from(
    ["a=b; Max-Age=x; expires=never", "=;;;", "a=b; Domain=.com; Version=99; Port=x", "gzip", "br, zstd"]
)
targets = st.sampled_from(
    ["http://[::1", "//", "http://\xff/", "ftp://a:99999/", "?", "http://xn--/", "\\\\", "http://a:b:c@d"]
)
headers = st.lists(st.tuples(names, durations | cookies | targets), max_size=5)
statuses = st.sampled_from(
    [200, 200, 200, 201, 204, 206, 301, 303, 304, 400, 401, 403, 404, 409, 413, 418, 429, 498, 500, 599, 999]
)


@pytest.fixture(scope="module")
def api() -> Iterator[tuple[ScriptedServer, BatchApi]]:
    """Keep one server for all examples; they only change its reply."""
    time = FakeTime()
    with (
        ScriptedServer() as server,
        BatchApi(
            GROQ,
            base_url=server.base_url,
            api_key=KEY,
            options=HttpOptions(attempts=2, read_timeout_seconds=5, sleep=time.sleep, clock=time.clock, now=time.now),
        ) as provider,
    ):
        yield server, provider


def every_call(provider: BatchApi, folder: Any) -> None:
    """Make each call once; only errors of the provider may be raised."""
    shard = folder / "shard.jsonl"
    shard.write_bytes(b"{}\n")
    calls = [
        lambda: provider.upload_file(shard, "shard.jsonl"),
        lambda: provider.create_batch(input_file_id=FileId("f"), endpoint="/v1", window="24h", metadata={}),
        lambda: provider.get_batch(BatchId("batch_1")),
        lambda: provider.get_batches([BatchId("batch_1"), BatchId("batch_2")]),
        lambda: list(provider.list_batches()),
        lambda: list(provider.list_files()),
        lambda: provider.cancel_batch(BatchId("batch_1")),
        lambda: provider.delete_file(FileId("file_1")),
        provider.list_models,
        lambda: provider.download_file(FileId("file_1"), folder / "download.jsonl"),
    ]
    for call in calls:
        with suppress(ProviderError):
            call()


def in_time(work: Any) -> None:
    """Run ``work`` and check that it ends in time."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread of the test
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(TIMEOUT_SECONDS)
    assert not thread.is_alive(), "a call hangs"
    if raised:
        raise raised[0]


def reply(status: int, fields: list[tuple[str, str]], body: bytes) -> bytes:
    """Build a reply by hand, so that nothing in it is well-formed by accident."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    head = f"HTTP/1.1 {status} Odd\r\n{lines}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode("latin-1") + body


def test_no_reply_breaks_a_call(api, tmp_path, effort):
    """The reply has any status, any headers and any body."""
    server, provider = api

    @effort(quick=14, deep=1_500)
    @given(status=statuses, fields=headers, body=bodies)
    def holds(status: int, fields: list[tuple[str, str]], body: bytes) -> None:
        server.otherwise = raw(reply(status, fields, body))
        in_time(lambda: every_call(provider, tmp_path))

    holds()


def test_no_bytes_break_a_call(api, tmp_path, effort):
    """The reply is random bytes instead of HTTP, or HTTP that was truncated or mutated."""
    server, provider = api
    whole = reply(200, [("Content-Type", "application/json")], dumps(LIST))
    pieces = st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Content-Length: -1\r\n",
            b"\r\n",
            b"5\r\nabcde\r\n",
        ]
    )
    cut = st.integers(0, len(whole)).map(lambda place: whole[:place])
    junk = st.lists(pieces | st.binary(max_size=9), max_size=8).map(b"".join)

    @effort(quick=8, deep=500)
    @given(data=cut | junk)
    def holds(data: bytes) -> None:
        server.otherwise = raw(data)
        in_time(lambda: every_call(provider, tmp_path))

    holds()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(written(BATCH), mtime=0)),
        ("gzip", gzip.compress(written(BATCH), mtime=0)[:-5]),
        ("gzip", b"\x1f\x8b garbage"),
        ("deflate", b"garbage"),
        ("zstd", zstandard.compress(written(BATCH))),
        ("zstd", zstandard.compress(written(BATCH))[:-5]),
        ("zstd", b"\x28\xb5\x2f\xfd garbage"),
        ("br", b"garbage"),
        ("a, b, gzip", b"garbage"),
        ("identity", written(BATCH)),
    ],
    ids=repr,
)
def test_no_encoding_breaks_a_call(api, tmp_path, encoding, body):
    """Compressed replies, whether requested or not, complete or truncated."""
    server, provider = api
    server.otherwise = raw(reply(200, [("Content-Encoding", encoding)], body))
    in_time(lambda: every_call(provider, tmp_path))


def test_cookies_are_not_kept(api):
    """A cookie set by one reply is not sent with the next call, and does not break it."""
    server, provider = api
    for cookie in ("a=b; Path=/", "\xb5s", "=;;;"):
        server.otherwise = raw(reply(200, [("Set-Cookie", cookie)], written(BATCH)))
        for _ in range(2):
            assert provider.get_batch(BatchId("batch_1")).status == "completed"
            assert "cookie" not in server.seen[-1].headers


def test_huge_counts_add_up(api, store):
    """Two counts that no batch can have are stored, and their sum fits the database's integers."""
    server, provider = api
    with store.write() as connection:
        shard = add_shard(connection, add_workload(connection), state=ShardState.SUBMITTED)
        counts = {"completed": 2**62, "failed": 10**300, "total": 1e300}
        server.otherwise = raw(reply(200, [], written(BATCH | {"id": shard.batch_id, "request_counts": counts})))
        batches.see(connection, provider.get_batch(BatchId(str(shard.batch_id))), seen_at=1.0)
    with store.read() as connection:
        ((_, count, done),) = batches.open_statuses(connection, shard.workload_id)
    assert count == 1
    assert done > 0


def test_any_batch_can_be_stored(api, store, effort):
    """A batch object with any content and an id is stored and read back as the same object."""
    server, provider = api
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, state=ShardState.SUBMITTED)
    assert shard.batch_id is not None

    @effort(quick=15, deep=1_000)
    @given(payload=changed(BATCH), name=texts)
    def holds(payload: dict[str, Any], name: str) -> None:
        server.otherwise = raw(reply(200, [], written(payload | {"id": shard.batch_id, name: name, "a": 2**70})))
        seen = provider.get_batch(BatchId(str(shard.batch_id)))
        with store.write() as connection:
            batches.set_values(connection, seen.id, status="running")  # a batch that has ended cannot return to running
            batches.see(connection, seen, seen_at=1.0)
        with store.read() as connection:
            read = batches.get(connection, seen.id)
            assert batches.open_statuses(connection, workload.id)[0][0] == seen.status
        assert (read.status, read.output_file_id, read.error_file_id) == (
            seen.status,
            seen.output_file_id,
            seen.error_file_id,
        )
        assert (read.counts, list(read.problems)) == (seen.counts, list(seen.problems))
        assert (read.created_at, read.expires_at) == (seen.created_at, seen.expires_at)

    holds()
