from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batchkit.errors import NotFound, OutcomeUnknown, ProviderRefused, Unauthorized
from batchkit.models import BatchId, FileId, RemoteModel
from batchkit.provider.groq.dialect import GROQ

from .server import answer, as_json, hang_up, refusal

if TYPE_CHECKING:
    from batchkit.provider.client import BatchApi

    from .server import ScriptedServer


def batch(number: int, status: str = "in_progress") -> dict[str, Any]:
    """Return a batch object."""
    return {"id": f"batch_{number}", "object": "batch", "status": status}


def batch_ids(amount: int) -> list[BatchId]:
    """Return the ids of some batches, numbered from 0."""
    return [BatchId(f"batch_{number}") for number in range(amount)]


def test_limits_are_the_documented_ones() -> None:
    """50,000 lines, 200 MB, 200 ids in one call (console.groq.com/docs/batch)."""
    assert (GROQ.limits.max_lines, GROQ.limits.max_bytes, GROQ.api.ids_per_status_call) == (50_000, 200_000_000, 200)


def test_two_hundred_ids_in_one_call(server: ScriptedServer, provider: BatchApi) -> None:
    """The ids are sent as ``id=A&id=B`` in one GET; the order of the reply does not matter."""
    server.script(as_json({"data": [batch(number) for number in reversed(range(200))]}))
    found = provider.get_batches(batch_ids(200))
    (seen,) = server.seen
    assert seen.query == [("id", f"batch_{number}") for number in range(200)]
    assert "&id=batch_1&" in seen.target
    assert list(found) == batch_ids(200)


def test_unknown_ids_are_left_out(server: ScriptedServer, provider: BatchApi) -> None:
    """Unknown ids are missing from the result; unrequested batches and unreadable entries are dropped."""
    server.script(as_json({"data": [batch(7), batch(1), None, {"status": "completed"}, "batch_0"]}))
    assert list(provider.get_batches(batch_ids(3))) == ["batch_1"]


def test_no_ids_cause_no_call(server: ScriptedServer, provider: BatchApi) -> None:
    """An empty list of ids does not list the account."""
    assert provider.get_batches([]) == {}
    assert server.seen == []


def test_repeated_ids_are_requested_once(server: ScriptedServer, provider: BatchApi) -> None:
    """An id that is given twice is sent once."""
    server.script(as_json({"data": [batch(0)]}))
    assert list(provider.get_batches(batch_ids(1) * 300)) == ["batch_0"]
    assert server.seen[0].query == [("id", "batch_0")]


def test_more_ids_than_the_limit_are_a_mistake(server: ScriptedServer, provider: BatchApi) -> None:
    """201 ids are refused by the client: Groq's handling of them is not documented."""
    with pytest.raises(ValueError, match="201 ids"):
        provider.get_batches(batch_ids(201))
    assert server.seen == []


def test_a_paged_answer_is_followed(server: ScriptedServer, provider: BatchApi) -> None:
    """If the answer comes in pages, they are read while they contain requested batches."""
    server.script(
        as_json({"data": [batch(0)], "paging": {"next_cursor": "a"}}),
        as_json({"data": [batch(1)], "paging": {"next_cursor": "b"}}),
        as_json({"data": [batch(8)], "paging": {"next_cursor": "c"}}),
    )
    assert list(provider.get_batches(batch_ids(3))) == ["batch_0", "batch_1"]
    assert server.seen[1].query == [("id", "batch_0"), ("id", "batch_1"), ("id", "batch_2"), ("cursor", "a")]
    assert len(server.seen) == 3


@pytest.mark.parametrize("reply", [[], {}, {"data": "x"}, None, 1])
def test_an_answer_that_is_no_list(server: ScriptedServer, provider: BatchApi, reply: object) -> None:
    """A success without a list is ``OutcomeUnknown``, not an empty result."""
    server.otherwise = as_json(reply)
    with pytest.raises(OutcomeUnknown):
        provider.get_batches(batch_ids(1))
    with pytest.raises(OutcomeUnknown):
        provider.list_models()


@pytest.mark.parametrize("reply", [{}, [], None, {"error": {"message": "gone"}}, {"id": "batch_2"}, {"id": {}}])
def test_an_answer_about_something_else(server: ScriptedServer, provider: BatchApi, reply: object) -> None:
    """A success about another batch than the requested one is ``OutcomeUnknown``."""
    server.otherwise = as_json(reply)
    for call in (provider.get_batch, provider.cancel_batch):
        with pytest.raises(OutcomeUnknown):
            call(BatchId("batch_1"))


