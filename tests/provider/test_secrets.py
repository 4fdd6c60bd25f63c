from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from batchkit.errors import BatchkitError, ConfigurationError, ProviderError
from batchkit.models import BatchId, FileId
from batchkit.provider.client import BatchApi
from batchkit.provider.failures import Quoter
from batchkit.provider.groq.dialect import GROQ

from .conftest import KEY, short_read_timeout
from .server import ScriptedServer, Seen, answer, as_json, hang_up, raw, refusal, reset, silence

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .server import Reply

HALF = KEY[:20]


def everything(error: BaseException) -> str:
    """Return the text of an exception and its chain, with the local variables of the package and of the libraries it uses."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    # The frames of the tests hold the key themselves.
    for link in _links(shown):
        link.stack = traceback.StackSummary.from_list(
            [frame for frame in link.stack if "/tests/provider/" not in frame.filename]
        )
    hint = error.hint if isinstance(error, BatchkitError) else ""
    return "".join(shown.format()) + repr(error) + repr(vars(error)) + str(hint)


def _links(shown: traceback.TracebackException | None) -> list[traceback.TracebackException]:
    if shown is None:
        return []
    return [shown, *_links(shown.__cause__), *_links(shown.__context__)]


def echoing(status: int) -> Callable[[Seen], Reply]:
    """Answer with the whole request, as a careless server or proxy would."""

    def choose(seen: Seen) -> Reply:
        words = f"Incorrect API key provided: {seen.headers['authorization']}"
        return refusal(status, words, KEY, x_request_id=KEY)

    return choose


REPLIES: dict[str, Reply | Callable[[Seen], Reply]] = {
    "echo 401": echoing(401),
    "echo 429": echoing(429),
    "echo 500": echoing(500),
    "echo as text": answer(f"Bearer {KEY}".encode(), 403),
    "echo late": answer(b"a " * 140 + KEY.encode(), 400),
    "echo behind a long run": answer(b"a" * 5_000 + b" " + KEY.encode(), 400),
    "echo as success": answer(f"Bearer {KEY}".encode()),
    "echo in a redirect": answer(b"", 302, location=f"https://other.example/{KEY}?key={KEY}"),
    "echo as a protocol error": raw(f"HTTP/1.1 2x0 {KEY}\r\n\r\n".encode()),
    "hung up": hang_up,
    "reset": reset,
    "silence": silence,
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES.keys())
def test_the_key_shows_up_nowhere(
    server: ScriptedServer,
    connect: Callable[..., BatchApi],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    reply: Any,
) -> None:
    """The key is in no message, hint, code, traceback with variables, or log of any library at DEBUG."""
    if reply in (hang_up, reset, silence) or "echoing" not in reply.__qualname__:
        server.otherwise = reply
    else:
        server.choose = reply
    shard = tmp_path / "shard.jsonl"
    shard.write_bytes(b"{}\n")
    provider = connect(attempts=1 if reply is silence else 2, **short_read_timeout(reply))
    calls = [
        lambda: provider.get_batch(BatchId("batch_1")),
        lambda: list(provider.list_batches()),
        lambda: provider.upload_file(shard, "shard.jsonl"),
        lambda: provider.download_file(FileId("file_1"), tmp_path / "output.jsonl"),
        lambda: provider.create_batch(input_file_id=FileId("f"), endpoint="/v1", window="24h", metadata={}),
    ]
    caplog.set_level(logging.DEBUG)
    shown = []
    for call in calls:
        try:
            call()
        except ProviderError as error:
            shown.append(everything(error))
    assert shown
    assert not [text for text in shown if HALF in text]
    assert all(seen.headers["authorization"] == f"Bearer {KEY}" for seen in server.seen)
    assert KEY not in "".join(seen.target + seen.body.decode(errors="replace") for seen in server.seen)
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("batchkit"))
    assert "GET /batches/batch_1 -> " in logged
    assert HALF not in logged


def test_debug_logs_of_every_library(
    server: ScriptedServer, provider: BatchApi, caplog: pytest.LogCaptureFixture
) -> None:
    """With all loggers at DEBUG, no line has the key; our lines have method, path, status, time and request id."""
    server.script(as_json({"id": "batch_1"}, x_request_id="req_01"))
    caplog.set_level(logging.DEBUG)
    provider.get_batch(BatchId("batch_1"))
    ours = [record.getMessage() for record in caplog.records if record.name == "batchkit.provider.http"]
    assert ours == ["GET /batches/batch_1 -> 200 in 0.000 s, x-request-id req_01"]
    assert len(caplog.records) > 5
    assert HALF not in caplog.text


def test_reprs(provider: BatchApi) -> None:
    """The objects that hold the key do not show it."""
    shown = repr(provider) + repr(provider.http) + repr(vars(provider.http)) + repr(vars(provider.http._connections))
    assert "127.0.0.1" in shown
    assert HALF not in shown


BAD_KEYS = ["", "  ", f"{KEY}\nX-Evil: 1", f"{KEY} {KEY}", f"{KEY}\u00e4", f"\u201c{KEY}\u201d", f"{KEY}\x00"]


@pytest.mark.parametrize("key", BAD_KEYS)
@pytest.mark.parametrize("wrap", [str, SecretStr])
def test_a_key_that_cannot_be_a_header(key: str, wrap: Callable[[str], Any]) -> None:
    """A key that is not a valid header value is refused before it is used, and not quoted."""
    with pytest.raises(ConfigurationError) as caught:
        BatchApi(GROQ, api_key=wrap(key))
    assert HALF not in str(caught.value) + repr(caught.value) + str(caught.value.hint)


def test_blanks_around_the_key(server: ScriptedServer, connect: Callable[..., BatchApi]) -> None:
    """A trailing line break of the key is dropped."""
    server.script(as_json({"id": "batch_1"}))
    connect(api_key=f" {KEY}\n").get_batch(BatchId("batch_1"))
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_short_secrets_do_not_redact_words() -> None:
    """A key of a few characters (of a local server) is not redacted: the redaction would hit ordinary words."""
    assert Quoter("a")("a plain message") == "a plain message"
    assert Quoter(KEY)(f"with {KEY} inside") == "with [key] inside"
    assert Quoter(KEY).optional(None) is None
    assert KEY not in repr(Quoter(KEY))
