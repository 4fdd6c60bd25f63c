"""The pictures of a workload: what is drawn from its facts, with a title that says what is seen and the same in words."""

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
class Picture:
    """A chart with its title; ``note`` says what it rests on."""

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
    """Batches over time, a line each or neighbours together."""

    title: str
    lines: tuple[TimelineLine, ...]
    axis: Markup
    is_grouped: bool


def progress(facts: WorkloadFacts) -> Picture | None:
    """Draw how results came in over time."""
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
    says = (
        f"Results over time: {done[-1][1]:,.0f} of {total:,} within {formatting.duration(domain.high - domain.low)},"
        f" of which {failed[-1][1]:,.0f} failed."
    )
    note = "Results as they were merged (UTC)" + ("; in red those that failed." if failed[-1][1] else ".")
    return Picture(title, charts.staircase(domain, lines, max(total, done[-1][1]), says=says), note)


def timeline(facts: WorkloadFacts) -> Timeline | None:
    """Draw when batches were submitted, had ended, and were merged."""
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


def durations(facts: WorkloadFacts) -> Picture | None:
    """Draw how long batches took by the provider's clock."""
    seconds = facts.shards.durations
    if not seconds:
        return None
    middle, late = (formatting.duration(percentile(seconds, share)) for share in (0.5, 0.95))
    title = f"Half of the batches ended within {middle}, 95 % within {late}"
    if middle == late:
        title = f"The batch took {middle}" if len(seconds) == 1 else f"95 % of the batches ended within {late}"
    says = (
        f"{title}; the quickest took {formatting.duration(seconds[0])}, the slowest {formatting.duration(seconds[-1])}."
    )
    note = f"From creation to end by the provider's clock; {formatting.counted(len(seconds), 'batch', 'batches')}. {_requests(facts)}"
    bins = duration_bins(seconds)
    if len(bins) == 1:  # one column says nothing
        return Picture(title, Markup(), note.strip())
    return Picture(title, charts.columns(bins, says=says, every=max(math.ceil(len(bins) / 4), 1)), note.strip())


def duration_bins(ordered: Sequence[float]) -> list[tuple[str, int]]:
    """Count durations (seconds, in order) in at most a dozen columns of a round width, each named by its lower end."""
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
    """Say what single requests took, as far as the provider tells and the sample holds."""
    seconds = facts.spending.request_seconds
    if not seconds:
        return ""
    text = f"A request itself took {percentile(seconds, 0.5):.2f} s in the middle, {percentile(seconds, 0.95):.2f} s at the 95th percentile"
    return f"{text} (of {formatting.counted(len(seconds), 'answer')} from all over the input)."


def attempts(facts: WorkloadFacts) -> Picture | None:
    """Draw how often requests were sent; None when none was sent twice."""
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
    return Picture(title, charts.columns(bins, says=f"{title}. {listed}."), note)
