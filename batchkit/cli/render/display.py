"""Workloads on a terminal: pure functions from snapshots to renderables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from batchkit import formatting
from batchkit.cli.render.bar import Shares, StateBar, StateLegend
from batchkit.cli.render.machine import NO_RUNS
from batchkit.cli.render.overview import Overview
from batchkit.cli.render.priced import estimate_lines
from batchkit.engine import deadline_words, situation
from batchkit.engine.progress import Reopenable, WorkloadState
from batchkit.models import BatchStatus, Lane, ShardState
from batchkit.reports.costs import cost_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType
    from rich.spinner import Spinner

    from batchkit.annotation.estimate import Estimate
    from batchkit.doctor import Finding
    from batchkit.engine.progress import Progress
    from batchkit.models import FailureReason, Trouble
    from batchkit.steps.split_plan import SplitPlan
    from batchkit.store.evaluations import RunOf
    from batchkit.store.events import Event

_TOP_FAILURES = 5
_TOP_ATTENTION = 10
_SAMPLE_CHARS = 300
UNSENT_STATES = (ShardState.PLANNED, ShardState.UPLOADED, ShardState.SUBMITTING)
_STATE_STYLES = {
    WorkloadState.SPLITTING: "yellow",
    WorkloadState.INTERRUPTED: "red",
    WorkloadState.RUNNING: "cyan",
    WorkloadState.CANCELLING: "magenta",
    WorkloadState.STOPPED_BY_BUDGET: "yellow",
    WorkloadState.FINISHED: "bold",
}


_IDLE = {
    WorkloadState.SPLITTING: "cutting the input into shards",
    WorkloadState.INTERRUPTED: "its split was interrupted",
    WorkloadState.STOPPED_BY_BUDGET: "stopped by the budget",
}
_VERDICT_STYLES = {"regressed": "bold red", "unscored": "bold red", "incomparable": "yellow"}
_LEVEL_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}


@dataclass(frozen=True, slots=True)
class Moment:
    """Facts that only the running command knows: the current time and the next check (Unix seconds), the estimate, the outage.

    ``waiting_until`` is None while work is being done; ``time_left`` is a phrase, None where it is not shown; ``trouble`` is None
    without an outage. ``worked_seconds`` is how long the workload has been worked on, None to count from its creation.
    """

    now: float
    waiting_until: float | None = None
    time_left: str | None = None
    trouble: Trouble | None = None
    worked_seconds: float | None = None


def live_panel(progress: Progress, moment: Moment, spinner: Spinner) -> RenderableType:
    """Return the panel that is redrawn while a command waits; the spinner shows that the command is alive."""
    spinner.update(text=activity(progress, moment))
    rows = _rows(progress, moment)
    rows.append(("now", spinner))
    if not progress.is_finished and moment.time_left is not None:
        rows.append(("time left", Text(moment.time_left)))
    return _panel(progress, rows, moment)


def status_view(progress: Progress, run: RunOf | None = None) -> RenderableType:
    """Return the full output of ``status NAME``; ``run`` is the evaluation run that it belongs to."""
    workload = progress.workload
    end = _ended_at(progress)
    moment = Moment(progress.read_at if end is None else end, worked_seconds=progress.worked_seconds)
    rows = _rows(progress, moment, is_live=False)
    if not progress.is_finished:
        rows.append(("worked on by", Text(situation.workers(progress, progress.read_at))))
    if progress.state is WorkloadState.INTERRUPTED:
        rows.append(
            ("what to do", Text("the same command begins the split anew; `batchkit clean` deletes what there is"))
        )
    if run is not None:
        rows.append(("evaluation", run_text(run)))
    if workload.adopted_at is None:
        rows.append(("input", Text(workload.source)))
    else:
        holding = ""
        if workload.holds and progress.counts.failed and progress.reopenable is not Reopenable.NOTHING:
            flag = " --failed" if progress.reopenable is Reopenable.REFUSED else ""
            holding = f"; nothing is sent again before `batchkit resubmit{flag}`"
        rows.append(("adopted from", Text(f"{formatting.printable(workload.source)}{holding}")))
    rows.append(("created", Text(f"{formatting.moment(workload.created_at)} UTC")))
    limits = f"up to {formatting.counted(workload.shard_lines, 'request')} a shard"
    if workload.lane is Lane.SYNC:
        rows.append(("lane", Text(f"single calls (sync), {limits}")))
    else:
        rows.append(("cut", Text(f"{limits}, window {workload.window}, after expiry up to {workload.max_window}")))
    parts: list[RenderableType] = [_panel(progress, rows, moment)]
    if progress.attention:
        parts.append(attention_table(progress))
    return Group(*parts)


def history_table(events: Sequence[Event]) -> Table:
    """Return a table of events, one line each, in the given order."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("UTC", no_wrap=True)
    table.add_column("shard", justify="right", no_wrap=True)
    table.add_column("what happened", no_wrap=True)
    table.add_column("", overflow="fold", style="dim")
    for event in events:
        table.add_row(
            formatting.moment(event.at, to_the_second=True),
            "" if event.shard_number is None else str(event.shard_number),
            Text(formatting.printable(event.kind)),
            Text(formatting.printable(event.detail or "")),
        )
    return table


