"""The first page: every suite and every workload, running ones first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from batchkit import formatting
from batchkit.engine import situation
from batchkit.engine.progress import read_progress
from batchkit.provider.pricing import pricing_of
from batchkit.reports import charts
from batchkit.reports.headline import headline
from batchkit.reports.text import cut
from batchkit.reports.views import tones, usd
from batchkit.store import names, overview_rows, report_rows, request_rows, workloads
from batchkit.view.rendering import link, respond

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markupsafe import Markup
    from sqlalchemy.engine import Connection
    from starlette.requests import Request
    from starlette.responses import Response

    from batchkit.engine.progress import Progress
    from batchkit.store.overview_rows import ListedRun, ListedWorkload
    from batchkit.view.app import View

_ON_A_PAGE: Final = 25
_RUNS: Final = 500
_VERDICTS: Final = 12
_PRICED: Final = 40
_TEXT_BYTES: Final = 400
_SHOW: Final = {"all": "all", "running": "running", "finished": "finished", "failures": "finished with failures"}
_ORDERS: Final = {"state": "running first", "name": "by name", "age": "newest first"}
VERDICT_TONES: Final = {
    "passed": "good",
    "first": "good",
    "regressed": "bad",
    "unscored": "bad",
    "incomparable": "open",
}


@dataclass(frozen=True, slots=True)
class WorkloadLine:
    """A workload on the first page."""

    name: str
    url: str
    word: str
    tone: str
    bar: Markup
    answered: str
    fetched: str
    waits: str
    workers: str
    cost: str
    to_come: str
    problem: str
    verdict: str
    verdict_tone: str
    created: str


@dataclass(frozen=True, slots=True)
class SuiteLine:
    """A suite with its last runs; ``verdicts`` are (run, verdict, tone), the oldest first."""

    name: str
    url: str
    runs: str
    last: str
    when: str
    verdicts: tuple[tuple[str, str, str], ...]


def home(view: View, request: Request) -> Response:
    """Show a page of workloads, filtered and ordered as the query says."""
    wanted = request.query_params
    text = wanted.get("q", "")[:_TEXT_BYTES]
    show = wanted.get("show", "all") if wanted.get("show") in _SHOW else "all"
    order = wanted.get("order", "state") if wanted.get("order") in _ORDERS else "state"
    with view.reader.store.read() as connection:
        found = overview_rows.listed(connection)
        last_runs = overview_rows.runs(connection, limit=_RUNS)
        chosen = _ordered([one for one in found if _fits(one, text, show)], order)
        pages = max(-(-len(chosen) // _ON_A_PAGE), 1)
        number = min(max(_number(wanted.get("page")), 1), pages)
        verdicts = {run.workload: run.verdict or "running" for run in last_runs}
        lines = [
            _line(view, connection, one, verdicts.get(one.name, ""))
            for one in chosen[(number - 1) * _ON_A_PAGE : number * _ON_A_PAGE]
        ]
    here = {"q": text, "show": show, "order": order}
    return respond(
        "home.html",
        token=view.change_token,
        title="batchkit",
        database=view.reader.store.display_url,
        lines=lines,
        suites=list(_suites([run for run in last_runs if text.lower() in run.suite.lower()])),
        total=len(found),
        open_count=sum(one.is_open for one in found),
        chosen=len(chosen),
        number=number,
        pages=pages,
        previous=link("/", **here, page=number - 1) if number > 1 else "",
        following=link("/", **here, page=number + 1) if number < pages else "",
        q=text,
        show=show,
        order=order,
        shows=_SHOW,
        orders=_ORDERS,
    )


def snapshot(view: View, connection: Connection, one: ListedWorkload) -> Progress:
    """Read where a workload stands; of a finished one what is known since its last event."""

    def read() -> Progress:
        return read_progress(
            connection,
            workloads.get(connection, one.id),
            now=view.reader.clock(),
            linger_seconds=view.settings.resubmit_linger_seconds,
        )

    return read() if one.is_open else view.kept.get(("progress", one.id, one.last_event), read)


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 8 else 1  # noqa: PLR2004 - pages


def _fits(one: ListedWorkload, text: str, show: str) -> bool:
    if text.lower() not in one.name.lower():
        return False
    match show:
        case "running":
            return one.is_open
        case "finished":
            return not one.is_open
        case "failures":
            return not one.is_open and one.has_failed
        case _:
            return True


def _ordered(found: list[ListedWorkload], order: str) -> list[ListedWorkload]:
    if order == "name":
        return sorted(found, key=lambda one: one.name.lower())
    return found if order == "age" else sorted(found, key=lambda one: not one.is_open)


def _line(view: View, connection: Connection, one: ListedWorkload, verdict: str) -> WorkloadLine:
    progress = snapshot(view, connection, one)
    counts = progress.counts
    head = headline(progress)
    waits = situation.waits(progress)
    cost, to_come = (
        _costs(view, connection, progress)
        if one.is_open
        else view.kept.get(("cost", one.id, one.last_event), lambda: _costs(view, connection, progress))
    )
    return WorkloadLine(
        name=cut(one.name, _TEXT_BYTES).text,
        url=link("/workload", name=one.name),
        word=head.word,
        tone=head.tone,
        bar=charts.bar([charts.Part(tone, amount) for tone, _, amount in tones(progress)], counts.total, height=10),
        answered=f"{formatting.percent(progress.answered, counts.total)} of {formatting.short_count(counts.total)}",
        fetched=f"{progress.fetched:,} downloaded" if counts.unresolved else "",
        waits=cut(waits[0].line(progress.read_at, utc=True), _TEXT_BYTES).text if waits else "",
        workers=situation.workers(progress, progress.read_at),
        cost=cost,
        to_come=to_come,
        problem=cut(problem_of(progress), _TEXT_BYTES).text,
        verdict=verdict,
        verdict_tone=VERDICT_TONES.get(verdict, "open"),
        created=formatting.when(one.created_at, view.reader.clock(), utc=True),
    )


def problem_of(progress: Progress) -> str:
    """Return the last thing that went wrong, empty if nothing did."""
    for wait in situation.waits(progress):
        if wait.is_warning or wait.kind is situation.WaitKind.REFUSED:
            return wait.text
    for batch in progress.attention:
        if batch.problems and not progress.is_finished:
            return batch.problems[0].message
    if progress.failures:
        first = progress.failures[0]
        return f"{formatting.counted(first.count, 'request')} failed: {first.code}: {first.sample}"
    return ""


def _costs(view: View, connection: Connection, progress: Progress) -> tuple[str, str]:
    """Return what a workload has cost and will cost at the prices of a sample of its answers; empty texts if that is unknown."""
    usage, counts = progress.usage, progress.counts
    if not usage.total_tokens:
        return "", ""
    workload = progress.workload
    places = report_rows.spread_places(counts.total, _PRICED)
    name_of = view.kept.get(("names", progress.last_merged_at), lambda: names.every(connection))
    used = request_rows.models_of(connection, workload.id, places)
    into, out = (sum(tokens[side] for tokens in used.values()) for side in (0, 1))
    if not into + out:
        return "", ""
    price = pricing_of(workload.provider, workload.lane).price
    prices = [
        price(
            name_of.get(model, ""),
            usage.prompt_tokens * tokens[0] // max(into, 1),
            usage.completion_tokens * tokens[1] // max(out, 1),
        )
        for model, tokens in used.items()
        if any(tokens)  # recordings are billed by the second
    ]
    known = [one for one in prices if one is not None]
    if len(known) < len(prices):
        return "", ""
    so_far = sum(known)
    about = "about " if len(used) > 1 or counts.unresolved else ""
    if not counts.unresolved or not progress.fetched:
        return f"{about}{usd(so_far)}", ""
    return f"{about}{usd(so_far)}", f"about {usd(so_far / progress.fetched * counts.unresolved)} to come"


def _suites(found: Sequence[ListedRun]) -> Iterator[SuiteLine]:
    by_suite: dict[str, list[ListedRun]] = {}
    for run in found:
        by_suite.setdefault(run.suite, []).append(run)
    for suite, runs in by_suite.items():
        last = runs[0]
        yield SuiteLine(
            name=cut(suite, _TEXT_BYTES).text,
            url=link("/suite", name=suite),
            runs=formatting.counted(len(runs), "run") + (" or more" if len(found) == _RUNS else ""),
            last=last.verdict or "running",
            when=formatting.moment(last.started_at),
            verdicts=tuple(strip(runs[:_VERDICTS][::-1])),
        )


def strip(runs: Sequence[ListedRun]) -> Iterator[tuple[str, str, str]]:
    """Yield the runs as marks: name, verdict, tone."""
    for run in runs:
        verdict = run.verdict or "running"
        yield run.name, verdict, VERDICT_TONES.get(verdict, "open")
