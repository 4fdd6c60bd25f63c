"""Query plans of the live page at 20,000 requests: what an index serves reads only what a page shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batchkit.models import RequestState
from batchkit.store import custom_id_index, overview_rows, request_rows
from batchkit.store.request_rows import RequestFilter
from tests.planned import KINDS, filled_store, plans
from tests.store.test_query_plans import Loaded, _fill, reads_everything

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection

LIMIT = 51


@pytest.fixture(scope="module", params=KINDS)
def loaded(request, tmp_path_factory) -> Iterator[Loaded]:
    """Fill a database once for all plans, with the index of custom_ids."""

    def fill(store):
        filled = _fill(store)
        custom_id_index.build(store)
        return filled

    with filled_store(request, tmp_path_factory, fill) as (_, filled):
        yield filled


def page(wanted, **more):
    """Return the call of a page."""
    return lambda on: lambda c: request_rows.page(c, on.workload.id, wanted, limit=LIMIT, **more)


CALLS: dict[str, tuple[Callable[[Loaded], Callable[[Connection], object]], str | None]] = {
    "all": (page(RequestFilter(), after=15_000), None),
    "all backwards": (page(RequestFilter(), before=15_000), None),
    "failed": (page(RequestFilter(RequestState.FAILED), after=100), "requests_unfinished"),
    "pending backwards": (page(RequestFilter(RequestState.PENDING), before=100), "requests_unfinished"),
    "error": (page(RequestFilter(error="http_400"), after=100), "results_failed"),
    "error without a code": (page(RequestFilter(error="unknown")), "results_failed"),
    "custom_id": (page(RequestFilter(custom_id="row-17000")), custom_id_index.NAME),
    "custom_id and state": (page(RequestFilter(RequestState.FAILED, custom_id="row-17000")), custom_id_index.NAME),
    "prefix": (
        lambda on: lambda c: request_rows.by_prefix(c, on.workload.id, "row-1", after="row-1500", limit=LIMIT),
        custom_id_index.NAME,
    ),
    "rows": (lambda on: lambda c: request_rows.listed(c, on.workload.id, range(15_000, 15_050)), None),
    "answers": (lambda on: lambda c: request_rows.answers(c, on.workload.id, range(15_000, 15_050)), None),
    "attempts": (lambda on: lambda c: request_rows.tried(c, on.workload.id, 15_000), None),
    "home": (lambda _: overview_rows.listed, "requests_unfinished"),
    "scan of a range": (
        lambda on: (
            lambda c: request_rows.scan(
                c,
                on.workload.id,
                RequestFilter(RequestState.SUCCEEDED, model=1, custom_id="7", match="contains"),
                first=100,
                last=199,
                limit=LIMIT,
            )
        ),
        None,
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_page_does_not_read_every_request(loaded, call):
    """Neither a whole table nor a whole workload is read, and a filter uses its index."""
    make, index = CALLS[call]
    explained = plans(loaded.store, make(loaded))
    assert not [plan for plan in explained if reads_everything(plan)], explained
    if index is not None:
        assert any(index in plan for plan in explained), explained


def test_no_page_sorts_more_than_it_shows(loaded):
    """Rows come in the order of an index: a sort would read all that fit, however many they are."""
    for call in ("all", "all backwards", "failed", "error", "prefix"):
        for plan in plans(loaded.store, CALLS[call][0](loaded)):
            assert "TEMP B-TREE" not in plan, (call, plan)
            assert "Sort" not in plan, (call, plan)


@pytest.mark.parametrize(
    "wanted",
    [RequestFilter(model=1), RequestFilter(custom_id="a", match="contains"), RequestFilter(RequestState.SUCCEEDED)],
)
def test_what_no_index_serves_is_known(loaded, wanted):
    """Such a filter is read range by range."""
    with loaded.store.read() as connection:
        assert not request_rows.is_direct(connection, wanted)


def test_the_marker_of_changes_reads_no_table_of_requests(loaded):
    """It changes with each commit of another connection, and costs nothing worth counting."""
    marker = overview_rows.ChangeMarker(loaded.store)
    before = marker.read()
    assert marker.read() == before
    with loaded.store.write() as connection:
        connection.exec_driver_sql("INSERT INTO runners (owner, verb, host, seen_at) VALUES ('x', 'run', 'here', 1)")
    assert marker.read() != before
    marker.close()
