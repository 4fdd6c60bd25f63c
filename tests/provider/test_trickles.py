"""No reply keeps a call forever or fills the memory, however slowly or quickly the server sends it."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from itertools import count
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from batchkit.errors import ListingIncomplete, OutcomeUnknown, ProviderError, TornDownload
from batchkit.models import BatchId, FileId
from batchkit.provider.pace import LowestSpeed

from .server import after, answer, as_json, flood, hang_up, sent_then_silence, trickle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchkit.provider.client import BatchApi

    from .conftest import FakeTime
    from .server import Exchange, Reply, ScriptedServer

ONE = BatchId("batch_1")
BATCH = {"id": "batch_1", "status": "in_progress"}
LIMIT = 1_000_000
SHORT = 0.2
READ, CANCEL, UPLOAD, CREATE, DOWNLOAD = 0, 5, 7, 8, 9  # positions in ``every_call``
BLANKS = b" " * 65_536
CHUNKED = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
UNFRAMED = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
CHUNK_OF_BLANKS = b"%x\r\n%b\r\n" % (len(BLANKS), BLANKS)

ENDLESS: dict[str, Callable[[int], Reply]] = {
    "chunked": lambda status: flood(CHUNKED % status, CHUNK_OF_BLANKS),
    "until the end": lambda status: flood(UNFRAMED % status, BLANKS),
    "announced": lambda status: flood(b"HTTP/1.1 %d X\r\nContent-Length: 99999999999\r\n\r\n" % status, BLANKS),
}


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """Write a small shard file."""
    path = tmp_path / "shard.jsonl"
    path.write_bytes(b"{}\n")
    return path


def every_call(provider: BatchApi, shard: Path) -> list[Callable[[], object]]:
    """Make each kind of call that reads a reply into memory."""
    return [
        lambda: provider.get_batch(ONE),
        lambda: provider.get_batches([ONE]),
        lambda: list(provider.list_batches()),
        lambda: list(provider.list_files()),
        provider.list_models,
        lambda: provider.cancel_batch(ONE),
        lambda: provider.delete_file(FileId("file_1")),
        lambda: provider.upload_file(shard, "shard.jsonl"),
        lambda: provider.create_batch(input_file_id=FileId("f"), endpoint="/v1", window="24h", metadata={}),
        lambda: provider.download_file(FileId("file_1"), shard.with_name("output.jsonl")),
        provider.check,
    ]


def outcome(call: Callable[[], object]) -> ProviderError:
    """Return the reason why a call failed."""
    with pytest.raises(ProviderError) as caught:
        call()
    cause = caught.value.__cause__
    return cause if isinstance(caught.value, ListingIncomplete) and isinstance(cause, ProviderError) else caught.value


@pytest.mark.parametrize("framing", ENDLESS)
@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
def test_a_reply_without_an_end_is_an_outage(
    server: ScriptedServer, connect: Callable[..., BatchApi], shard: Path, framing: str, status: int
) -> None:
    """This holds for every call and every status, and only a limited part of the reply is held in memory."""
    server.otherwise = ENDLESS[framing](status)
    provider = connect(max_reply_bytes=LIMIT)
    tracemalloc.start()
    try:
        for number, call in enumerate(every_call(provider, shard)):
            if number == DOWNLOAD and status == 200:
                continue  # the file itself may be long
            error = outcome(call)
            assert type(error) is OutcomeUnknown
            assert "more than 1,000,000 bytes" in error.message
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * LIMIT
    assert provider.trouble() is not None


def test_the_error_body_of_a_download_has_the_same_limit(
    server: ScriptedServer, connect: Callable[..., BatchApi], shard: Path
) -> None:
    """Only the file itself may be long."""
    endless = ENDLESS["chunked"](404)
    server.choose = lambda seen: endless if seen.path.endswith("/content") else as_json({"id": "file_1", "bytes": 9})
    error = outcome(every_call(connect(max_reply_bytes=LIMIT), shard)[DOWNLOAD])
    assert type(error) is OutcomeUnknown
    assert "more than 1,000,000 bytes" in error.message


@pytest.mark.parametrize(("size", "fits"), [(LIMIT, True), (LIMIT + 1, False)])
def test_the_limit_counts_the_last_byte(
    server: ScriptedServer, connect: Callable[..., BatchApi], size: int, fits: bool
) -> None:
    """A reply of exactly the limit is read."""
    server.otherwise = answer(b'{"id": "batch_1"}'.ljust(size))
    provider = connect(max_reply_bytes=LIMIT)
    if fits:
        assert provider.get_batch(ONE).id == ONE
    else:
        assert "more than" in outcome(lambda: provider.get_batch(ONE)).message
    assert len(server.seen) == 1


WIDE: dict[str, tuple[bytes, bytes, bytes]] = {
    "empty objects": (b"[", b"{},", b"{}]"),
    "empty lists": (b"[", b"[],", b"[]]"),
    "small objects": (b'{"data": [', b'{"a":1},', b"{}]}"),
    "numbers": (b"[", b"0,", b"0]"),
    "one in another": (b"", b"[", b""),
}


@pytest.mark.parametrize("status", [200, 400, 503])
@pytest.mark.parametrize("shape", WIDE)
def test_a_reply_of_a_great_many_values_is_an_outage(
    server: ScriptedServer, connect: Callable[..., BatchApi], shard: Path, shape: str, status: int
) -> None:
    """A value takes up to fifty times the memory of its text, so they are counted before the reply is parsed."""
    before, value, after_them = WIDE[shape]
    server.otherwise = answer(before + value * 200_000 + after_them, status)
    tracemalloc.start()
    try:
        for number, call in enumerate(every_call(connect(max_reply_values=100_000), shard)):
            if number == DOWNLOAD and status == 200:
                continue  # the file itself may hold anything
            error = outcome(call)
            assert type(error) is OutcomeUnknown
            assert "more than 100,000 JSON values" in error.message
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * 200_000 * len(value) + LIMIT


def test_a_list_of_many_megabytes_is_read_by_default(server: ScriptedServer, provider: BatchApi) -> None:
    """Files come in one page, however many there are."""
    files = [{"id": f"file_{number:06}", "filename": "a" * 200} for number in range(20_000)]
    server.script(as_json({"data": files}))
    assert sum(1 for _ in provider.list_files()) == 20_000


BODY = b'{"id": "batch_1", "status": "in_progress"}'
RAW_DEFLATE = zlib.compressobj(wbits=-zlib.MAX_WBITS)
READABLE: dict[str, tuple[str, bytes]] = {
    "gzip": ("gzip", gzip.compress(BODY)),
    "x-gzip": ("X-GZIP", gzip.compress(BODY)),
    "zlib": ("deflate", zlib.compress(BODY)),
    "deflate": ("deflate", RAW_DEFLATE.compress(BODY) + RAW_DEFLATE.flush()),
    "identity": ("identity", BODY),
    "much": ("gzip", gzip.compress(BODY.ljust(5 * LIMIT))),
}


@pytest.mark.parametrize(("encoding", "body"), READABLE.values(), ids=READABLE.keys())
def test_compressed_replies_are_read(server: ScriptedServer, provider: BatchApi, encoding: str, body: bytes) -> None:
    """Replies in the requested encodings are read, and in variants that servers mistake for them."""
    server.script(answer(body, content_encoding=encoding))
    assert provider.get_batch(ONE).status == "in_progress"
    assert server.seen[0].headers["accept-encoding"] == "gzip, deflate"


def bomb() -> bytes:
    """Return a reply that becomes far larger than a reply may be; compressing it takes a moment."""
    return gzip.compress(bytes(50 * LIMIT))


UNREADABLE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a bomb": ("gzip", bomb),
    "a bomb in a bomb": ("gzip, gzip", lambda: gzip.compress(bomb())),
    "a bomb of deflate": ("deflate", lambda: zlib.compress(bytes(50 * LIMIT))),
    "cut": ("gzip", lambda: gzip.compress(BODY)[:-9]),
    "broken": ("gzip", lambda: b"\x1f\x8b\x08\x00" + bytes(20) + b"\xff" * 50),
    "not compressed": ("gzip", lambda: BODY),
    "brotli": ("br", lambda: BODY[:5]),
}


@pytest.mark.parametrize(("encoding", "make_body"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_compressed_replies_that_blow_up_or_break_are_an_outage(
    server: ScriptedServer, connect: Callable[..., BatchApi], encoding: str, make_body: Callable[[], bytes]
) -> None:
    """Bytes are counted after decompression, and never taken for a reply."""
    server.otherwise = answer(make_body(), content_encoding=encoding)
    provider = connect(max_reply_bytes=LIMIT)
    tracemalloc.start()
    try:
        error = outcome(lambda: provider.get_batch(ONE))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert type(error) is OutcomeUnknown
    assert peak < 8 * LIMIT


def test_a_refusal_in_an_unknown_encoding_keeps_its_status(server: ScriptedServer, provider: BatchApi) -> None:
    """The status line is enough."""
    server.script(answer(b"\x00\x01", 404, content_encoding="br"))
    assert "HTTP 404" in outcome(lambda: provider.get_batch(ONE)).message


# Time


JSON_AND_MORE = UNFRAMED % 200 + b'{"id": "batch_1", "status": "in_progress", "data": []}'
SLOW: dict[str, Reply] = {
    "no headers": trickle(b"", b"H", 0.02),
    "headers": trickle(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n", 0.02),
    "interim replies": trickle(b"", b"HTTP/1.1 102 Processing\r\n\r\n", 0.02),
    "chunks": trickle(CHUNKED % 200, b"1\r\n \r\n", 0.02),
    "an announced body": trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" ", 0.02),
    "a whole value and blanks": trickle(JSON_AND_MORE, b" ", 0.02),
    "a refusal": trickle(CHUNKED % 400, b"1\r\n \r\n", 0.02),
    "a refusal of the account": trickle(UNFRAMED % 401 + b'{"error": {"message": "no"}}', b" ", 0.02),
    "an error": trickle(CHUNKED % 502, b"1\r\n \r\n", 0.02),
}


@pytest.mark.parametrize("reply", SLOW.values(), ids=SLOW.keys())
def test_a_reply_that_trickles_ends_after_the_total_time(
    server: ScriptedServer, connect: Callable[..., BatchApi], shard: Path, reply: Reply
) -> None:
    """This holds wherever the bytes are, in any call; a partial reply is not used, even if it can be parsed."""
    server.otherwise = reply
    provider = connect(total_seconds=SHORT, attempts=1)
    calls = every_call(provider, shard)
    for number in (READ, CREATE) if reply is not SLOW["chunks"] else (READ, CANCEL, UPLOAD, CREATE):
        error = outcome(calls[number])
        assert type(error) is OutcomeUnknown
        assert f"no complete reply within {SHORT} s" in error.message


@pytest.mark.parametrize("reply", [SLOW["no headers"], SLOW["a refusal"]], ids=["headers", "refusal"])
def test_a_download_without_file_bytes_has_the_time_of_a_small_call(
    server: ScriptedServer, connect: Callable[..., BatchApi], shard: Path, reply: Reply
) -> None:
    """The total time of transfers applies to the file's bytes alone."""
    server.choose = lambda seen: reply if seen.path.endswith("/content") else as_json({"id": "file_1"})
    provider = connect(total_seconds=SHORT, transfer_seconds=3_600.0, attempts=1)
    error = outcome(every_call(provider, shard)[DOWNLOAD])
    assert f"no complete reply within {SHORT} s" in error.message


