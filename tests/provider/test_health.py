"""The provider's time of day, and the outage that calls are in at the moment.

``time`` is a test clock: its ``sleep`` moves the clock and waits for nothing.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from batchkit.errors import OutcomeUnknown, ProviderError, ProviderUnreachable, RateLimited, TornDownload
from batchkit.models import BatchId, FileId

from .server import answer, as_json, hang_up, raw, refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchkit.models import Trouble
    from batchkit.provider.client import BatchApi

    from .conftest import FakeTime
    from .server import Exchange, Reply, ScriptedServer

BATCH = {"id": "batch_1", "status": "in_progress"}
ONE = BatchId("batch_1")
DATE = "Mon, 01 Jan 2024 00:00:00 GMT"
THEN = 1_704_067_200.0


@pytest.mark.parametrize(
    "reply",
    [as_json(BATCH, date=DATE), refusal(404, date=DATE), refusal(401, date=DATE), answer(b"ok", date=DATE)],
    ids=["success", "404", "401", "not JSON"],
)
def test_every_reply_gives_the_time(
    server: ScriptedServer, connect: Callable[..., BatchApi], time: FakeTime, reply: Reply
) -> None:
    """The provider's time is that of the last reply plus the seconds that have passed since."""
    provider = connect(attempts=1)
    server.script(reply)
    assert provider.now() is None
    with suppress(ProviderError):
        provider.get_batch(ONE)
    assert provider.now() == THEN
    time.sleep(90.5)
    assert provider.now() == THEN + 90.5


@pytest.mark.parametrize("date", ["soon", "", "Mon, 99 Jan 2024 00:00:00 GMT", "1704067200"])
def test_a_date_that_cannot_be_read_changes_nothing(server: ScriptedServer, provider: BatchApi, date: str) -> None:
    """The earlier date still counts."""
    server.script(as_json(BATCH, date=date), as_json(BATCH, date=DATE), as_json(BATCH, date=date), as_json(BATCH))
    provider.get_batch(ONE)
    assert provider.now() is None
    for _ in range(3):
        provider.get_batch(ONE)
        assert provider.now() == THEN


def test_the_wall_clock_of_this_machine_does_not_matter(
    server: ScriptedServer, connect: Callable[..., BatchApi], time: FakeTime
) -> None:
    """The wall clock may be set back at any moment."""
    provider = connect(now=lambda: 0.0)
    server.script(as_json(BATCH, date=DATE))
    provider.get_batch(ONE)
    time.sleep(10)
    assert provider.now() == THEN + 10


def test_trouble_is_known_while_a_call_still_tries(
    server: ScriptedServer, connect: Callable[..., BatchApi], time: FakeTime
) -> None:
    """The trouble is known from the first failed try, with the number of tries, until the API replies."""
    known: list[Trouble | None] = []

    def wait(seconds: float) -> None:
        known.append(provider.trouble())
        time.sleep(seconds)

    provider = connect(sleep=wait, attempts=4)
    began = time.now()
    server.script(hang_up, refusal(503), answer(b"<html>", 502, content_type="text/html"), as_json(BATCH))
    assert provider.trouble() is None
    provider.get_batch(ONE)

    assert provider.trouble() is None
    assert [(trouble.tries, trouble.since) for trouble in known if trouble] == [(1, began), (2, began), (3, began)]
    words = [trouble.what for trouble in known if trouble]
    assert all(text.startswith("the provider does not answer as it should: GET /batches/batch_1: ") for text in words)
    assert "HTTP 503" in words[1]
    assert not any(text.endswith(".") for text in words)


def test_trouble_lasts_from_call_to_call(server: ScriptedServer, provider: BatchApi, time: FakeTime) -> None:
    """Each failed call adds its tries; the start of the trouble stays."""
    began = time.now()
    server.otherwise = hang_up
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            provider.get_batch(ONE)
    trouble = provider.trouble()
    assert trouble is not None
    assert (trouble.since, trouble.tries, trouble.gives_up_at) == (began, 6, None)
    server.otherwise = as_json(BATCH)
    provider.get_batch(ONE)
    assert provider.trouble() is None


def test_a_slow_answer_is_trouble_before_it_fails(
    server: ScriptedServer, connect: Callable[..., BatchApi], time: FakeTime
) -> None:
    """The slow call and its duration are reported; the trouble that follows began with that call."""
    known: list[Trouble | None] = []
    provider = connect(attempts=1, total_seconds=180)
    began = time.now()

    def dawdle(exchange: Exchange) -> None:
        for _ in range(2):
            time.sleep(10)
            known.append(provider.trouble())
        hang_up(exchange)

    server.script(dawdle, as_json(BATCH))
    with pytest.raises(OutcomeUnknown):
        provider.get_batch(ONE)

    assert known[0] is None
    assert known[1] is not None
    assert known[1].what == (
        "the provider has not finished its answer to GET /batches/batch_1: it is waited for up to 180 s"
    )
    assert (known[1].since, known[1].tries) == (began, 1)
    trouble = provider.trouble()
    assert trouble is not None
    assert (trouble.since, trouble.tries) == (began, 1)
    provider.get_batch(ONE)
    assert provider.trouble() is None


