"""A call that is answered by something other than the API says so, and proves nothing about batches and files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batchkit.errors import OutcomeUnknown, ProviderError, ProviderUnreachable
from batchkit.models import BatchId, FileId

from .server import answer, refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchkit.provider.client import BatchApi

    from .conftest import FakeTime
    from .server import Reply, ScriptedServer

ONE = BatchId("batch_1")
HINT = "check the base URL (BATCHKIT_BASE_URL)"
UNKNOWN_URL = refusal(404, "Unknown request URL: POST /v1/files", "unknown_url")


def page(status: int) -> Reply:
    """Return a reply with an HTML page."""
    return answer(b"<html>Not here</html>", status, content_type="text/html")


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """Write a small shard file."""
    path = tmp_path / "shard.jsonl"
    path.write_bytes(b"{}\n")
    return path


def create(provider: BatchApi) -> object:
    """Create a batch."""
    return provider.create_batch(input_file_id=FileId("f"), endpoint="/v1", window="24h", metadata={})


CERTAIN = [UNKNOWN_URL, refusal(405, "Method Not Allowed")]
DOUBTFUL = [page(404), page(405), page(200), page(400), answer(b"", 405), answer(b"nope", 405)]


@pytest.mark.parametrize("reply", [*CERTAIN, *DOUBTFUL[:2], answer(b"", 405)])
def test_an_upload_names_the_base_url_at_once(
    server: ScriptedServer, provider: BatchApi, time: FakeTime, shard: Path, reply: Reply
) -> None:
    """The error is an outage, never a refusal of the file, and the upload is not repeated."""
    server.otherwise = reply
    with pytest.raises((OutcomeUnknown, ProviderUnreachable)) as caught:
        provider.upload_file(shard, "shard.jsonl")
    assert HINT in (caught.value.hint or "")
    assert len(server.seen) == 1
    assert time.slept == []


def test_an_upload_that_is_answered_by_a_page_is_retried(
    server: ScriptedServer, provider: BatchApi, shard: Path
) -> None:
    """A page with a success status may be a gateway's mistake; the last error names the base URL."""
    server.otherwise = page(200)
    with pytest.raises(OutcomeUnknown) as caught:
        provider.upload_file(shard, "shard.jsonl")
    assert HINT in (caught.value.hint or "")
    assert len(server.seen) == 3


@pytest.mark.parametrize("reply", CERTAIN)
def test_a_create_under_an_unknown_path_bought_nothing(
    server: ScriptedServer, provider: BatchApi, reply: Reply
) -> None:
    """The error object proves it; it is no refusal of the batch."""
    server.otherwise = reply
    with pytest.raises(ProviderUnreachable) as caught:
        create(provider)
    assert HINT in (caught.value.hint or "")


@pytest.mark.parametrize("reply", DOUBTFUL)
def test_a_create_that_a_page_answers_stays_unknown(server: ScriptedServer, provider: BatchApi, reply: Reply) -> None:
    """A gateway may replace the reply after the creation: the batch is searched for first, then the base URL is named."""
    server.otherwise = reply
    with pytest.raises(OutcomeUnknown) as caught:
        create(provider)
    assert type(caught.value) is OutcomeUnknown
    assert "never by sending it again" in (caught.value.hint or "")
    assert HINT in (caught.value.hint or "")
    assert len(server.seen) == 1


@pytest.mark.parametrize("reply", [UNKNOWN_URL, page(404), page(410)])
def test_a_wrong_address_is_no_proof_that_something_is_gone(
    server: ScriptedServer, provider: BatchApi, tmp_path: Path, reply: Reply
) -> None:
    """No batch counts as missing, and no file as gone or deleted: all of them may exist behind the right address."""
    server.otherwise = reply
    calls: list[Callable[[], object]] = [
        lambda: provider.get_batch(ONE),
        lambda: provider.cancel_batch(ONE),
        lambda: provider.delete_file(FileId("file_1")),
        lambda: provider.download_file(FileId("file_1"), tmp_path / "output.jsonl"),
    ]
    for call in calls:
        with pytest.raises(ProviderError) as caught:
            call()
        assert type(caught.value) in {ProviderUnreachable, OutcomeUnknown}
        assert HINT in (caught.value.hint or "")