def test_a_trickle_over_tls_ends_too(
    tls_server: ScriptedServer, connect: Callable[..., BatchApi], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The connection is cut below the TLS layer."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    tls_server.script(as_json(BATCH), SLOW["chunks"], SLOW["no headers"], as_json(BATCH))
    provider = connect(base_url=tls_server.base_url, total_seconds=SHORT, attempts=1)
    assert provider.get_batch(ONE).id == ONE
    for _ in range(2):
        assert "no complete reply" in outcome(lambda: provider.get_batch(ONE)).message
    assert provider.get_batch(ONE).id == ONE


def test_each_call_has_its_own_time(server: ScriptedServer, connect: Callable[..., BatchApi]) -> None:
    """A kept-alive connection does not carry the time over to the next call."""
    provider = connect(total_seconds=0.5, attempts=1)
    server.otherwise = after(0.2, as_json(BATCH))
    for _ in range(4):
        provider.get_batch(ONE)
    assert server.connections == 1


def test_a_connection_that_is_idle_is_not_cut(server: ScriptedServer, connect: Callable[..., BatchApi]) -> None:
    """The time of a finished call no longer counts."""
    provider = connect(total_seconds=SHORT, attempts=1)
    server.otherwise = as_json(BATCH)
    provider.get_batch(ONE)
    Event().wait(1.5 * SHORT)
    provider.get_batch(ONE)
    assert server.connections == 1


def test_a_call_that_was_cut_does_not_harm_the_next_one(
    server: ScriptedServer, connect: Callable[..., BatchApi]
) -> None:
    """Its connection is not used again."""
    provider = connect(total_seconds=SHORT, attempts=1)
    server.script(as_json(BATCH), SLOW["chunks"], as_json(BATCH))
    provider.get_batch(ONE)
    outcome(lambda: provider.get_batch(ONE))
    assert provider.get_batch(ONE).id == ONE
    assert server.connections == 2


# Transfers


FILE = b'{"custom_id":"a"}\n' * 100
SLOWEST = LowestSpeed(bytes_per_second=1_000.0, window_seconds=0.1)


def serve(server: ScriptedServer, *contents: Reply, size: int | None = len(FILE)) -> None:
    """Answer requests for the content with one reply each, the last one repeated."""
    replies = list(contents)
    about = as_json({"id": "file_1", "bytes": size})
    server.choose = lambda seen: (
        (replies.pop(0) if len(replies) > 1 else replies[0]) if seen.path.endswith("/content") else about
    )


def transfers(server: ScriptedServer) -> int:
    """Return how often the content was requested."""
    return server.calls().count("GET /files/file_1/content")


FILE_TRICKLES: dict[str, Reply] = {
    "announced": trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 1800\r\n\r\n", b"x", 0.02),
    "chunked": trickle(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.02),
    "until the end": trickle(b"HTTP/1.1 200 OK\r\n\r\n", b"x", 0.02),
}


@pytest.mark.parametrize("reply", FILE_TRICKLES.values(), ids=FILE_TRICKLES.keys())
def test_a_download_that_trickles_is_given_up_at_once(
    server: ScriptedServer, connect: Callable[..., BatchApi], tmp_path: Path, reply: Reply
) -> None:
    """The remaining attempts are left for later, so that nothing waits for them, and no partial file is left."""
    serve(server, reply)
    with pytest.raises(TornDownload, match=r"fewer than 1,000 bytes per second over 0\.1 s came"):
        connect(lowest_speed=SLOWEST, attempts=9, clock=monotonic).download_file(
            FileId("file_1"), tmp_path / "output.jsonl"
        )
    assert transfers(server) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_is_fast_enough_may_take_its_time(
    server: ScriptedServer, connect: Callable[..., BatchApi], tmp_path: Path
) -> None:
    """The speed counts, by the clock that is passed in: here every read of the clock advances it by ten seconds."""
    ticks = count(step=10.0)
    serve(server, answer(FILE * 100), size=len(FILE) * 100)
    provider = connect(lowest_speed=LowestSpeed(1_000.0, 10.0), clock=lambda: next(ticks))
    provider.download_file(FileId("file_1"), tmp_path / "output.jsonl")
    assert transfers(server) == 1


def test_a_download_ends_after_the_total_time_of_transfers(
    server: ScriptedServer, connect: Callable[..., BatchApi], tmp_path: Path
) -> None:
    """This includes downloads that are fast enough all the time, and downloads without an announced end."""
    for reply in (flood(b"HTTP/1.1 200 OK\r\n\r\n", FILE), FILE_TRICKLES["until the end"]):
        serve(server, reply, size=None)
        provider = connect(transfer_seconds=SHORT, attempts=1)
        with pytest.raises(TornDownload, match=r"still going on after 0\.2 s"):
            provider.download_file(FileId("file_1"), tmp_path / "output.jsonl")


def test_bytes_beyond_the_files_size_are_not_fetched(
    server: ScriptedServer, connect: Callable[..., BatchApi], tmp_path: Path
) -> None:
    """An endless body of a file with a known size does not fill the disk."""
    serve(server, flood(b"HTTP/1.1 200 OK\r\n\r\n", FILE))
    with pytest.raises(TornDownload, match=f"the file has {len(FILE):,}"):
        connect().download_file(FileId("file_1"), tmp_path / "output.jsonl")


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "zstd"])
def test_a_file_in_an_unknown_encoding_is_torn(
    server: ScriptedServer, provider: BatchApi, tmp_path: Path, encoding: str
) -> None:
    """A body that cannot be decoded is never kept as the file."""
    serve(server, answer(FILE, content_encoding=encoding), size=None)
    with pytest.raises(TornDownload, match="cannot be read"):
        provider.download_file(FileId("file_1"), tmp_path / "output.jsonl")


