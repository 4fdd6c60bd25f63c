from __future__ import annotations

import re
import tracemalloc
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from batchkit.errors import Forbidden, ListingIncomplete, OutcomeUnknown, ProviderError, RateLimited
from batchkit.provider import wire
from batchkit.provider.listing import LIST_LIMITS, ListLimits, read_all

from .server import answer, as_json, hang_up, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.provider.client import BatchApi

    from .conftest import FakeTime
    from .server import Reply, ScriptedServer


def batches(*numbers: int) -> list[dict[str, Any]]:
    """Return batch objects."""
    return [{"id": f"batch_{number}", "object": "batch", "status": "completed"} for number in numbers]


def page(*numbers: int, cursor: object = None, **extra: object) -> Reply:
    """Answer with one page of the list."""
    paging = {} if cursor is None else {"paging": {"next_cursor": cursor}}
    return as_json({"object": "list", "data": batches(*numbers), **paging, **extra})


def ids(provider: BatchApi) -> list[str]:
    """Return the ids of the whole list."""
    return [batch.id for batch in provider.list_batches()]


def test_follows_the_cursor_to_the_end(server: ScriptedServer, provider: BatchApi) -> None:
    """Pages are read one after another, in order, until there is no cursor."""
    server.script(page(5, 4, cursor="cursor_a=="), page(3, 2, cursor="cursor_b/+"), page(1))
    assert ids(provider) == ["batch_5", "batch_4", "batch_3", "batch_2", "batch_1"]
    assert [seen.query for seen in server.seen] == [[], [("cursor", "cursor_a==")], [("cursor", "cursor_b/+")]]


@pytest.mark.parametrize(
    "last",
    [
        {},
        {"paging": None},
        {"paging": {}},
        {"paging": {"next_cursor": None}},
        {"paging": {"next_cursor": ""}},
        {"paging": []},
        {"paging": {"next_cursor": {}}},
        {"has_more": False},
        {"paging": {"next_cursor": 0}},
    ],
)
def test_every_form_of_a_last_page(server: ScriptedServer, provider: BatchApi, last: dict[str, Any]) -> None:
    """Paging information or a cursor that is missing, null or empty ends the list."""
    server.script(as_json({"object": "list", "data": batches(1), **last}))
    assert ids(provider) == ["batch_1"]


@pytest.mark.parametrize("data", [[], None])
def test_an_empty_account(server: ScriptedServer, provider: BatchApi, data: object) -> None:
    """An empty list may be written as null."""
    server.script(as_json({"object": "list", "data": data}))
    assert ids(provider) == []


def test_an_empty_page_may_be_followed_by_a_full_one(server: ScriptedServer, provider: BatchApi) -> None:
    """A page without entries but with a cursor does not end the list."""
    server.script(page(2, cursor="a"), page(cursor="b"), page(cursor="c"), page(1))
    assert ids(provider) == ["batch_2", "batch_1"]


def test_overlapping_pages_give_each_batch_once(server: ScriptedServer, provider: BatchApi) -> None:
    """Batches that moved to the next page between two calls are returned once."""
    server.script(page(3, 2, cursor="a"), page(2, 1, cursor="b"), page(1))
    assert ids(provider) == ["batch_3", "batch_2", "batch_1"]


def test_pages_are_fetched_on_demand(server: ScriptedServer, provider: BatchApi) -> None:
    """A caller that finds its batch on the first page causes one call."""
    server.script(page(2, 1, cursor="a"))
    assert next(provider.list_batches()).id == "batch_2"
    assert len(server.seen) == 1


INCOMPLETE: dict[str, list[Reply]] = {
    "repeated cursor": [page(3, cursor="a"), page(2, cursor="b"), page(1, cursor="a")],
    "own cursor": [page(3, cursor="a"), page(2, cursor="a")],
    "first page for ever": [page(2, 1, cursor=f"c{number}") for number in range(9)],
    "first page again as the last": [page(2, 1, cursor="a"), page(2, 1)],
    "more without a cursor": [page(2, 1, has_more=True)],
    "cursor of no kind": [page(2, 1, cursor={"after": "batch_1"})],
    "cursor true": [page(2, 1, cursor=True)],
    "blank cursor": [page(2, 1, cursor="  ")],
    "paging of no kind": [as_json({"data": [], "paging": ["cursor"]})],
    "not an object": [as_json([])],
    "no data": [as_json({"object": "list"})],
    "data of no kind": [as_json({"data": {"id": "batch_1"}})],
    "an error as success": [as_json({"error": {"message": "no"}})],
    "entry without id": [page(3, cursor="a"), as_json({"data": [{"status": "completed"}]})],
    "entry null": [as_json({"data": [None]})],
    "second page refused": [page(3, cursor="a"), refusal(400, "unknown cursor")],
    "second page gone": [page(3, cursor="a"), refusal(404)],
    "second page fails": [page(3, cursor="a"), refusal(500), hang_up, answer(b"<html>", 502)],
    "second page not JSON": [page(3, cursor="a"), answer(b"ok"), answer(b"ok"), answer(b"ok")],
}


