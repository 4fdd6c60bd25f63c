"""Together and Mistral: calls in a shape of their own over the same client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batchkit.errors import ListingIncomplete, ProviderRefused
from batchkit.models import BatchId, BatchStatus, FileId, RequestCounts
from batchkit.provider.dialects import dialect_named

from .server import as_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchkit.provider.client import BatchApi

    from .server import Reply, ScriptedServer

CREATION: dict[str, Any] = {"input_file_id": FileId("file_1"), "endpoint": "/v1/chat/completions", "window": "48h"}


@pytest.fixture
def of(connect: Callable[..., BatchApi]) -> Callable[[str], BatchApi]:
    """Return a function that connects to a server of a provider."""
    return lambda name: connect(dialect=dialect_named(name))


def jobs(*numbers: int, **members: Any) -> Reply:
    """Answer with one page of Mistral's list."""
    return as_json({"object": "list", "data": [{"id": f"job_{number}"} for number in numbers], **members})


def test_a_job_of_together_is_unwrapped_and_read(
    server: ScriptedServer, of: Callable[[str], BatchApi], tmp_path: Path
) -> None:
    """States in upper case, ISO times, one sentence as error, no counts; the upload names its file."""
    job = {
        "id": "one",
        "status": "FAILED",
        "input_file_id": "file_1",
        "created_at": "2026-11-29T10:00:00Z",
        "job_deadline": "2026-11-30T10:00:00Z",
        "progress": 40.5,
        "error": "line 3: no such model",
    }
    server.script(as_json({"id": "file_1"}), as_json({"job": job, "warning": "slow"}))
    provider, path = of("together"), tmp_path / "shard.jsonl"
    path.write_bytes(b"{}\n")
    provider.upload_file(path, "shard.jsonl")
    made = provider.create_batch(**CREATION, metadata={"batchkit_key": "abc"}, model="m")
    assert server.seen[0].path.endswith("/files/upload")
    assert all(part in server.seen[0].body for part in (b"batch-api", b'name="file_name"', b"jsonl"))
    assert "metadata" not in server.seen[1].json
    assert (made.id, made.status, made.input_file_id, made.counts) == ("one", "failed", "file_1", RequestCounts())
    assert (made.created_at, made.expires_at) == (1_795_946_400, 1_796_032_800)
    assert [problem.message for problem in made.problems] == ["line 3: no such model"]


def test_a_bare_list_is_the_whole_list(server: ScriptedServer, of: Callable[[str], BatchApi]) -> None:
    """One call reads it; one that says that there is more cannot be read to its end."""
    server.script(as_json([{"id": "one"}, {"id": "two"}]), as_json({"data": [{"id": "one"}], "has_more": True}))
    assert [batch.id for batch in of("together").list_batches()] == ["one", "two"]
    assert server.seen[0].query == []
    with pytest.raises(ListingIncomplete, match="does not say how to ask"):
        list(of("together").list_batches())


def test_a_job_of_mistral_has_its_model_and_its_hours(server: ScriptedServer, of: Callable[[str], BatchApi]) -> None:
    """Its own names of files and counts, and errors that name no line."""
    job = {
        "id": "one",
        "status": "TIMEOUT_EXCEEDED",
        "input_files": ["file_1"],
        "output_file": "file_2",
        "error_file": None,
        "errors": [{"message": "bad", "count": 3}],
        "total_requests": 9,
        "succeeded_requests": 5,
        "failed_requests": 1,
        "metadata": {"batchkit_key": "abc"},
    }
    server.script(as_json(job), as_json(job))
    made = of("mistral").create_batch(**CREATION, metadata={"batchkit_key": "abc"}, model="small")
    assert server.seen[0].path.endswith("/batch/jobs")
    assert server.seen[0].json == {
        "endpoint": "/v1/chat/completions",
        "input_files": ["file_1"],
        "model": "small",
        "timeout_hours": 48,
        "metadata": {"batchkit_key": "abc"},
    }
    assert (made.status, made.input_file_id, made.output_file_id) == (BatchStatus.EXPIRED, "file_1", "file_2")
    assert (made.counts, made.metadata) == (RequestCounts(9, 5, 1), {"batchkit_key": "abc"})
    assert [problem.message for problem in made.problems] == ["bad"]
    of("mistral").cancel_batch(BatchId("one"))
    assert server.seen[1].path.endswith("/batch/jobs/one/cancel")


@pytest.mark.parametrize(
    ("pages", "found"),
    [
        ([jobs(3, 2, total=3), jobs(1, total=3)], 3),
        ([jobs(3, 2), jobs(1), jobs()], 3),
        ([jobs(total=2), jobs(2, 1, total=2)], 2),
        ([jobs(3, 2, total=3), jobs(2, total=3), jobs(1, total=3)], 3),
        ([jobs(1, total=0), jobs(total=0)], 1),
        ([jobs(*range(100), total=100), jobs(100, total=101)], 101),
    ],
)
def test_numbered_pages_end_at_the_total_or_with_an_empty_page(
    server: ScriptedServer, of: Callable[[str], BatchApi], pages: list[Reply], found: int
) -> None:
    """A server may give fewer entries than were asked for, so a short page ends nothing."""
    server.script(*pages)
    assert len(list(of("mistral").list_batches())) == found
    assert [dict(seen.query).get("page") for seen in server.seen] == [None, "1", "2"][: len(pages)]
    assert all(dict(seen.query)["page_size"] == "100" for seen in server.seen)


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        ([jobs(3, 2), jobs(3, 2)], "same page again"),
        ([jobs(3, 2, total=5), jobs(total=5)], "has 5 entries, but shows 2"),
    ],
)
def test_numbered_pages_that_do_not_add_up_are_no_list(
    server: ScriptedServer, of: Callable[[str], BatchApi], pages: list[Reply], reason: str
) -> None:
    """A server that ignores the number, or shows fewer jobs than it has, proves nothing."""
    server.script(*pages)
    with pytest.raises(ListingIncomplete, match=reason):
        list(of("mistral").list_batches())


def test_a_body_that_the_framework_refuses_is_explained(server: ScriptedServer, of: Callable[[str], BatchApi]) -> None:
    """FastAPI's ``detail`` lists what is wrong and where."""
    problem = {"type": "int_range", "loc": ["body", "timeout_hours"], "msg": "Input should be at most 168"}
    server.script(as_json({"detail": [problem]}, 422))
    with pytest.raises(ProviderRefused, match="Input should be at most 168") as caught:
        of("mistral").create_batch(**CREATION, metadata={}, model="small")
    assert (caught.value.param, caught.value.type) == ("timeout_hours", "int_range")
