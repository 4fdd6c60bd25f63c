from __future__ import annotations

import errno
import gzip
import hashlib
import os
import stat
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batchkit.errors import (
    NotFound,
    OutcomeUnknown,
    ProviderRefused,
    ProviderUnreachable,
    RateLimited,
    SpoolError,
    TornDownload,
    Unauthorized,
)
from batchkit.models import Download, FileId
from batchkit.provider.atomic_download import AtomicDownload

from .conftest import short_read_timeout
from .server import Reply, answer, as_json, hang_up, raw, refusal, sent_then_silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.provider.client import BatchApi

    from .conftest import FakeTime
    from .server import ScriptedServer

BODY = b'{"custom_id":"a","response":{"status_code":200}}\n' * 50
OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = answer(BODY, content_type="application/octet-stream")
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%b\r\n" % (len(BODY), BODY)
UNFRAMED = OK + b"Connection: close\r\n\r\n"


def file_object(size: object = len(BODY)) -> Reply:
    """Answer with the file object."""
    return as_json({"id": "file_1", "object": "file", "bytes": size, "filename": "o.jsonl", "purpose": "batch_output"})


def serve(server: ScriptedServer, *contents: Reply, about: Reply | None = None) -> None:
    """Answer calls for the file object with ``about``, and those for its content with one reply each, the last one repeated."""
    replies = chain(contents, repeat(contents[-1]))
    info = about or file_object()
    server.choose = lambda seen: next(replies) if seen.path.endswith("/content") else info


def fetch(provider: BatchApi, folder: Path) -> Download:
    """Download the file of these tests."""
    return provider.download_file(FileId("file_1"), folder / "output.jsonl")


def transfers(server: ScriptedServer) -> int:
    """Return how often the content was requested."""
    return server.calls().count("GET /files/file_1/content")


def test_whole_file(server: ScriptedServer, provider: BatchApi, tmp_path: Path) -> None:
    """The file is in place with its size and digest, and no other file is left."""
    serve(server, WHOLE)
    download = fetch(provider, tmp_path)
    assert download == Download(tmp_path / "output.jsonl", len(BODY), hashlib.sha256(BODY).hexdigest())
    assert download.path.read_bytes() == BODY
    assert list(tmp_path.iterdir()) == [download.path]
    assert server.calls() == ["GET /files/file_1", "GET /files/file_1/content"]
    assert server.seen[1].headers["accept-encoding"] == "identity"


def test_an_older_file_is_replaced(server: ScriptedServer, provider: BatchApi, tmp_path: Path) -> None:
    """The new file replaces an older one."""
    (tmp_path / "output.jsonl").write_bytes(b"old")
    serve(server, WHOLE)
    assert fetch(provider, tmp_path).path.read_bytes() == BODY


