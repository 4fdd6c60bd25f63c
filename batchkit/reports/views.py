"""From facts to the contents of the page: titles, texts, figures and charts. The template only arranges them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from batchkit import formatting
from batchkit.engine import situation
from batchkit.engine.budget_texts import limits_text
from batchkit.models import BatchStatus, OutcomeKind, RequestState
from batchkit.provider.pricing import pricing_of
from batchkit.reports import charts, workload_charts
from batchkit.reports.costs import cost_text, costs_of
from batchkit.reports.headline import Headline, headline
from batchkit.reports.text import cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from batchkit.engine.progress import Progress
    from batchkit.models import FailureReason
    from batchkit.reports.facts import WorkloadFacts
    from batchkit.reports.rows import ShownRow

_SAMPLE_BYTES = 600
_CENT = 0.01
_ATTENTION = 12
_KINDS: dict[str, str] = {
    "down": "score fell",
    "up": "score rose",
    "disputed": "annotators disagree",
    "thin": "few votes",
    "unanswered": "no valid answer",
    RequestState.FAILED: "failed",
    RequestState.CANCELLED: "cancelled",
    RequestState.PENDING: "pending",
    RequestState.IN_FLIGHT: "in flight",
    RequestState.SUCCEEDED: "succeeded",
}
#: What became of an attempt, by its ``OutcomeKind``.
OUTCOME_TEXTS: dict[str, str] = {
    OutcomeKind.REFUSED: "refused permanently",
    OutcomeKind.TRANSIENT: "transient error",
    OutcomeKind.EXPIRED: "expired",
    OutcomeKind.CANCELLED: "cancelled",
    OutcomeKind.MISSING: "in neither file",
    OutcomeKind.INVALID: "invalid answer",
}


class Figure(NamedTuple):
    """A number to highlight, its label, and a remark."""

    label: str
    value: str
    note: str = ""


class Legend(NamedTuple):
    """The meaning of a colour, and its amount."""

    tone: str
    label: str
    value: str


class Counted(NamedTuple):
    """A row of a table with a bar after its ``cells``."""

    cells: tuple[str, ...]
    bar: Markup
    value: str


@dataclass(frozen=True, slots=True)
class Counts:
    """A table of counts; ``note`` says what was read."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[Counted, ...]
    note: str = ""
    value_name: str = "Count"


@dataclass(frozen=True, slots=True)
class Spent:
    """A row of the table of tokens and costs."""

    model: str
    prompt_tokens: str
    completion_tokens: str
    cost: str


@dataclass(frozen=True, slots=True)
class Money:
    """Tokens and costs by model, and their basis."""

    title: str
    lines: tuple[Spent, ...]
    note: str


@dataclass(frozen=True, slots=True)
class WorkloadView:
    """A workload for the template; a section without content is None or empty."""

    name: str
    headline: Headline
    facts_line: str
    bar: Markup
    legend: tuple[Legend, ...]
    figures: tuple[Figure, ...]
    failures: Counts | None
    unanswered: Counts | None
    progress: workload_charts.WorkloadChart | None
    timeline: workload_charts.Timeline | None
    durations: workload_charts.WorkloadChart | None
    attempts: workload_charts.WorkloadChart | None
    expiry: Counts | None
    money: Money | None
    attention: tuple[tuple[str, ...], ...]
    attention_more: int
    about: tuple[tuple[str, str], ...]


def workload_view(facts: WorkloadFacts) -> WorkloadView:
    """Return the texts, figures and charts for a workload's facts."""
    progress = facts.progress
    counts = progress.counts
    parts = tones(progress)
    return WorkloadView(
        name=progress.workload.name,
        headline=headline(progress),
        facts_line=_facts_line(facts),
        bar=charts.bar([charts.Part(tone, amount) for tone, _, amount in parts], counts.total, height=14),
        legend=tuple(
            Legend(tone, label, f"{amount:,} ({formatting.percent(amount, counts.total)})")
            for tone, label, amount in parts
            if amount
        ),
        figures=tuple(_figures(facts)),
        failures=_failures(progress),
        unanswered=_unanswered_attempts(facts),
        progress=workload_charts.progress(facts),
        timeline=workload_charts.timeline(facts),
        durations=workload_charts.durations(facts),
        attempts=workload_charts.attempts(facts),
        expiry=_expiry(facts),
        money=_money(facts),
        attention=tuple(_attention(progress)),
        attention_more=max(len(progress.attention) - _ATTENTION, 0),
        about=tuple(_about(facts)),
    )


def usd(amount: float | None) -> str:
    """Return an amount of US dollars as text, with enough digits for small ones; ``unknown`` for None."""
    if amount is None:
        return "unknown"
    if 0 < amount < _CENT:
        return f"${amount:.2g}" if amount >= 0.0001 else "less than $0.0001"  # noqa: PLR2004 - smaller amounts do not matter
    return f"${amount:,.2f}"


