"""Adopted batches, and the batches at the provider, on a terminal and for machines."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rich.text import Text

from batchkit import formatting
from batchkit.cli.render import exits, machine
from batchkit.cli.render.outcome import next_step
from batchkit.cli.render.priced import estimate_for_machines, estimate_lines
from batchkit.engine.progress import Reopenable
from batchkit.models import BatchStatus, ShardState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batchkit.annotation.estimate import Estimate
    from batchkit.api.adopting import AdoptionReport, ListedBatch
    from batchkit.cli.options.common import Where

_METADATA_CHARS = 40
_LISTED_IDS = 5


def exit_code(report: AdoptionReport) -> int:
    """Return the exit code: 4 while files of ended batches are to be fetched, 3 when requests of ended batches have no answer."""
    progress = report.progress
    if progress.shards.get(ShardState.ENDED):
        return exits.NOT_FINISHED
    if progress.is_finished and (not progress.all_succeeded or report.unnamed):
        return exits.SOME_FAILED
    return exits.SUCCEEDED


def adoption_lines(report: AdoptionReport, where: Where) -> Iterator[Text]:
    """Return the lines that say what was adopted, what is missing, what sending it costs, and what to do next."""
    workload = report.progress.workload
    name = workload.name
    batches = formatting.counted(len(report.batch_ids), "batch", "batches")
    requests = formatting.counted(report.progress.counts.total, "request")
    yield Text(f"{formatting.printable(name)}: {batches} with {requests} adopted")
    yield Text(", ".join(f"{count:,} {what}" for what, count in _counts(report)))
    if report.unnamed:
        unnamed = formatting.counted(report.unnamed, "more request")
        yield Text(f"{unnamed} without an answer: no file names them, and they cannot be sent again")
    for reason in report.progress.failures[:_LISTED_IDS]:
        yield Text(f"  {reason.count:,} {reason.code}: {formatting.printable(reason.sample, 100)}", style="dim")
    if report.unsent:
        unsent = formatting.counted(report.unsent, "request")
        yield Text(f"nothing is sent again before you say so; {unsent} can be:")
        estimate = estimate_of(report)
        if estimate is not None:
            yield from (Text(f"  {line}") for line in estimate_lines(estimate))
        yield next_step("send", where.command("resubmit", name))
    elif report.progress.reopenable is Reopenable.REFUSED:
        failed = formatting.counted(report.failed, "request")
        yield Text(f"nothing is sent again before you say so; {failed} that failed can be, most likely to fail again:")
        yield next_step("send", where.command("resubmit", name, "--failed"))
    if not report.progress.is_finished:
        yield next_step("wait", where.command("watch", name))
    yield next_step("results", where.command("export", name, f"{name}.results.jsonl"))


def adoption_for_machines(report: AdoptionReport, *, exit_code: int) -> dict[str, Any]:
    """Return the JSON of ``adopt``; ``estimate`` is that of sending the ``unsent`` requests, null where prices are not installed."""
    estimate = estimate_of(report)
    return {
        **machine.outcome(report.progress, exit_code=exit_code, output=None),
        "batches": list(report.batch_ids),
        "counts": report.counts,
        "unnamed": report.unnamed,
        "unsent": report.unsent,
        "estimate": None if estimate is None else estimate_for_machines(estimate),
    }


def estimate_of(report: AdoptionReport) -> Estimate | None:
    """Return the estimate of sending the rest; None where the prices are not installed (the extra ``annotate``)."""
    if find_spec("genai_prices") is None:
        return None
    from batchkit.annotation.estimate import estimate  # noqa: PLC0415 - an extra
    from batchkit.provider.pricing import pricing_of  # noqa: PLC0415 - as above

    return estimate(dict(report.rest), pricing_of(report.progress.workload.provider, report.progress.workload.lane))


def listing_lines(found: Sequence[ListedBatch]) -> Iterator[Text]:
    """Return what ``adopt --list`` prints, the newest batch first: an id is too long for a table beside everything else."""
    for one in found:
        batch = one.batch
        counts = [f"{batch.counts.completed:,} of {formatting.counted(batch.counts.total, 'line')} answered"]
        if one.unanswered:
            counts.append(
                f"{one.unanswered:,} {'expired' if batch.status == BatchStatus.EXPIRED else 'without an answer'}"
            )
        if batch.counts.failed:
            counts.append(f"{batch.counts.failed:,} with an error")
        yield Text.assemble(
            (formatting.printable(batch.id), "bold"), f"  {formatting.printable(batch.status)}  {', '.join(counts)}"
        )
        facts = [] if batch.created_at is None else [f"created {formatting.moment(batch.created_at)}"]
        if one.vanishes_at is not None:
            facts.append(f"deleted there {formatting.moment(one.vanishes_at)}")
        facts.append(formatting.printable(batch.endpoint))
        facts += [formatting.printable(f"{key}={value}", _METADATA_CHARS) for key, value in batch.metadata.items()]
        if one.workload is not None:
            facts.append(f"held by {formatting.printable(one.workload)} here")
        yield Text(f"    {', '.join(filter(None, facts))}", style="dim")


def listing_for_machines(found: Sequence[ListedBatch]) -> dict[str, Any]:
    """Return the JSON of ``adopt --list``. Times are Unix seconds; ``unanswered`` requests have neither an answer nor an error."""
    return {
        "schema_version": machine.SCHEMA_VERSION,
        "batches": [
            {
                "id": one.batch.id,
                "created_at": one.batch.created_at,
                "status": one.batch.status,
                "endpoint": one.batch.endpoint,
                "window": one.batch.completion_window,
                "total": one.batch.counts.total,
                "completed": one.batch.counts.completed,
                "failed": one.batch.counts.failed,
                "unanswered": one.unanswered,
                "vanishes_at": one.vanishes_at,
                "metadata": dict(one.batch.metadata),
                "workload": one.workload,
            }
            for one in found
        ],
    }


def _counts(report: AdoptionReport) -> Iterator[tuple[str, int]]:
    """Return the counts worth showing; those that are not always there only when they are not 0."""
    shown = {"running": "still running"}
    for what, count in report.counts.items():
        if count or what in {"answered", "expired", "failed", "missing"}:
            yield shown.get(what, what), count