def overview(snapshots: Sequence[Progress], runs: Mapping[str, RunOf] = NO_RUNS) -> RenderableType:
    """Return a table of all workloads, one line each; ``runs`` are evaluation runs by the names of their workloads."""
    verdicts = {name: verdict_text(run) for name, run in runs.items()}
    return Overview(snapshots, style_of=_STATE_STYLES.__getitem__, shares_of=_shares, verdicts=verdicts)


def verdict_text(run: RunOf) -> Text:
    """Return the verdict of a run, unfinished until it has one."""
    verdict = run.verdict or "unfinished"
    return Text(verdict, style=_VERDICT_STYLES.get(verdict, ""))


def run_text(run: RunOf) -> Text:
    """Return a run with its suite and its verdict."""
    return Text.assemble(
        formatting.printable(run.run), ": ", verdict_text(run), f" (suite {formatting.printable(run.suite)})"
    )


def status_list(snapshots: Sequence[Progress], runs: Mapping[str, RunOf] = NO_RUNS) -> RenderableType:
    """Return the output of ``status`` without a name: a line per workload, and what each open workload waits for."""
    lines = []
    for progress in snapshots:
        waits = situation.waits(progress)
        if waits:
            line = waits[0].sentence(progress.read_at)
            by = situation.workers(progress, progress.read_at)
            name = formatting.printable(progress.workload.name)
            known = situation.news_text(progress)
            figures = f"; {known}" if known else ""
            figures += "".join(f"; {wait.sentence(progress.read_at)}" for wait in waits[1:] if wait.is_warning)
            lines.append(Text.assemble((f"{name}: ", "bold"), f"{line}; worked on by {by}{figures}"))
    return Group(overview(snapshots, runs), *lines)