def tones(progress: Progress) -> list[tuple[str, str, int]]:
    """Return the parts of a workload's bar: colour, label, requests."""
    counts = progress.counts
    return [
        ("fill-good", "succeeded", counts.succeeded),
        ("fill-bad", "failed", counts.failed),
        ("fill-void", "cancelled", counts.cancelled),
        ("fill-near", "answered, not downloaded", progress.not_fetched),
        ("fill-open", "in flight", progress.in_flight),
        ("fill-idle", "unanswered in ended batches", progress.unanswered),
        ("fill-idle", "not sent", progress.never_sent),
        ("fill-idle", "to send again", progress.to_send_again),
        ("fill-idle", situation.FOLLOWING, counts.following),
    ]


def _facts_line(facts: WorkloadFacts) -> str:
    workload, progress = facts.workload, facts.progress
    took = formatting.duration(facts.worked_seconds)
    end = f"finished after {took} of work" if progress.is_finished else f"{took} of work so far"
    line = (
        f"Started {formatting.moment(workload.created_at)} UTC, {end}; seen {formatting.moment(progress.read_at)} UTC"
    )
    if progress.is_finished:
        return line
    waits = "; ".join(wait.sentence(progress.read_at, utc=True) for wait in situation.waits(progress))
    return f"{line}. {situation.answered_line(progress)}; {waits}; worked on by {situation.workers(progress, progress.read_at)}"


def _figures(facts: WorkloadFacts) -> list[Figure]:
    progress = facts.progress
    counts, usage = progress.counts, progress.usage
    batches = sum(facts.shards.statuses.values())
    found = [
        Figure(
            "Succeeded", formatting.percent(counts.succeeded, counts.total), f"{counts.succeeded:,} of {counts.total:,}"
        )
    ]
    if counts.failed or counts.cancelled:
        note = f"{counts.failed:,} failed" + (f", {counts.cancelled:,} cancelled" if counts.cancelled else "")
        found.append(Figure("Without an answer", f"{counts.failed + counts.cancelled:,}", note))
    if counts.unresolved:
        note = f"{progress.answered:,} of {counts.total:,}, {progress.fetched:,} downloaded"
        found.append(Figure("Answered", formatting.percent(progress.answered, counts.total), note))
    if usage.total_tokens or facts.shards.has_recordings:
        found.append(_cost(facts))
    if progress.budget is not None:
        found.append(Figure("Budget", limits_text(progress.budget.budget), cost_text(progress)))
    elif not progress.is_finished and (cost := cost_text(progress)):
        found.append(Figure("Still to come", usd(costs_of(progress).to_come_usd), cost))
    if usage.total_tokens:
        tokens = (
            f"{formatting.short_count(usage.prompt_tokens)} in, {formatting.short_count(usage.completion_tokens)} out"
        )
        found.append(Figure("Tokens", formatting.short_count(usage.total_tokens), tokens))
    if unsent := facts.workload.unsent_requests:
        found.append(Figure("Not sent", f"{unsent:,}", "answered by other requests"))
    took = formatting.duration(facts.worked_seconds)
    found.append(Figure("Time", took, "of work, to the last merge" if progress.is_finished else "of work so far"))
    ended = facts.shards.statuses.get(BatchStatus.COMPLETED, 0)
    found.append(Figure("Batches", f"{batches:,}", f"{ended:,} completed"))
    if progress.expired_attempts:
        found.append(
            Figure(
                "Attempts unanswered", f"{progress.expired_attempts:,}", "expired or lost, sent again unless cancelled"
            )
        )
    return found


def _cost(facts: WorkloadFacts) -> Figure:
    spending = facts.spending
    if not spending.usage.total_tokens:
        return Figure("Cost", "unknown", "recordings are billed by the second")
    if spending.cost_usd is None:
        return Figure("Cost", "unknown", "no price for every model")
    remarks = [f"at {pricing_of(facts.workload.provider, facts.workload.lane).kind}"]
    if spending.is_estimate:
        remarks.append("an estimate")
    if facts.shards.has_recordings:
        remarks.append("without the recordings")
    return Figure("Cost", usd(spending.cost_usd), ", ".join(remarks))


def _failures(progress: Progress) -> Counts | None:
    reasons = progress.failures
    if not reasons:
        return None
    failed = progress.counts.failed
    first = reasons[0]
    lead = "all" if len(reasons) == 1 else f"{formatting.percent(first.count, failed)} of them"
    lines = [_failure(reason, failed) for reason in reasons]
    rest = failed - sum(reason.count for reason in reasons)
    if rest > 0:
        lines.append(Counted(("other codes", ""), charts.bar([charts.Part("fill-bad", rest)], failed), f"{rest:,}"))
    return Counts(
        f"{formatting.counted(failed, 'request')} failed, {lead} with {_brief(first.code)}",
        ("Reason", "For example"),
        tuple(lines),
    )


def _failure(reason: FailureReason, failed: int) -> Counted:
    name = reason.code if reason.status_code is None else f"{reason.status_code} {reason.code}"
    chart = charts.bar([charts.Part("fill-bad", reason.count)], failed)
    return Counted((_brief(name), cut(reason.sample, _SAMPLE_BYTES).text), chart, f"{reason.count:,}")


