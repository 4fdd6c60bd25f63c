"""The overview of a workload, with the charts and tables of its report, and the figures of its annotation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from batchkit import formatting
from batchkit.annotation.recipe import load_recipe
from batchkit.api.remembered import remembered
from batchkit.datasets import require_extra
from batchkit.engine import situation
from batchkit.errors import UsageError
from batchkit.models import Lane, RequestState
from batchkit.reports.facts import Reading, read_facts
from batchkit.reports.text import cut
from batchkit.reports.views import workload_view
from batchkit.store import evaluations, overview_rows, reviews
from batchkit.view.rendering import link, respond
from batchkit.view.requests import tabs

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from batchkit.models import Workload
    from batchkit.reports.annotation_report import AnnotationView
    from batchkit.reports.facts import WorkloadFacts
    from batchkit.view.app import View

#: What a page that is read again and again reads of what has no index; the report's file reads more.
_QUICK: Final = Reading(requests=5_000, ranges=10, attempts=2_000, answers=48)
_ROWS: Final = 15
_MANY: Final = 100_000
_TEXT_BYTES: Final = 300


def workload(view: View, request: Request) -> Response:
    """Show where a workload stands: what its report shows, live."""
    reader = view.reader
    found = reader.find(request.query_params.get("name", ""))
    facts = _facts(view, found)
    counts = facts.progress.counts
    amounts = {
        RequestState.FAILED: counts.failed,
        RequestState.CANCELLED: counts.cancelled,
        RequestState.PENDING: counts.pending,
        RequestState.IN_FLIGHT: counts.in_flight,
        RequestState.SUCCEEDED: counts.succeeded,
    }
    with reader.store.read() as connection:
        runs = evaluations.runs_with_workloads(connection, found.name) if found.recipe is not None else []
    return respond(
        "workload.html",
        token=view.change_token,
        title=f"{found.name}: {facts.progress.state.value}",
        tabs=tabs(found, "overview"),
        name=found.name,
        shown=workload_view(facts),
        states=[
            (state.value.replace("_", " "), amount, link("/requests", name=found.name, state=state.value))
            for state, amount in amounts.items()
            if amount
        ],
        reasons=[
            (cut(reason.code, _TEXT_BYTES).text, reason.count, link("/requests", name=found.name, error=reason.code))
            for reason in facts.progress.failures
        ],
        lane=_lane(found, facts),
        run=runs[-1].run if runs else "",
        save=link("/report", name=found.name),
    )


def annotation(view: View, request: Request) -> Response:
    """Show what the annotators answered, how far they agree, and the rows that people should look at."""
    require_extra()
    from batchkit.reports.rows import rows_of  # noqa: PLC0415 - with the rest of this page

    reader = view.reader
    found = reader.find(request.query_params.get("name", ""))
    if found.recipe is None:
        raise UsageError(
            f"{found.name} was made from requests and not from a table",
            hint="`batchkit annotate` asks about the rows of a table",
        )
    counts_reviews = request.query_params.get("reviews") == "1"
    shown = _annotation(view, found, counts_reviews=counts_reviews)
    if shown is None:
        raise UsageError(f"{found.name} is no annotation of a table")
    places = list(shown.review)
    per_row = load_recipe(found.recipe).requests_per_row
    read = rows_of(reader.as_runner, found, places[: _ROWS * per_row])
    with reader.store.read() as connection:
        decided = reviews.by_reviewer(connection, found.id)
    return respond(
        "annotation.html",
        token=view.change_token,
        title=f"Annotation {found.name}",
        tabs=tabs(found, "annotation"),
        name=found.name,
        shown=shown,
        rows=[
            (shown.review[read[start].place - 1], read[start : start + per_row])
            for start in range(0, len(read), per_row)
        ],
        more=len(places) // per_row - _ROWS,
        is_finished=reader.progress(found.id).is_finished,
        decided=decided,
        counts_reviews=counts_reviews,
        other=link("/annotation", name=found.name, reviews=None if counts_reviews else 1),
        review=link("/review", name=found.name),
        save=link("/report", name=found.name),
    )


def _facts(view: View, found: Workload) -> WorkloadFacts:
    """Return the facts of a workload since its last event; of an open one the batches' counts are those of now."""
    reader = view.reader
    with reader.store.read() as connection:
        known = overview_rows.one(connection, found.id)
    facts: WorkloadFacts = view.kept.get(
        ("facts", found.id, known.last_event, known.is_open),
        lambda: read_facts(reader.as_runner, found, reading=_QUICK),
    )
    return replace(facts, progress=reader.progress(found.id)) if known.is_open else facts


def _annotation(view: View, found: Workload, *, counts_reviews: bool) -> AnnotationView | None:
    from batchkit.annotation.weighing import weighted_votes  # noqa: PLC0415 - an extra
    from batchkit.reports.annotation_report import annotation_view  # noqa: PLC0415 - as above

    reader = view.reader
    is_finished = reader.progress(found.id).is_finished
    output = remembered(found)
    gold, weights = ((), None) if output is None else (output.gold, output.weights)

    def read() -> AnnotationView | None:
        runner = reader.as_runner
        return annotation_view(
            runner,
            found,
            gold=gold,
            weighted=weighted_votes(runner, found, gold=gold, weights=weights) if is_finished else None,
            is_finished=is_finished,
            most_review=_MANY,
            counts_reviews=counts_reviews,
        )

    with reader.store.read() as connection:
        last = overview_rows.one(connection, found.id).last_event
        newest = reviews.newest(connection, found.id) if counts_reviews else None
    shown: AnnotationView | None = view.large.get(("annotation", found.id, last, counts_reviews, newest), read)
    return shown


def _lane(found: Workload, facts: WorkloadFacts) -> list[tuple[str, str]]:
    """Return what is known of the lane of single calls, if it is used."""
    if found.lane is not Lane.SYNC:
        return []
    lines = [("Lane", "single calls, at the ordinary price")]
    if facts.progress.doubts:
        lines.append(("In doubt", situation.doubt_text(facts.progress)))
    waiting = [row.waiting_for for row in facts.progress.runners if row.waiting_for]
    return [*lines, *(("Limits", formatting.printable(text, _TEXT_BYTES)) for text in waiting)]