TORN: dict[str, Reply] = {
    "Content-Length not reached": raw(OK + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[:-7]),
    "reset within": raw(OK + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[:99], reset=True),
    "chunks without end": raw(CHUNKED),
    "chunk cut": raw(CHUNKED[:-99]),
    "closed early, no length": raw(UNFRAMED + BODY[:-7]),
    "closed at a line's end, no length": raw(UNFRAMED + BODY[: len(BODY) // 50 * 40]),
    "stalled": sent_then_silence(OK + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[:99]),
    "length of a shorter file": answer(BODY[:-7]),
    "longer than the file": answer(BODY + BODY),
    "nothing, whole": answer(b""),
    "a page": answer(BODY, content_type="text/html"),
    "partial content": answer(BODY, 206),
    "no content": answer(b"", 204),
    "broken compression": raw(OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
}


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN.keys())
def test_a_torn_transfer_is_repeated(
    server: ScriptedServer, connect: Callable[..., BatchApi], tmp_path: Path, torn: Reply
) -> None:
    """A body with fewer, more or other bytes than announced is fetched again from the start."""
    serve(server, torn, WHOLE)
    assert fetch(connect(**short_read_timeout(torn)), tmp_path).path.read_bytes() == BODY
    assert transfers(server) == 2


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN.keys())
def test_a_file_that_stays_torn(
    server: ScriptedServer, connect: Callable[..., BatchApi], tmp_path: Path, torn: Reply
) -> None:
    """After all attempts the error is ``TornDownload``; an older file stays and no partial file is left."""
    (tmp_path / "output.jsonl").write_bytes(b"old")
    serve(server, torn)
    with pytest.raises(TornDownload) as caught:
        fetch(connect(**short_read_timeout(torn)), tmp_path)
    assert "GET /files/file_1/content" in caught.value.message
    assert transfers(server) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["output.jsonl"]
    assert (tmp_path / "output.jsonl").read_bytes() == b"old"


SILENT_INFO: dict[str, Reply] = {
    "null": file_object(None),
    "absent": as_json({"id": "file_1"}),
    "zero": file_object(0),
    "no file object": as_json({}),
    "not implemented": refusal(405),
    "404": refusal(404),
    "forbidden": refusal(403),
}


@pytest.mark.parametrize("about", SILENT_INFO.values(), ids=SILENT_INFO.keys())
@pytest.mark.parametrize("content", [WHOLE, raw(CHUNKED + b"0\r\n\r\n"), raw(UNFRAMED + BODY)])
def test_a_missing_size(
    server: ScriptedServer, provider: BatchApi, tmp_path: Path, about: Reply, content: Reply
) -> None:
    """A file whose size the provider does not state is fetched anyway."""
    serve(server, content, about=about)
    assert fetch(provider, tmp_path).size_bytes == len(BODY)


def test_an_unread_size_needs_a_framed_body(server: ScriptedServer, provider: BatchApi, tmp_path: Path) -> None:
    """While the file object cannot be read, a body that ends with the connection is not trusted."""
    serve(server, raw(UNFRAMED + BODY), WHOLE, about=refusal(500))
    assert fetch(provider, tmp_path).size_bytes == len(BODY)
    assert transfers(server) == 2
    serve(server, raw(UNFRAMED + BODY), about=refusal(500))
    with pytest.raises(TornDownload, match="length is not known"):
        fetch(provider, tmp_path)


@pytest.mark.parametrize(
    ("content", "about"),
    [
        (answer(b""), file_object(0)),
        (answer(b""), file_object(None)),
        (answer(b""), refusal(404)),
        (raw(UNFRAMED), file_object(0)),
        (raw(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), file_object(0)),
    ],
)
def test_an_empty_file(
    server: ScriptedServer, provider: BatchApi, tmp_path: Path, content: Reply, about: Reply
) -> None:
    """A file without bytes is complete when its object or its Content-Length says so."""
    serve(server, content, about=about)
    download = fetch(provider, tmp_path)
    assert (download.size_bytes, download.path.read_bytes()) == (0, b"")
    assert download.sha256 == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("content", [raw(UNFRAMED), raw(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")])
def test_an_unannounced_empty_body_is_torn(
    server: ScriptedServer, provider: BatchApi, tmp_path: Path, content: Reply
) -> None:
    """A body without bytes, a size or a Content-Length is a torn transfer."""
    serve(server, content, about=file_object(None))
    with pytest.raises(TornDownload, match="nothing came"):
        fetch(provider, tmp_path)


def test_an_encoded_body_is_decoded(server: ScriptedServer, provider: BatchApi, tmp_path: Path) -> None:
    """A server that compresses unasked is understood; the size of the decoded file counts."""
    serve(server, answer(gzip.compress(BODY), content_encoding="gzip"))
    assert fetch(provider, tmp_path).path.read_bytes() == BODY


@pytest.mark.parametrize(
    ("content", "kind", "calls"),
    [
        (refusal(404), NotFound, 1),
        (refusal(410), NotFound, 1),
        (refusal(401), Unauthorized, 1),
        (refusal(429, retry_after="900"), RateLimited, 1),
        (answer(b"", 302, location="https://storage.example/file"), ProviderRefused, 1),
        (refusal(503), OutcomeUnknown, 3),
        (hang_up, OutcomeUnknown, 3),
    ],
)
def test_refusals(
    server: ScriptedServer,
    provider: BatchApi,
    tmp_path: Path,
    *,
    content: Reply,
    kind: type[Exception],
    calls: int,
) -> None:
    """A refusal is no torn transfer, and leaves no partial file."""
    serve(server, content)
    with pytest.raises(kind) as caught:
        fetch(provider, tmp_path)
    assert type(caught.value) is kind
    assert transfers(server) == calls
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("about", [refusal(401), refusal(429, retry_after="900")])
def test_a_refused_key_is_not_tried_on_the_content(
    server: ScriptedServer, provider: BatchApi, tmp_path: Path, about: Reply
) -> None:
    """When the key or the rate is refused, the content would be refused too."""
    serve(server, WHOLE, about=about)
    with pytest.raises((Unauthorized, RateLimited)):
        fetch(provider, tmp_path)
    assert transfers(server) == 0


def test_unreachable(connect: Callable[..., BatchApi], tmp_path: Path) -> None:
    """Without a connection, nothing counts as torn."""
    with pytest.raises(ProviderUnreachable):
        fetch(connect(base_url="http://127.0.0.1:1/v1"), tmp_path)


def test_total_time_of_transfers_is_their_own(
    server: ScriptedServer, connect: Callable[..., BatchApi], time: FakeTime, tmp_path: Path
) -> None:
    """A transfer may be repeated long after a small call would have been given up."""
    serve(server, raw(UNFRAMED + BODY[:1]), WHOLE)
    assert fetch(connect(total_seconds=0.1), tmp_path).size_bytes == len(BODY)
    assert time.slept == [0.5]


def raising(code: int) -> Callable[..., Any]:
    """Return a function that fails with a disk's error code."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "read-only"), (errno.EIO, "check the disk")]
)
@pytest.mark.parametrize("function", ["fsync", "open"])
def test_a_full_disk_is_not_the_providers_fault(
    server: ScriptedServer,
    provider: BatchApi,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    code: int,
    words: str,
    function: str,
) -> None:
    """A disk error is a ``SpoolError`` with the next step; the file is not fetched again, and no partial file stays."""
    serve(server, WHOLE)
    monkeypatch.setattr(f"batchkit.provider.atomic_download.os.{function}", raising(code))
    with pytest.raises(SpoolError) as caught:
        fetch(provider, tmp_path)
    assert words in (caught.value.hint or "")
    assert str(tmp_path / "output.jsonl") in caught.value.message
    assert transfers(server) == 1
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("size_bytes", [1_000, 20 << 20], ids=["at the end", "on the way"])
def test_a_disk_that_fills_up_while_writing(
    server: ScriptedServer, provider: BatchApi, tmp_path: Path, size_bytes: int
) -> None:
    """Bytes that do not fit are a ``SpoolError`` too, whichever thread writes them; /dev/full acts like a full disk."""

    class FullDisk(AtomicDownload):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self._handle.close()
            self._handle = Path("/dev/full").open("wb")  # noqa: SIM115 - closed by the download itself

    serve(server, answer(b"x" * size_bytes), about=file_object(None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchkit.provider.http.AtomicDownload", FullDisk)
        with pytest.raises(SpoolError, match="No space left"):
            fetch(provider, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone(server: ScriptedServer, provider: BatchApi, tmp_path: Path) -> None:
    """A missing folder is named, not created: the spool may just not be mounted."""
    serve(server, WHOLE)
    with pytest.raises(SpoolError, match="No such file") as caught:
        fetch(provider, tmp_path / "gone")
    assert "folder is gone" in (caught.value.hint or "")


def test_file_systems_without_folder_sync(
    server: ScriptedServer, provider: BatchApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that cannot be synced (on some network file systems) does not invalidate a synced file."""
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real_fsync(descriptor)

    serve(server, WHOLE)
    monkeypatch.setattr("batchkit.provider.atomic_download.os.fsync", fsync)
    assert fetch(provider, tmp_path).size_bytes == len(BODY)


def test_bytes_are_synced_before_their_name(
    server: ScriptedServer, provider: BatchApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are on disk before the name points to them; then the name is synced too."""
    synced: list[tuple[bool, int, bool]] = []
    place = tmp_path / "output.jsonl"

    def fsync(descriptor: int) -> None:
        about = os.fstat(descriptor)
        is_folder = stat.S_ISDIR(about.st_mode)
        synced.append((is_folder, 0 if is_folder else about.st_size, place.exists()))

    serve(server, WHOLE)
    monkeypatch.setattr("batchkit.provider.atomic_download.os.fsync", fsync)
    fetch(provider, tmp_path)
    assert synced == [(False, len(BODY), False), (True, 0, True)]


def test_a_folder_that_cannot_be_synced(
    server: ScriptedServer, provider: BatchApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that may not survive a power cut is not reported as downloaded."""
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        real_fsync(descriptor)

    serve(server, WHOLE)
    monkeypatch.setattr("batchkit.provider.atomic_download.os.fsync", fsync)
    with pytest.raises(SpoolError, match="Input/output error"):
        fetch(provider, tmp_path)


def test_two_downloads_to_one_place(tmp_path: Path) -> None:
    """Two runners that fetch the same file do not write into each other's partial file."""
    with AtomicDownload(tmp_path / "output.jsonl") as first, AtomicDownload(tmp_path / "output.jsonl") as second:
        first.write(b"first, longer")
        second.write(b"second")
        assert second.commit().path.read_bytes() == b"second"
        first.commit()
    assert (tmp_path / "output.jsonl").read_bytes() == b"first, longer"
    assert [path.name for path in tmp_path.iterdir()] == ["output.jsonl"]
