"""Suites: the nights as a trend, one run with what fell, and two runs that were chosen freely."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from batchkit import formatting
from batchkit.datasets import require_extra
from batchkit.engine.progress import read_progress
from batchkit.errors import StoreUnusable, UnknownWorkload, UsageError
from batchkit.reports.text import cut
from batchkit.store import evaluations, overview_rows, workloads
from batchkit.view.home import VERDICT_TONES, strip
from batchkit.view.rendering import link, respond

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from batchkit.evaluation.past_runs import PastRun
    from batchkit.view.app import View

_RUNS: Final = 60
_ROWS: Final = 200
_NAME_BYTES: Final = 200


def suite(view: View, request: Request) -> Response:
    """Show the runs of a suite: a trend of each metric, and a line for each run."""
    require_extra()
    from batchkit.evaluation import past_runs  # noqa: PLC0415 - an extra
    from batchkit.evaluation.results import summary  # noqa: PLC0415 - as above
    from batchkit.reports.evaluation_trend import read_series, trends  # noqa: PLC0415 - as above

    reader, name = view.reader, request.query_params.get("name", "")
    with reader.store.read() as connection:
        listed = overview_rows.runs(connection, suite=name, limit=_RUNS)
        if not listed:
            raise UnknownWorkload(
                f"there is no run of the suite {name[:_NAME_BYTES]!r}", hint="`batchkit runs` lists them"
            )
        found = past_runs.read_runs(
            connection,
            name,
            limit=_RUNS,
            now=reader.clock(),
            linger_seconds=view.settings.resubmit_linger_seconds,
        )
    finished = [run.run for run in found if run.finished_at is not None]
    drawn = None
    if finished:
        runner = reader.as_runner
        last = summary(runner, finished[-1])
        drawn = trends(read_series(runner, last), last)
    return respond(
        "suite.html",
        token=view.change_token,
        title=f"Suite {name}",
        name=name,
        strip=list(strip(listed[::-1])),
        trends=drawn,
        lines=[_run_line(run) for run in found[::-1]],
        finished=finished[::-1],
    )


def run(view: View, request: Request) -> Response:
    """Show a run: its verdict, what fell and what else changed, slices, kinds of answers, and the rows to read first."""
    require_extra()
    from batchkit.reports.writing import evaluation_content  # noqa: PLC0415 - an extra

    reader, name = view.reader, request.query_params.get("name", "")
    with reader.store.read() as connection:
        evaluation = evaluations.find(connection, name)
        if evaluation is None:
            raise UnknownWorkload(f"there is no run {name[:_NAME_BYTES]!r}", hint="`batchkit runs` lists them")
        others = [one.name for one in overview_rows.runs(connection, suite=evaluation.suite, limit=_RUNS)]
        progress = None
        workload = workloads.find(connection, evaluation.workload)
        if evaluation.finished_at is None and workload is not None:
            progress = read_progress(connection, workload, now=reader.clock())

    def read() -> dict[str, Any]:
        return evaluation_content(reader.as_runner, name, rows=_ROWS)

    is_finished = evaluation.finished_at is not None
    # A finished run's scores never change, but its answers may be cleaned.
    content = view.large.get(("run", evaluation.id, workload is not None), read) if is_finished else read()
    place = others.index(name) if name in others else None
    return respond(
        "run.html",
        token=view.change_token,
        name=name,
        suite=evaluation.suite,
        suite_url=link("/suite", name=evaluation.suite),
        progress=progress,
        others=[one for one in others if one != name],
        newer=link("/run", name=others[place - 1]) if place else "",
        older=link("/run", name=others[place + 1]) if place is not None and place + 1 < len(others) else "",
        save=link("/report", name=name),
        **content,
    )


def compare(view: View, request: Request) -> Response:
    """Compare two runs row by row."""
    require_extra()
    from batchkit.evaluation import side_by_side  # noqa: PLC0415 - an extra
    from batchkit.reports.evaluation_tables import paired  # noqa: PLC0415 - as above

    query = request.query_params
    names = [query.get("a", ""), query.get("b", "")]
    if not all(names) or names[0] == names[1]:
        raise UsageError("there are no two different runs to compare", hint="choose two on the page of a suite")
    try:
        found = view.large.get(("pair", *names), lambda: side_by_side.compare_all(view.reader.as_runner, names))
    except StoreUnusable as error:
        raise UsageError(
            "the two runs have other scorers or labels: their answers must be scored again first",
            hint=f"`batchkit compare {names[0]} {names[1]}` does it, and sends nothing",
        ) from error
    return respond(
        "compare.html",
        token=view.change_token,
        title=f"{names[0]} and {names[1]}",
        first=names[0],
        second=names[1],
        swap=link("/compare", a=names[1], b=names[0]),
        compared=found.comparisons[0],
        tables=list(paired(found.comparisons[0])),
    )


def _run_line(found: PastRun) -> dict[str, Any]:
    state: str = found.verdict
    if found.progress is not None:
        counts = found.progress.counts
        state = f"{found.verdict}: {formatting.percent(found.progress.answered, counts.total)} answered"
    return {
        "name": found.run,
        "url": link("/run", name=found.run),
        "kind": "" if found.kind == "series" else found.kind,
        "state": state,
        "tone": VERDICT_TONES.get(found.verdict, "open"),
        "started": f"{formatting.moment(found.started_at)} UTC",
        "scores": _scores(found),
        "failed": f"{found.failed_answers:,}" if found.failed_answers else "",
        "cost": "" if found.cost_usd is None else f"${found.cost_usd:,.2f}",
    }


def _scores(found: PastRun) -> Sequence[tuple[str, str, str, str]]:
    """Return the scores of a run: scorer and model, mean with interval, change, tone."""
    lines = []
    for score in found.scores[:8]:
        change = "" if score.difference is None else f"{score.difference:+.3f}"
        tone = "down" if score.is_alarm else ""
        who = " ".join(filter(None, (score.scorer, formatting.short_models([score.model])[score.model])))
        lines.append(
            (cut(who, _NAME_BYTES).text, f"{score.mean:.3f} ({score.low:.2f} to {score.high:.2f})", change, tone)
        )
    return lines