def test_a_slow_call_is_no_trouble_while_others_are_answered(
    server: ScriptedServer, connect: Callable[..., BatchApi], time: FakeTime
) -> None:
    """Its waiting time counts from the last answer on."""
    known: list[Trouble | None] = []
    provider = connect(attempts=1)
    began = time.now()

    def dawdle(exchange: Exchange) -> None:
        time.sleep(14)
        provider.get_batch(ONE)
        time.sleep(14)
        known.append(provider.trouble())
        hang_up(exchange)

    server.script(dawdle, as_json(BATCH))
    with pytest.raises(OutcomeUnknown):
        provider.get_batch(ONE)
    assert known == [None]
    trouble = provider.trouble()
    assert trouble is not None
    assert trouble.since == began + 14


def test_an_unreachable_server_is_trouble(connect: Callable[..., BatchApi]) -> None:
    """The message says that the server is unreachable."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    provider = connect(base_url=f"http://127.0.0.1:{port}/openai/v1", attempts=1)
    with pytest.raises(ProviderUnreachable):
        provider.get_batch(ONE)
    trouble = provider.trouble()
    assert trouble is not None
    assert trouble.what.startswith("the provider cannot be reached: GET /batches/batch_1: no connection")


def test_a_rate_limit_is_trouble_while_it_is_waited_out(
    server: ScriptedServer, connect: Callable[..., BatchApi], time: FakeTime
) -> None:
    """A wait that is passed to the caller is an answer of the API."""
    known: list[Trouble | None] = []

    def wait(seconds: float) -> None:
        known.append(provider.trouble())
        time.sleep(seconds)

    provider = connect(sleep=wait)
    server.script(refusal(429, retry_after="20"), refusal(429, retry_after="600"))
    with pytest.raises(RateLimited):
        provider.get_batch(ONE)
    assert [trouble.what.partition(":")[0] for trouble in known if trouble] == ["the provider asks to wait"]
    assert provider.trouble() is None


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 422])
def test_a_refusal_of_the_api_ends_trouble(server: ScriptedServer, provider: BatchApi, status: int) -> None:
    """The API answers, so the trouble is over."""
    server.script(hang_up, refusal(status))
    with suppress(ProviderError):
        provider.get_batch(ONE)
    assert len(server.seen) == 2
    assert provider.trouble() is None


@pytest.mark.parametrize("reply", [answer(b"", 404), answer(b"<html>", 403, content_type="text/html")])
def test_a_refusal_by_something_else_does_not_end_trouble(
    server: ScriptedServer, provider: BatchApi, reply: Reply
) -> None:
    """A gateway that refuses says nothing about the API behind it."""
    server.script(hang_up, reply)
    with suppress(ProviderError):
        provider.get_batch(ONE)
    assert provider.trouble() is not None


def test_a_create_without_an_answer_is_trouble(server: ScriptedServer, provider: BatchApi) -> None:
    """A create is trouble although it is tried only once."""
    server.script(hang_up)
    with pytest.raises(OutcomeUnknown):
        provider.create_batch(
            input_file_id=FileId("file_1"), endpoint="/v1/chat/completions", window="24h", metadata={}
        )
    trouble = provider.trouble()
    assert trouble is not None
    assert trouble.tries == 1


def test_torn_downloads_are_counted_and_a_complete_one_ends_the_trouble(
    server: ScriptedServer, connect: Callable[..., BatchApi], time: FakeTime, tmp_path: Path
) -> None:
    """Headers alone do not count as a file."""
    known: list[Trouble | None] = []

    def wait(seconds: float) -> None:
        known.append(provider.trouble())
        time.sleep(seconds)

    provider = connect(sleep=wait)
    torn = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    server.script(as_json({"id": "file_1", "bytes": 9}), torn, torn, answer(b"123456789"))
    provider.download_file(FileId("file_1"), tmp_path / "output.jsonl")
    assert [trouble.tries for trouble in known if trouble] == [1, 2]
    assert "is not complete" in (known[0].what if known[0] else "")
    assert provider.trouble() is None

    server.script(as_json({"id": "file_1", "bytes": 9}), torn, torn, torn)
    with pytest.raises(TornDownload):
        provider.download_file(FileId("file_1"), tmp_path / "output.jsonl")
    assert provider.trouble() is not None


def test_deleting_and_uploading_end_trouble(server: ScriptedServer, provider: BatchApi, tmp_path: Path) -> None:
    """A success of any kind of call ends the trouble."""
    (tmp_path / "shard.jsonl").write_bytes(b"{}\n")

    def nothing(exchange: Exchange) -> None:
        exchange.connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    server.script(hang_up, nothing, hang_up, as_json({"id": "file_2"}))
    provider.delete_file(FileId("file_1"))
    assert provider.trouble() is None
    provider.upload_file(tmp_path / "shard.jsonl", "shard.jsonl")
    assert provider.trouble() is None
