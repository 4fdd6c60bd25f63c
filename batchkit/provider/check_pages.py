"""How a server pages its lists, compared with its dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from batchkit.provider import wire
from batchkit.provider.check_report import Verdict
from batchkit.provider.dialect import ListStyle

if TYPE_CHECKING:
    from batchkit.provider.check_report import CheckReport
    from batchkit.provider.client import BatchApi
    from batchkit.provider.dialect import Dialect

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


def _style_of(payload: Any) -> ListStyle | None:
    """Return how a page says that it is one of several; None when it does not tell."""
    if isinstance(payload, list):
        return ListStyle.WHOLE
    if not isinstance(payload, Mapping):
        return None
    members = (("paging", ListStyle.CURSOR), ("has_more", ListStyle.AFTER), ("total", ListStyle.PAGE))
    return next((style for name, style in members if name in payload), None)