def attention_table(progress: Progress) -> Table:
    """Return a table of batches with problems, the newest first; the provider's messages are distinguished from ours."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, title="batches with problems", title_justify="left")
    table.add_column("batch", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("answered", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold", ratio=1)
    for batch in progress.attention[:_TOP_ATTENTION]:
        problem = "its window ran out" if batch.status == BatchStatus.EXPIRED else ""
        if batch.problems:
            problem = f"the provider says: {formatting.printable(batch.problems[0].message, _SAMPLE_CHARS)}"
        more = f" (and {len(batch.problems) - 1} more)" if len(batch.problems) > 1 else ""
        answered = f"{batch.counts.completed:,}/{batch.counts.total:,}"
        table.add_row(Text(batch.id), Text(formatting.printable(batch.status)), answered, Text(problem + more))
    if len(progress.attention) > _TOP_ATTENTION:
        table.caption = f"and {len(progress.attention) - _TOP_ATTENTION} more: `status --json` lists up to 50"
    return table


def activity(progress: Progress, moment: Moment) -> str:
    """Return a short description of the current activity."""
    shards = progress.shards
    total = sum(count for state, count in shards.items() if state is not ShardState.WITHDRAWN)
    unsent = sum(shards.get(state, 0) for state in UNSENT_STATES)
    if progress.is_finished:
        return "all done"
    if progress.state in _IDLE:
        return _IDLE[progress.state]
    if moment.waiting_until is not None and moment.waiting_until > moment.now:
        return f"next check in {formatting.duration(moment.waiting_until - moment.now + 1)}"
    if shards.get(ShardState.ENDED):
        return (
            f"downloading results: {shards.get(ShardState.MERGED, 0):,} of {formatting.counted(total, 'shard')} merged"
        )
    if unsent:
        return f"sending: {total - unsent:,} of {formatting.counted(total, 'shard')} sent"
    return "checking the batches"


def plain_line(progress: Progress, moment: Moment) -> str:
    """Return one line of plain text with all figures, for logs."""
    parts = [situation.answered_line(progress), *situation.rest_parts(progress)]
    # The figures already show how many requests are to be sent.
    waits = [wait for wait in situation.waits(progress, moment.trouble) if wait.kind is not situation.WaitKind.NOT_SENT]
    parts += [wait.sentence(moment.now) for wait in waits]
    if moment.time_left is not None and not progress.is_finished:
        parts.append(f"time left: {moment.time_left}")
    return f"{progress.workload.name}: {'; '.join(parts)}"


def _panel(progress: Progress, rows: list[tuple[str, RenderableType]], moment: Moment) -> Panel:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")
    for label, value in rows:
        grid.add_row(label, value)
    state = progress.state
    worked = moment.worked_seconds
    elapsed = formatting.duration(moment.now - progress.workload.created_at if worked is None else worked)
    name = escape(formatting.printable(progress.workload.name))
    return Panel(
        grid,
        box=ROUNDED,
        title=f"[bold]{name}[/bold]  [{_STATE_STYLES[state]}]{state.label}[/]  [dim]{elapsed}[/dim]",
        title_align="left",
    )


def _rows(progress: Progress, moment: Moment, *, is_live: bool = True) -> list[tuple[str, RenderableType]]:
    """Return the rows of a panel; one that is not live has the age of its figures, and failures in full."""
    counts = progress.counts
    known = "" if is_live else situation.news_text(progress)
    answered = ", ".join(filter(None, (situation.answered_line(progress), known)))
    shares = _shares(progress)
    bar, legend = StateBar(counts, shares), StateLegend(counts, shares)
    rows: list[tuple[str, RenderableType]] = [
        ("requests", Group(bar, legend, Text(answered))),
        ("shards", Text(_joined({state.value: count for state, count in progress.shards.items()}) or "none yet")),
    ]
    if progress.workload.skipped_rows:
        rows.append(("skipped", Text(skipped_text(progress))))
    if progress.workload.unsent_requests:
        rows.append(("reuse", Text(situation.unsent_text(progress))))
    waits = situation.waits(progress, moment.trouble)
    labels = {"outage": "outage", "": "waiting for", "vanishing": "vanishing", "budget": "budget"}
    for wait in waits:
        kind = wait.kind.value if wait.is_warning else ""
        style = "" if not wait.is_warning else "yellow" if kind == "budget" else "bold red"
        rows.append((labels.pop(kind, ""), Text(wait.line(moment.now), style=style)))
    if progress.deadline is not None:
        rows.append(("deadline", Text(deadline_words.standing_text(progress.deadline, moment.now))))
    if progress.expired_attempts:
        rows.append(("expired", Text(situation.expired_text(progress))))
    if progress.doubts:
        rows.append(("in doubt", Text(situation.doubt_text(progress))))
    if progress.failures:
        rows.append(("failures", failures_text(progress.failures, is_cut=is_live)))
    usage = progress.usage
    if usage.total_tokens:
        tokens = (
            f"{formatting.short_count(usage.prompt_tokens)} in, {formatting.short_count(usage.completion_tokens)} out"
        )
        rows.append(("tokens", Text(tokens)))
    if cost := cost_text(progress):
        rows.append(("cost", Text(cost)))
    return rows


def _shares(progress: Progress) -> Shares:
    return Shares(
        not_fetched=progress.not_fetched,
        unanswered=progress.unanswered,
        not_sent=progress.never_sent,
        send_again=progress.to_send_again - progress.counts.pending,
    )


def plan_view(
    name: str, plan: SplitPlan, estimate: Estimate | None = None, deadline: Sequence[str] = ()
) -> RenderableType:
    """Return a description of how an input would be cut, for ``--dry-run``; ``estimate`` is its cost, ``deadline`` what its deadline means."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    shards = formatting.counted(len(plan.shards), "shard")
    grid.add_row("requests", f"{plan.requests:,} ({formatting.size(plan.bytes)})")
    if plan.blank_lines:
        grid.add_row("skipped", formatting.counted(plan.blank_lines, "blank line"))
    if plan.reused or plan.repeated:
        grid.add_row("reuse", situation.reuse_text(plan.requests, plan.reused, plan.repeated))
    window = f", window {plan.window}" if plan.lane is Lane.BATCH else ""
    grid.add_row("lane", "batches" if plan.lane is Lane.BATCH else "single calls, at the ordinary price")
    for line in deadline:
        grid.add_row("deadline", line)
    grid.add_row("shards", f"{shards} of up to {formatting.counted(plan.shard_lines, 'request')}{window}")
    for endpoint, count in sorted(plan.endpoints.items()):
        own = [(lines, size) for shard_endpoint, lines, size in plan.shards if shard_endpoint == endpoint]
        largest = formatting.size(max(size for _, size in own))
        text = (
            f"{formatting.counted(count, 'request')} in {formatting.counted(len(own), 'shard')}, the largest {largest}"
        )
        grid.add_row("endpoint", f"{endpoint}: {text}")
    for model, count in sorted(plan.models.items(), key=lambda item: -item[1]):
        grid.add_row("model", Text(f"{formatting.printable(model)}: {formatting.counted(count, 'request')}"))
    prompt, completion = formatting.short_count(plan.prompt_tokens), formatting.short_count(plan.completion_tokens)
    answers = (
        f"at most {completion} out by the requests' own limits"
        if plan.completion_tokens
        else "no limit on the tokens out"
    )
    grid.add_row("tokens", f"about {prompt} in, {answers} (an estimate)")
    for line in [] if estimate is None else estimate_lines(estimate):
        grid.add_row("price", Text(line))
    for warning, count in sorted(plan.warnings.items(), key=lambda item: -item[1]):
        grid.add_row(
            "[yellow]warning[/yellow]", Text(f"{formatting.counted(count, 'request')}: {formatting.printable(warning)}")
        )
    return Group(Text.assemble((formatting.printable(name), "bold"), ": nothing was sent"), grid)


