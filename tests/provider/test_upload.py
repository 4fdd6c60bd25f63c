from __future__ import annotations

import hashlib
import tracemalloc
from email.parser import BytesParser
from email.policy import HTTP
from typing import TYPE_CHECKING

import pytest

from batchkit.errors import OutcomeUnknown, ProviderRefused, SpoolError, TooLarge
from batchkit.models import FileId, RemoteFile
from batchkit.provider.groq.dialect import GROQ

from .server import Seen, answer, as_json, big, hang_up, refusal, reset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchkit.provider.client import BatchApi

    from .conftest import FakeTime
    from .server import ScriptedServer

LINES = '{"custom_id":"\u00e4","body":{"text":"\u2028"}}\n'.encode() * 3
MEGABYTE = 1 << 20


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """Write a small shard file."""
    path = tmp_path / "000001.jsonl"
    path.write_bytes(LINES)
    return path


def uploaded(size: int = len(LINES)) -> dict[str, object]:
    """Return the file object of an upload."""
    return {"id": "file_1", "object": "file", "bytes": size, "created_at": 5, "filename": "d.jsonl", "purpose": "batch"}


def parts(seen: Seen) -> list[tuple[object, str | None, bytes]]:
    """Parse a multipart body into (name, filename, content) with the standard library."""
    head = f"Content-Type: {seen.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + seen.body)
    found: list[tuple[object, str | None, bytes]] = []
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        found.append((part.get_param("name", header="content-disposition"), part.get_filename(), content))
    return found


def test_upload(server: ScriptedServer, provider: BatchApi, shard: Path) -> None:
    """The purpose comes first, then the file under the given name, byte for byte."""
    server.script(as_json(uploaded()))
    assert provider.upload_file(shard, "demo-1.jsonl") == RemoteFile(
        id=FileId("file_1"), filename="d.jsonl", size_bytes=len(LINES), purpose="batch", created_at=5
    )
    assert server.calls() == ["POST /files"]
    assert parts(server.seen[0]) == [("purpose", None, b"batch"), ("file", "demo-1.jsonl", LINES)]


def test_odd_names(server: ScriptedServer, provider: BatchApi, shard: Path) -> None:
    """A name with quotes or line breaks stays within its header."""
    server.script(as_json(uploaded()))
    provider.upload_file(shard, 'a"b\r\nX-Evil: 1\u00e4.jsonl')
    assert b'filename="a%22b%0D%0AX-Evil: 1\xc3\xa4.jsonl"\r\n' in server.seen[0].body


def test_each_attempt_sends_the_whole_file(
    server: ScriptedServer, provider: BatchApi, time: FakeTime, shard: Path
) -> None:
    """A repeated upload starts again at the first byte."""
    server.script(refusal(503), hang_up, as_json(uploaded()))
    assert provider.upload_file(shard, "d.jsonl").id == "file_1"
    assert [parts(seen)[1][2] for seen in server.seen] == [LINES] * 3
    assert len(time.slept) == 2


@pytest.mark.parametrize(("status", "kind"), [(413, TooLarge), (400, ProviderRefused)])
def test_refusals(
    server: ScriptedServer, provider: BatchApi, shard: Path, status: int, kind: type[ProviderRefused]
) -> None:
    """A file that the provider refuses is not sent again."""
    server.otherwise = refusal(status, "File is too large.")
    with pytest.raises(kind, match="File is too large"):
        provider.upload_file(shard, "d.jsonl")
    assert len(server.seen) == 1


def test_early_413(server: ScriptedServer, provider: BatchApi, tmp_path: Path) -> None:
    """The refusal of a gateway that has not read the body is received."""
    path = tmp_path / "big.jsonl"
    path.write_bytes(b"x" * 100_000)
    server.early = lambda _: answer(b"<html>413</html>", 413, content_type="text/html")
    with pytest.raises(TooLarge) as caught:
        provider.upload_file(path, "big.jsonl")
    assert "cut the file smaller" in (caught.value.hint or "")


