"""The charts of a workload, each with a title that states its result and a description in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from batchkit import formatting
from batchkit.reports import charts
from batchkit.reports.facts import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.reports.facts import Stretch, WorkloadFacts

_BINS = 12
_MOST_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class WorkloadChart:
    """A chart with its title; ``note`` states its basis."""

    title: str
    chart: Markup
    note: str = ""


class TimelineLine(NamedTuple):
    """A line of the timeline."""

    label: str
    span: Markup
    value: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Batches over time, one per line or several neighbours together."""

    title: str
    lines: tuple[TimelineLine, ...]
    axis: Markup
    is_grouped: bool


def progress(facts: WorkloadFacts) -> WorkloadChart | None:
    """Return a chart of the results over time."""
    steps = facts.shards.steps
    total = facts.progress.counts.total
    if not steps or not total:
        return None
    start = facts.workload.created_at
    domain = charts.Domain(start, max(facts.ended_at, steps[-1].at, start + 1))
    done = [(step.at, float(step.succeeded + step.failed)) for step in steps]
    failed = [(step.at, float(step.failed)) for step in steps]
    half = next((at for at, count in done if count >= total / 2), None)
    title = (
        f"Half of the results were in after {formatting.duration(half - start)}"
        if half is not None
        else f"{formatting.percent(int(done[-1][1]), total)} of the results are in"
    )
    lines = [("main", done)] + ([("bad", failed)] if failed[-1][1] else [])
    description = (
        f"Results over time: {done[-1][1]:,.0f} of {total:,} within {formatting.duration(domain.high - domain.low)},"
        f" of which {failed[-1][1]:,.0f} failed."
    )
    note = "Results as they were merged (UTC)" + ("; in red those that failed." if failed[-1][1] else ".")
    return WorkloadChart(title, charts.staircase(domain, lines, max(total, done[-1][1]), description=description), note)


def timeline(facts: WorkloadFacts) -> Timeline | None:
    """Return a chart of when batches were submitted, ended, and merged."""
    stretches = facts.timeline
    if not stretches:
        return None
    batches = sum(stretch.batches for stretch in stretches)
    open_batches = sum(stretch.open_batches for stretch in stretches)
    domain = charts.Domain(
        min(stretch.first_at for stretch in stretches), max(stretch.last_at for stretch in stretches) or 1.0
    )
    counted = formatting.counted(batches, "batch", "batches")
    title = f"{counted}, {open_batches:,} of them still running" if open_batches else f"{counted} over time"
    return Timeline(
        title,
        tuple(_timeline_line(stretch, domain) for stretch in stretches),
        charts.time_axis(domain),
        is_grouped=any(stretch.batches > 1 for stretch in stretches),
    )


def _timeline_line(stretch: Stretch, domain: charts.Domain) -> TimelineLine:
    is_one = stretch.batches == 1
    label = f"{stretch.first_number}" if is_one else f"{stretch.first_number}-{stretch.last_number}"
    tone = "fill-open" if stretch.open_batches else "fill-main"
    pieces = [("fill-track", stretch.first_at, stretch.last_at), (tone, stretch.submitted_at, stretch.ended_at)]
    took = formatting.duration(stretch.ended_at - stretch.submitted_at)
    return TimelineLine(label, charts.span(domain, pieces), f"{took} so far" if stretch.open_batches else took)


def durations(facts: WorkloadFacts) -> WorkloadChart | None:
    """Return a chart of how long batches took by the provider's clock."""
    seconds = facts.shards.durations
    if not seconds:
        return None
    middle, late = (formatting.duration(percentile(seconds, share)) for share in (0.5, 0.95))
    title = f"Half of the batches ended within {middle}, 95 % within {late}"
    if middle == late:
        title = f"The batch took {middle}" if len(seconds) == 1 else f"95 % of the batches ended within {late}"
    description = (
        f"{title}; the quickest took {formatting.duration(seconds[0])}, the slowest {formatting.duration(seconds[-1])}."
    )
    note = f"From creation to end by the provider's clock; {formatting.counted(len(seconds), 'batch', 'batches')}. {_requests(facts)}"
    bins = duration_bins(seconds)
    if len(bins) == 1:  # a single column has no information
        return WorkloadChart(title, Markup(), note.strip())
    return WorkloadChart(
        title, charts.columns(bins, description=description, every=max(math.ceil(len(bins) / 4), 1)), note.strip()
    )


def duration_bins(ordered: Sequence[float]) -> list[tuple[str, int]]:
    """Return the number of durations (seconds, in order) in at most a dozen columns of a round width, named by their lower end."""
    low, high = ordered[0], ordered[-1]
    width = next(
        (step for step in charts.TIME_STEPS if high - low < step * (_BINS - 1)),
        charts.nice_step((high - low) / (_BINS - 1)),
    )
    first = math.floor(low / width)
    counts = [0] * (math.floor(high / width) - first + 1)
    for value in ordered:
        counts[math.floor(value / width) - first] += 1
    return [(formatting.duration((first + place) * width), count) for place, count in enumerate(counts)]


def _requests(facts: WorkloadFacts) -> str:
    """Return how long single requests took, if the provider reports it and the sample has any."""
    seconds = facts.spending.request_seconds
    if not seconds:
        return ""
    text = f"A single request took {percentile(seconds, 0.5):.2f} s at the median, {percentile(seconds, 0.95):.2f} s at the 95th percentile"
    return f"{text} (of {formatting.counted(len(seconds), 'answer')} spread over the input)."


def attempts(facts: WorkloadFacts) -> WorkloadChart | None:
    """Return a chart of how often requests were sent; None if none was sent twice."""
    sent = {times: count for times, count in facts.attempts.items() if times > 0}
    if max(sent, default=0) <= 1:
        return None
    once, more = sent.get(1, 0), sum(count for times, count in sent.items() if times > 1)
    last = min(max(sent), _MOST_ATTEMPTS)
    bins = [(str(times), sent.get(times, 0)) for times in range(1, last + 1)]
    beyond = sum(count for times, count in sent.items() if times > last)
    if beyond:
        bins.append((f"{last + 1}+", beyond))
    share = formatting.percent(more, once + more)
    title = f"{share} of requests needed more than one attempt"
    seen = facts.attempts_seen
    note = "Attempts per request in batches that ran."
    if not seen.is_whole:
        note += f" Counted in {seen.counted:,} of {seen.total:,} requests, spread evenly over the input."
    listed = "; ".join(f"{label} attempts: {count:,}" for label, count in bins)
    return WorkloadChart(title, charts.columns(bins, description=f"{title}. {listed}."), note)