@pytest.mark.parametrize("replies", INCOMPLETE.values(), ids=INCOMPLETE.keys())
def test_an_incomplete_list_is_an_error(server: ScriptedServer, provider: BatchApi, replies: list[Reply]) -> None:
    """Any doubt that the whole list was read raises ``ListingIncomplete``; a short list is never returned."""
    server.script(*replies)
    with pytest.raises(ListingIncomplete):
        ids(provider)


def test_endless_empty_pages_are_given_up(server: ScriptedServer, provider: BatchApi) -> None:
    """A server that returns empty pages with ever new cursors is given up."""
    numbers = count()
    server.choose = lambda _: page(cursor=f"c{next(numbers)}")
    with pytest.raises(ListingIncomplete, match="100 pages"):
        ids(provider)
    assert len(server.seen) == 100


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (refusal(500), OutcomeUnknown),
        (refusal(403, code="not_available_for_plan"), Forbidden),
        (refusal(429, retry_after="90"), RateLimited),
    ],
)
def test_the_cause_is_kept(
    server: ScriptedServer, provider: BatchApi, reply: Reply, cause: type[ProviderError]
) -> None:
    """The error has the failing page's error as its cause, with message and hint."""
    server.otherwise = reply
    with pytest.raises(ListingIncomplete, match=re.escape("page 1 of the list of batches")) as caught:
        ids(provider)
    assert type(caught.value.__cause__) is cause
    assert isinstance(caught.value.__cause__, ProviderError)
    assert caught.value.hint == caught.value.__cause__.hint


def endless(server: ScriptedServer, entries: int) -> None:
    """Answer with new batches and a new cursor forever."""
    numbers = count()

    def choose(_seen: object) -> Reply:
        number = next(numbers)
        batches = [{"id": f"batch_{number}_{entry}"} for entry in range(entries)]
        return as_json({"data": batches, "paging": {"next_cursor": f"c{number}"}})

    server.choose = choose


@pytest.mark.parametrize(
    ("limits", "words", "read"),
    [
        (ListLimits(pages=7), "after 7 pages with 70 entries", 70),
        (ListLimits(entries=75), "after 8 pages with 75 entries", 75),
        (ListLimits(seconds=20.0), "after 4 pages with 40 entries, read in 20 s", 40),
    ],
)
def test_a_list_that_always_has_one_more_page_is_given_up(
    server: ScriptedServer,
    connect: Callable[..., BatchApi],
    time: FakeTime,
    *,
    limits: ListLimits,
    words: str,
    read: int,
) -> None:
    """After a number of pages, entries or seconds the error says how many were read, and that there are more."""
    endless(server, 10)
    found = []

    def take() -> None:
        for batch in connect(list_limits=limits).list_batches():
            found.append(batch.id)
            time.sleep(0.5)

    with pytest.raises(ListingIncomplete, match=f"has still more {words}"):
        take()
    assert len(found) == read


def test_a_list_as_long_as_the_limits_is_read(server: ScriptedServer, connect: Callable[..., BatchApi]) -> None:
    """The limits allow a list of exactly that length."""
    server.script(page(1, 2, cursor="a"), page(3, 4))
    assert len(ids(connect(list_limits=ListLimits(pages=2, entries=4)))) == 4


def test_a_hundred_thousand_batches_are_read_by_default() -> None:
    """It is read in pages of 100, with a few bytes of memory per batch."""
    pages = iter(
        {
            "data": [{"id": f"batch_{number:05}_{entry:02}"} for entry in range(100)],
            "paging": {"next_cursor": str(number)},
        }
        for number in range(999)
    )
    last = {"data": [{"id": f"batch_last_{entry:02}"} for entry in range(100)]}
    tracemalloc.start()
    try:
        read = read_all(lambda _: next(pages, last), wire.remote_file, "batches", limits=LIST_LIMITS, clock=lambda: 0.0)
        assert sum(1 for _ in read) == 100_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_files_are_listed_the_same_way(server: ScriptedServer, provider: BatchApi) -> None:
    """Groq documents no paging for files; if there are pages, they are followed."""
    files = [{"id": f"file_{number}", "bytes": number, "filename": "a.jsonl", "purpose": "batch"} for number in (1, 2)]
    server.script(as_json({"data": files[:1], "paging": {"next_cursor": "a"}}), as_json({"data": files[1:]}))
    assert [(file.id, file.size_bytes) for file in provider.list_files()] == [("file_1", 1), ("file_2", 2)]
    assert server.calls() == ["GET /files"] * 2