def test_a_compressed_file_that_is_cut_is_torn(server: ScriptedServer, provider: BatchApi, tmp_path: Path) -> None:
    """The compressed stream itself marks its end."""
    serve(server, answer(gzip.compress(FILE)[:-9], content_encoding="gzip"), size=None)
    with pytest.raises(TornDownload, match="DecodingError"):
        provider.download_file(FileId("file_1"), tmp_path / "output.jsonl")


def slow_reader(exchange: Exchange) -> None:
    """Read a body a little at a time."""
    while not exchange.stopped.wait(0.05):
        if not exchange.connection.recv(65_536):
            return


def big_shard(folder: Path, megabytes: int) -> Path:
    """Make a shard file that takes no space on the disk."""
    path = folder / "big.jsonl"
    with path.open("wb") as handle:
        handle.truncate(megabytes << 20)
    return path


def test_an_upload_that_trickles_is_given_up_at_once(
    server: ScriptedServer, connect: Callable[..., BatchApi], tmp_path: Path
) -> None:
    """A server that reads far too slowly counts as one that does not answer."""
    server.early = lambda _seen: slow_reader
    provider = connect(
        lowest_speed=LowestSpeed(bytes_per_second=100e6, window_seconds=0.2), attempts=9, clock=monotonic
    )
    with pytest.raises(OutcomeUnknown, match=r"it took fewer than 100,000,000 bytes per second over 0\.2 s"):
        provider.upload_file(big_shard(tmp_path, 30), "big.jsonl")
    assert server.calls() == ["POST /files"]


