"""Reads a paged list to its end, or says that it could not: from an incomplete list nothing may be concluded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from batchkit.errors import ListingIncomplete, ProviderError
from batchkit.provider import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: How many pages in a row may bring nothing new, yet name a next one.
MAX_IDLE_PAGES = 100

_HINT = "nothing was changed; the same command asks again"


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_Identified)


def read_all(fetch: Callable[[str | None], object], read: Callable[[object], T | None], what: str) -> Iterator[T]:
    """Yield every entry once, in the provider's order, fetching a page when the one before it is used up.

    ``fetch`` gets a cursor (None for the first page) and returns the reply's JSON; ``read`` reads an entry and returns None
    for what it cannot recognise. Pages may overlap, and an empty page may be followed by a full one.

    Raises ``ListingIncomplete`` when a page fails (the error is its cause), is not a list, holds an entry without an id, or
    when the pages go round in circles: a cursor or a whole page comes again, or ``MAX_IDLE_PAGES`` pages bring nothing new.
    """
    seen_ids: set[str] = set()
    seen_cursors: set[str] = set()
    seen_pages: set[tuple[str, ...]] = set()
    cursor: str | None = None
    number = idle = 0
    while True:
        number += 1
        page = _fetch_page(fetch, cursor, f"page {number} of the list of {what}")
        ids: list[str] = []
        known_before = len(seen_ids)
        for entry in page.entries:
            item = read(entry)
            if item is None:
                raise ListingIncomplete(f"page {number} of the list of {what} has an entry without an id", hint=_HINT)
            ids.append(item.id)
            if item.id not in seen_ids:
                seen_ids.add(item.id)
                yield item
        if ids:
            # Even a last page: a server that lost the cursor answers with its first page, and the rest stays unseen.
            _refuse_repeat(tuple(ids), seen_pages, f"the list of {what} came round to the same page again")
        if page.has_unreachable_rest:
            raise ListingIncomplete(
                f"the list of {what} has more pages, but does not say how to ask for them", hint=_HINT
            )
        cursor = page.next_cursor
        if cursor is None:
            return
        _refuse_repeat(cursor, seen_cursors, f"the list of {what} gave the same cursor again")
        idle = idle + 1 if len(seen_ids) == known_before else 0
        if idle >= MAX_IDLE_PAGES:
            raise ListingIncomplete(f"{idle} pages of the list of {what} brought nothing new", hint=_HINT)


def _fetch_page(fetch: Callable[[str | None], object], cursor: str | None, name: str) -> wire.Page:
    try:
        page = wire.page(fetch(cursor))
    except ProviderError as error:
        raise ListingIncomplete(f"{name} could not be read: {error.message}", hint=error.hint) from error
    if page is None:
        raise ListingIncomplete(f"{name} is not a list", hint=_HINT)
    return page


_Key = TypeVar("_Key")


def _refuse_repeat(key: _Key, seen: set[_Key], message: str) -> None:
    if key in seen:
        raise ListingIncomplete(message, hint=_HINT)
    seen.add(key)