def _unanswered_attempts(facts: WorkloadFacts) -> Counts | None:
    if not facts.reasons:
        return None
    most = max(reason.attempts for reason in facts.reasons)
    lines = [
        Counted(
            (
                OUTCOME_TEXTS.get(reason.kind, reason.kind),
                cut(" ".join(filter(None, (reason.code, reason.sample))), _SAMPLE_BYTES).text,
            ),
            charts.bar([charts.Part("fill-late", reason.attempts)], most),
            f"{reason.attempts:,}",
        )
        for reason in facts.reasons
    ]
    seen = facts.reasons_seen
    title = f"{formatting.counted(seen.counted, 'attempt')} returned no usable answer"
    note = ""
    if not seen.is_whole:
        title = f"About {formatting.counted(seen.total, 'attempt')} returned no usable answer"
        note = f"Only the latest {seen.counted:,} of them were read."
    return Counts(title, ("What happened", "Code and message"), tuple(lines), note)


def _expiry(facts: WorkloadFacts) -> Counts | None:
    rows = facts.shards.expiry
    expired, attempts = sum(row.expired for row in rows), sum(row.attempts for row in rows)
    if not expired:
        return None
    lines = [
        Counted(
            (row.window, f"up to {row.lines:,}", f"{row.shards:,}", f"{row.expired:,} of {row.attempts:,}"),
            charts.bar([charts.Part("fill-late", row.expired)], row.attempts),
            formatting.percent(row.expired, row.attempts),
        )
        for row in rows
    ]
    return Counts(
        f"{formatting.percent(expired, attempts)} of all attempts returned no answer, by window and shard size",
        ("Window", "Requests a shard", "Shards", "Unanswered"),
        tuple(lines),
        "An attempt is unanswered if its batch expired, was cancelled, or did not list it.",
        "Share",
    )


def _money(facts: WorkloadFacts) -> Money | None:
    spending = facts.spending
    if not spending.usage.total_tokens:
        return None
    lines = tuple(
        Spent(
            _brief(spent.model) or "(not named in the answers)",
            f"{spent.prompt_tokens:,}",
            f"{spent.completion_tokens:,}",
            usd(spent.cost_usd),
        )
        for spent in spending.models
    )
    total = spending.usage
    if len(lines) > 1:
        lines += (
            Spent("all models", f"{total.prompt_tokens:,}", f"{total.completion_tokens:,}", usd(spending.cost_usd)),
        )
    cost = spending.cost_usd
    pricing = pricing_of(facts.workload.provider, facts.workload.lane)
    known = f"about {usd(cost)}" if spending.is_estimate else usd(cost)
    tokens = f"{formatting.short_count(total.total_tokens)} tokens"
    title = f"{tokens}, {known}" if cost is not None else f"{tokens}; their cost is unknown"
    basis = [
        f"{pricing.kind.capitalize()} of {pricing.as_of}, with a discount of {pricing.discount or 0:.0%}; only the provider's bill is exact."
    ]
    if spending.sampled is not None:
        basis.append(
            f"The split by model is estimated from {formatting.counted(spending.sampled, 'answer')} spread over the input."
        )
    if facts.shards.has_recordings:
        basis.append("Recordings are billed by the second and are not included.")
    return Money(title, lines, " ".join(basis))


def _attention(progress: Progress) -> list[tuple[str, ...]]:
    return [
        (
            _brief(batch.id),
            _brief(batch.status),
            f"{batch.counts.completed:,} of {batch.counts.total:,}",
            f"The provider says: {cut(batch.problems[0].message, _SAMPLE_BYTES).text}"
            if batch.problems
            else ("Its window ran out" if batch.status == BatchStatus.EXPIRED else ""),
        )
        for batch in progress.attention[:_ATTENTION]
    ]


def _about(facts: WorkloadFacts) -> list[tuple[str, str]]:
    workload = facts.workload
    policy = workload.policy
    return [
        ("Input", _brief(workload.source)),
        *(
            [("Skipped", f"{formatting.counted(workload.skipped_rows, 'row')} without a request")]
            if workload.skipped_rows
            else []
        ),
        *([("Reuse", situation.unsent_text(facts.progress))] if workload.unsent_requests else []),
        ("Created", f"{formatting.moment(workload.created_at, to_the_second=True)} UTC"),
        ("Seen", f"{formatting.moment(facts.progress.read_at, to_the_second=True)} UTC"),
        ("Window", f"{workload.window}, after expiry up to {workload.max_window}"),
        ("Shards", f"up to {formatting.counted(workload.shard_lines, 'request')} each"),
        ("Retries", f"{policy.max_attempts} after errors, {policy.max_expiries} after expiry"),
        ("Digest of the input", (workload.input_sha256 or "")[:16]),
    ]


def row_kinds(rows: Sequence[ShownRow]) -> list[tuple[str, str, int]]:
    """Return the kinds of rows by which a reader can filter: (value in the row, label, count), the worst first."""
    counted = Counter(kind for row in rows for kind in row.kinds)
    return [(kind, label, counted[kind]) for kind, label in _KINDS.items() if counted[kind]]


def _brief(text: str) -> str:
    return cut(text, 200).text