def test_the_speed_of_an_upload_is_measured_by_the_clock_that_is_passed_in(
    server: ScriptedServer, connect: Callable[..., BatchApi], tmp_path: Path
) -> None:
    """Pieces of 256 kB take ten seconds each: 26 kB per second, of which the first window misses one piece."""
    ticks = count(step=10.0)
    server.otherwise = as_json({"id": "file_1"})

    def speed(bytes_per_second: float) -> dict[str, Any]:
        return {"lowest_speed": LowestSpeed(bytes_per_second, 30.0), "clock": lambda: next(ticks)}

    connect(**speed(17_000.0)).upload_file(big_shard(tmp_path, 2), "big.jsonl")
    with pytest.raises(OutcomeUnknown, match="fewer than 27,000"):
        connect(**speed(27_000.0)).upload_file(big_shard(tmp_path, 2), "big.jsonl")


def test_the_reply_to_an_upload_has_the_time_of_a_small_call(
    server: ScriptedServer, connect: Callable[..., BatchApi], shard: Path
) -> None:
    """The hour is for the file's bytes alone."""
    server.otherwise = SLOW["chunks"]
    provider = connect(total_seconds=SHORT, transfer_seconds=3_600.0, attempts=1)
    assert f"within {SHORT} s" in outcome(lambda: provider.upload_file(shard, "shard.jsonl")).message


def test_silence_within_a_file_is_left_to_the_read_timeout(
    server: ScriptedServer, connect: Callable[..., BatchApi], time: FakeTime, tmp_path: Path
) -> None:
    """It is a torn transfer, repeated like any other."""
    serve(server, sent_then_silence(b"HTTP/1.1 200 OK\r\nContent-Length: 1800\r\n\r\nabc"))
    provider = connect(read_timeout_seconds=0.1, lowest_speed=SLOWEST, attempts=3, clock=monotonic)
    with pytest.raises(TornDownload, match=r"broke off after 3 bytes \(ReadTimeout\)"):
        provider.download_file(FileId("file_1"), tmp_path / "output.jsonl")
    assert transfers(server) == 3
    assert len(time.slept) == 2


def test_a_server_that_is_gone_is_distinguished_from_one_that_trickles(
    server: ScriptedServer, connect: Callable[..., BatchApi]
) -> None:
    """The message says which of the two it is."""
    server.otherwise = hang_up
    assert "no complete reply" not in outcome(lambda: connect().get_batch(ONE)).message
