"""How a server pages, orders and filters its lists, compared with its dialect."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from batchkit.errors import ProviderError, ProviderRefused
from batchkit.formatting import counted, printable
from batchkit.provider import wire
from batchkit.provider.check_report import Verdict
from batchkit.provider.dialect import ListStyle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.models import Batch
    from batchkit.provider.check_report import CheckReport
    from batchkit.provider.client import BatchApi
    from batchkit.provider.dialect import Dialect

_LONGEST_NAME: Final = 60
_MOST_NAMES: Final = 10
_STYLES: Final = {
    ListStyle.CURSOR: "a cursor",
    ListStyle.AFTER: "after the last id",
    ListStyle.PAGE: "page numbers",
    ListStyle.WHOLE: "no pages",
}


def check_pages(provider: BatchApi, dialect: Dialect, report: CheckReport) -> ListStyle:
    """Compare how a list is paged; returns the server's way, and raises ``ProviderError`` where no batch API answers."""
    shape = dialect.api
    raw = provider.http.probe(shape.batches_path)
    seen = _style_of(raw)
    if wire.page(raw, seen or shape.listing) is None:
        raise provider.http.wrong_address(f"GET {shape.batches_path} is not answered with a list")
    expected = _STYLES[shape.listing]
    if seen is None:
        report.add("pages of lists", expected, "a page does not tell", Verdict.OPEN)
        return shape.listing
    report.compare(
        "pages of lists", expected, _STYLES[seen], is_same=seen is shape.listing, corrections={"listing": seen.value}
    )
    return seen


def check_list(provider: BatchApi, report: CheckReport) -> None:
    """Compare the order of the list, the length of its pages, and its filters."""
    try:
        raw, batches = _page(provider)
    except ProviderError as error:
        report.add("order of the list", "newest first", error.message, Verdict.OPEN)
        return
    _order(batches, report)
    page = wire.page(raw, provider.dialect.api.listing)
    goes_on = page is not None and page.next_cursor is not None
    report.note(
        "a page of the list", counted(len(batches), "entry", "entries") + (", and more follow" if goes_on else "")
    )
    if isinstance(raw, Mapping) and not goes_on:
        others = [printable(str(name), _LONGEST_NAME) for name in raw if name not in {"object", "data"}]
        report.note("members of the last page", ", ".join(others[:_MOST_NAMES]) or "none")
    _limit(provider, batches, report)
    _by_file(provider, batches, report)
    _by_status(provider, batches, report)


def _page(provider: BatchApi, *query: tuple[str, str]) -> tuple[Any, list[Batch]]:
    shape = provider.dialect.api
    raw = provider.http.get(shape.batches_path, query)
    page = wire.page(raw, shape.listing)
    read = [wire.batch(shape.batch_of(entry)) for entry in page.entries] if page is not None else []
    return raw, [batch for batch in read if batch is not None]


def _order(batches: Sequence[Batch], report: CheckReport) -> None:
    times = [batch.created_at for batch in batches if batch.created_at is not None]
    if len(set(times)) <= 1:
        report.add("order of the list", "newest first", "there is only one batch, or no time", Verdict.OPEN)
        return
    down, up = times == sorted(times, reverse=True), times == sorted(times)
    found = "newest first" if down else "oldest first" if up else "no order of time"
    report.compare("order of the list", "newest first", found, is_same=down)


def _limit(provider: BatchApi, batches: Sequence[Batch], report: CheckReport) -> None:
    shape = provider.dialect.api
    name = "page_size" if shape.listing is ListStyle.PAGE else "limit"
    if len(batches) <= 1:
        report.add(f"{name}=1", "", "there is only one batch", Verdict.OPEN)
        return
    try:
        _, found = _page(provider, (name, "1"))
    except ProviderError as error:
        report.note(f"{name}=1", error.message)
    else:
        report.note(f"{name}=1", "one entry" if len(found) == 1 else f"ignored, {len(found)} entries")


def _by_file(provider: BatchApi, batches: Sequence[Batch], report: CheckReport) -> None:
    shape = provider.dialect.api
    subject, expected = "list by input file", "offered" if shape.files_per_lookup else "not offered"
    file_id = next((batch.input_file_id for batch in batches if batch.input_file_id is not None), None)
    if file_id is None or all(batch.input_file_id == file_id for batch in batches):
        report.add(subject, expected, "there are no batches of two files", Verdict.OPEN)
        return
    found: Sequence[Batch] = ()
    with suppress(ProviderRefused):
        _, found = _page(provider, (shape.file_filter, file_id))
    is_offered = bool(found) and all(batch.input_file_id == file_id for batch in found)
    report.compare(
        subject,
        expected,
        "offered" if is_offered else "not offered",
        is_same=is_offered == bool(shape.files_per_lookup),
        corrections={"files_per_lookup": int(is_offered)},
    )


def _by_status(provider: BatchApi, batches: Sequence[Batch], report: CheckReport) -> None:
    word = batches[0].status if batches else ""
    if all(batch.status == word for batch in batches):
        report.add("list by status", "", "there are no batches of two statuses", Verdict.OPEN)
        return
    try:
        _, found = _page(provider, ("status", word))
    except ProviderError as error:
        report.note("list by status", error.message)
    else:
        is_filter = bool(found) and all(batch.status == word for batch in found)
        report.note("list by status", "offered" if is_filter else "ignored")


def _style_of(payload: Any) -> ListStyle | None:
    """Return how a page says that it is one of several; None when it does not tell."""
    if isinstance(payload, list):
        return ListStyle.WHOLE
    if not isinstance(payload, Mapping):
        return None
    members = (("paging", ListStyle.CURSOR), ("has_more", ListStyle.AFTER), ("total", ListStyle.PAGE))
    return next((style for name, style in members if name in payload), None)