def test_reset_within_the_body(server: ScriptedServer, provider: BatchApi, tmp_path: Path) -> None:
    """A connection that breaks within the body is retried, then unknown."""
    path = tmp_path / "big.jsonl"
    path.write_bytes(b"x" * 8_000_000)
    server.early = lambda _: reset
    with pytest.raises(OutcomeUnknown):
        provider.upload_file(path, "big.jsonl")
    assert len(server.seen) == 3


@pytest.mark.parametrize("reply", [{}, [], None, {"id": ""}, {"error": {"message": "no"}}])
def test_a_success_without_an_id(server: ScriptedServer, provider: BatchApi, shard: Path, reply: object) -> None:
    """An upload reply without an id is unknown; the caller may upload again."""
    server.script(as_json(reply))
    with pytest.raises(OutcomeUnknown) as caught:
        provider.upload_file(shard, "d.jsonl")
    assert caught.value.hint == "uploading again is safe"


def test_a_file_over_the_limit_is_not_sent(server: ScriptedServer, provider: BatchApi, tmp_path: Path) -> None:
    """More than 200 MB is refused by the client."""
    path = tmp_path / "huge.jsonl"
    with path.open("wb") as handle:
        handle.truncate(GROQ.limits.max_bytes + 1)
    with pytest.raises(TooLarge, match="200,000,001 bytes") as caught:
        provider.upload_file(path, "huge.jsonl")
    assert caught.value.status == 413
    assert server.seen == []


def test_a_file_that_is_gone(server: ScriptedServer, provider: BatchApi, tmp_path: Path) -> None:
    """A missing shard file is a ``SpoolError`` that names it."""
    with pytest.raises(SpoolError, match=r"gone\.jsonl"):
        provider.upload_file(tmp_path / "gone.jsonl", "gone.jsonl")
    assert server.seen == []


def test_a_file_that_cannot_be_read(server: ScriptedServer, provider: BatchApi, tmp_path: Path) -> None:
    """A path that is not a readable file is a ``SpoolError``, and is not retried."""
    with pytest.raises(SpoolError, match="cannot be read"):
        provider.upload_file(tmp_path, "folder.jsonl")
    assert server.seen == []


@pytest.mark.parametrize("size", [25 * MEGABYTE, 35 * MEGABYTE])
def test_a_file_that_changes_while_it_is_sent(
    server: ScriptedServer, connect: Callable[..., BatchApi], tmp_path: Path, size: int
) -> None:
    """A file whose length changes during the upload is refused: shards never change."""
    path = tmp_path / "big.jsonl"
    path.write_bytes(b"x" * 30 * MEGABYTE)

    def change(_seen: Seen) -> None:
        with path.open("r+b") as handle:
            handle.truncate(size)

    server.early = change
    with pytest.raises(SpoolError, match="length changed"):
        connect(write_timeout_seconds=10.0).upload_file(path, "big.jsonl")
    assert server.seen == []


@pytest.mark.parametrize("megabytes", [30, pytest.param(190, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_file(
    server: ScriptedServer, connect: Callable[..., BatchApi], tmp_path: Path, megabytes: int
) -> None:
    """A file of any size is uploaded and downloaded with a few megabytes of memory."""
    size = megabytes * MEGABYTE
    block = bytes(range(256)) * (MEGABYTE // 256)
    digest = hashlib.sha256(block * megabytes).hexdigest()
    path = tmp_path / "big.jsonl"
    with path.open("wb") as handle:
        for _ in range(megabytes):
            handle.write(block)
    content = big(size, block)
    server.choose = lambda seen: content if seen.path.endswith("/content") else as_json(uploaded(size))
    provider = connect(read_timeout_seconds=10.0, write_timeout_seconds=10.0)
    tracemalloc.start()
    try:
        provider.upload_file(path, "big.jsonl")
        download = provider.download_file(FileId("file_1"), tmp_path / "copy.jsonl")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (download.size_bytes, download.sha256) == (size, digest)
    assert server.seen[0].body_bytes > size
    assert peak < 6 * MEGABYTE
