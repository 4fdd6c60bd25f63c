"""Reading a paged list to its end; an incomplete list is an error, because absence from it proves nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from batchkit.errors import ListingIncomplete, ProviderError
from batchkit.provider import wire
from batchkit.provider.dialect import ListStyle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The most consecutive pages without a new entry that have a next page.
MAX_IDLE_PAGES = 100

_HINT = "nothing was changed; the same command asks again"


@dataclass(frozen=True, slots=True)
class ListLimits:
    """The most that is read of one list. ``seconds`` count from the first page and include the work of the reader of entries."""

    pages: int = 10_000
    entries: int = 250_000
    seconds: float = 900.0


LIST_LIMITS = ListLimits()


class Identified(Protocol):
    """An entry of a list."""

    @property
    def id(self) -> str:
        """Its id at the provider."""
        ...


T = TypeVar("T", bound=Identified)


def read_all(
    fetch: Callable[[str | None], object],
    read: Callable[[object], T | None],
    what: str,
    *,
    limits: ListLimits,
    clock: Callable[[], float],
    style: ListStyle = ListStyle.CURSOR,
    size: int | None = None,
) -> Iterator[T]:
    """Yield every entry once, in the provider's order; a page is fetched when the previous one has been consumed.

    ``fetch`` takes a cursor (None for the first page) and returns the reply's JSON; ``read`` reads an entry, or returns None if
    it cannot. ``style`` and ``size`` are how pages follow each other, and how long a full one is. Pages may overlap, and a full
    page may follow an empty one. ``clock`` returns monotonic seconds. Only digests of entries, pages and cursors are kept.

    Raises ``ListingIncomplete`` when a page fails (the error is its cause), is not a list, or has an entry without an id; when
    the pages repeat: a cursor or a whole page comes again, or ``MAX_IDLE_PAGES`` pages have nothing new; when they end before the
    total that the first one names; and when there is more after ``limits``.
    """
    ends_at = clock() + limits.seconds
    seen_ids: set[bytes] = set()
    seen_cursors: set[bytes] = set()
    seen_pages: set[bytes] = set()
    cursor: str | None = None
    number = idle = expected = 0
    while True:
        number += 1
        if number > limits.pages or clock() >= ends_at:
            raise _given_up(what, number - 1, len(seen_ids), limits.seconds + clock() - ends_at)
        page = _fetch_page(fetch, cursor, f"page {number} of the list of {what}", style, size)
        if number == 1:
            expected = page.total or 0
        page_digest = _digest()
        known_before = len(seen_ids)
        for entry in page.entries:
            item = read(entry)
            if item is None:
                raise ListingIncomplete(f"page {number} of the list of {what} has an entry without an id", hint=_HINT)
            digest = _digest(item.id).digest()
            page_digest.update(digest)
            if digest not in seen_ids:
                if len(seen_ids) >= limits.entries:
                    raise _given_up(what, number, len(seen_ids), limits.seconds + clock() - ends_at)
                seen_ids.add(digest)
                yield item
        if page.entries:
            # This applies to a last page too: a server that lost the cursor answers with its first page, and the rest is missing.
            _refuse_repeat(page_digest.digest(), seen_pages, f"the list of {what} came round to the same page again")
        if page.has_unreachable_rest:
            raise ListingIncomplete(
                f"the list of {what} has more pages, but does not say how to ask for them", hint=_HINT
            )
        cursor = page.next_cursor
        is_short = size is not None and len(page.entries) < size
        if cursor is None or (page.total and is_short and len(seen_ids) >= page.total):
            if len(seen_ids) < expected:
                raise ListingIncomplete(
                    f"the list of {what} has {expected:,} entries, but shows {len(seen_ids):,}", hint=_HINT
                )
            return
        _refuse_repeat(_digest(cursor).digest(), seen_cursors, f"the list of {what} gave the same cursor again")
        idle = idle + 1 if len(seen_ids) == known_before else 0
        if idle >= MAX_IDLE_PAGES:
            raise ListingIncomplete(f"{idle} pages of the list of {what} brought nothing new", hint=_HINT)


def _fetch_page(
    fetch: Callable[[str | None], object], cursor: str | None, name: str, style: ListStyle, size: int | None
) -> wire.Page:
    try:
        page = wire.page(fetch(cursor), style, size=size, cursor=cursor)
    except ProviderError as error:
        raise ListingIncomplete(f"{name} could not be read: {error.message}", hint=error.hint) from error
    if page is None:
        raise ListingIncomplete(f"{name} is not a list", hint=_HINT)
    return page


def _given_up(what: str, pages: int, entries: int, seconds: float) -> ListingIncomplete:
    return ListingIncomplete(
        f"the list of {what} has still more after {pages:,} pages with {entries:,} entries, read in {seconds:,.0f} s",
        hint=f"{_HINT}; if the account has that many {what}, delete old ones",
    )


def _digest(text: str = "") -> hashlib.blake2b:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16)


def _refuse_repeat(key: bytes, seen: set[bytes], message: str) -> None:
    if key in seen:
        raise ListingIncomplete(message, hint=_HINT)
    seen.add(key)