def finding_line(finding: Finding) -> RenderableType:
    """Return the line of one doctor check."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, min_width=7)
    grid.add_column(no_wrap=True, min_width=8)
    grid.add_column(overflow="fold")
    text = Text(formatting.printable(finding.message))
    if finding.advice:
        text.append(f"\n{formatting.printable(finding.advice)}", style="bold")
    grid.add_row(Text(finding.level.value, style=_LEVEL_STYLES[finding.level.value]), finding.check, text)
    return grid


def skipped_text(progress: Progress) -> str:
    """Return the text that says how many rows of a table have no request."""
    rows = progress.workload.skipped_rows
    return f"{formatting.counted(rows, 'row')} skipped: no request; the output says why"


def failures_text(failures: Sequence[FailureReason], *, is_cut: bool = True) -> Text:
    """Return the most frequent reasons, one line each; ``is_cut`` cuts them at the terminal's edge."""
    lines = []
    for reason in failures[:_TOP_FAILURES]:
        sample = formatting.printable(reason.sample, _SAMPLE_CHARS)
        lines.append(
            Text.assemble((f"{reason.count:,}", "red"), f"  {_code(reason)}", (f": {sample}" if sample else "", "dim"))
        )
    if len(failures) > _TOP_FAILURES:
        rest = sum(reason.count for reason in failures[_TOP_FAILURES:])
        lines.append(Text(f"{rest:,}  with other codes", style="dim"))
    text = Text("\n").join(lines)
    if is_cut:
        text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _code(reason: FailureReason) -> str:
    code = formatting.printable(reason.code)
    return code if reason.status_code is None else f"{reason.status_code} {code}"


def _joined(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)


def _ended_at(progress: Progress) -> float | None:
    return progress.last_merged_at if progress.is_finished else None