def test_not_found(server: ScriptedServer, provider: BatchApi) -> None:
    """A 404 keeps its message."""
    server.otherwise = refusal(404, "No batch found with id 'batch_1'.")
    for call in (provider.get_batch, provider.cancel_batch):
        with pytest.raises(NotFound, match="No batch found"):
            call(BatchId("batch_1"))


@pytest.mark.parametrize("odd_id", ["", " ", ".", "..", ". ."])
def test_an_id_that_would_change_the_path(server: ScriptedServer, provider: BatchApi, odd_id: str) -> None:
    """An empty or dot-only id reaches no other path: nothing is sent."""
    with pytest.raises(NotFound):
        provider.get_batch(BatchId(odd_id))
    provider.delete_file(FileId(odd_id))
    assert server.seen == []


def test_ids_are_quoted(server: ScriptedServer, provider: BatchApi) -> None:
    """Special characters of an id stay within its path segment."""
    server.script(as_json({"id": "a/../b?c#d%2F"}))
    provider.get_batch(BatchId("a/../b?c#d%2F"))
    assert server.seen[0].target == "/openai/v1/batches/a%2F..%2Fb%3Fc%23d%252F"


def test_cancel(server: ScriptedServer, provider: BatchApi) -> None:
    """Cancelling sends one POST and returns the batch in its current state."""
    server.script(as_json(batch(1, "cancelling")))
    assert provider.cancel_batch(BatchId("batch_1")).status == "cancelling"
    assert server.calls() == ["POST /batches/batch_1/cancel"]


@pytest.mark.parametrize("refused_with", [400, 409])
@pytest.mark.parametrize("status", ["completed", "expired", "cancelled", "failed", "cancelling"])
def test_cancel_of_a_batch_that_has_ended(
    server: ScriptedServer, provider: BatchApi, refused_with: int, status: str
) -> None:
    """A batch that has ended, or is being cancelled, is read and returned."""
    server.script(refusal(refused_with, f"Cannot cancel a batch with status '{status}'."), as_json(batch(1, status)))
    assert provider.cancel_batch(BatchId("batch_1")).status == status
    assert server.calls() == ["POST /batches/batch_1/cancel", "GET /batches/batch_1"]


def test_cancel_refused_while_running(server: ScriptedServer, provider: BatchApi) -> None:
    """A refusal for a batch that still runs is raised to the caller."""
    server.script(refusal(409, "locked"), as_json(batch(1)))
    with pytest.raises(ProviderRefused, match="locked"):
        provider.cancel_batch(BatchId("batch_1"))


def test_cancel_may_happen_twice(server: ScriptedServer, provider: BatchApi) -> None:
    """A cancellation whose answer was lost is sent again."""
    server.script(hang_up, refusal(409), as_json(batch(1, "cancelled")))
    assert provider.cancel_batch(BatchId("batch_1")).status == "cancelled"


@pytest.mark.parametrize(
    "reply",
    [as_json({"id": "file_1", "object": "file", "deleted": True}), answer(b"", 204), answer(b"ok"), refusal(404)],
)
def test_delete(server: ScriptedServer, provider: BatchApi, reply: Any) -> None:
    """Any success deletes a file, and so does an answer that it is gone."""
    server.script(reply)
    provider.delete_file(FileId("file_1"))
    assert server.calls() == ["DELETE /files/file_1"]


def test_delete_refused(server: ScriptedServer, provider: BatchApi) -> None:
    """Any other refusal to delete is raised."""
    server.script(refusal(401))
    with pytest.raises(Unauthorized):
        provider.delete_file(FileId("file_1"))


def test_models(server: ScriptedServer, provider: BatchApi) -> None:
    """A model is active unless the provider says that it is not."""
    listed = [{"id": "a"}, {"id": "b", "active": True}, {"id": "c", "active": False}, {"id": "d", "active": None}]
    server.script(as_json({"object": "list", "data": [*listed, {}, None, "e"]}))
    assert provider.list_models() == [
        RemoteModel("a", active=True),
        RemoteModel("b", active=True),
        RemoteModel("c", active=False),
        RemoteModel("d", active=True),
    ]
