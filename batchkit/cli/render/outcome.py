"""The last lines of a command: the result of the workload, and its exit code for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from batchkit import formatting
from batchkit.api.remembered import TABLE_PREFIX, remembered
from batchkit.cli.render import display, exits
from batchkit.engine import deadline_words, situation
from batchkit.engine.progress import Reopenable, WorkloadState
from batchkit.models import TERMINAL_STATUSES, BatchStatus, ShardState
from batchkit.reports.costs import cost_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from batchkit.api.remembered import RememberedOutput
    from batchkit.cli.options.common import Where
    from batchkit.engine.progress import Progress

_LABEL_WIDTH = 11
_STOPPING = TERMINAL_STATUSES | {BatchStatus.CANCELLING, BatchStatus.FINALIZING}


def exit_code(progress: Progress) -> int:
    """Return the exit code for the state of a workload."""
    if progress.state is WorkloadState.STOPPED_BY_BUDGET:
        return exits.STOPPED_BY_BUDGET
    if not progress.is_finished:
        return exits.NOT_FINISHED
    return exits.SUCCEEDED if progress.all_succeeded else exits.SOME_FAILED


def summary(progress: Progress, where: Where, *, output: Path | None) -> Iterator[Text]:
    """Return the result of a workload, line by line; ``output`` is the file that its results were exported to."""
    yield _verdict(progress)
    if progress.workload.skipped_rows:
        yield Text(display.skipped_text(progress))
    if progress.workload.unsent_requests:
        yield Text(situation.unsent_text(progress))
    if progress.failures:
        yield display.failures_text(progress.failures)
    yield from _facts(progress)
    if deadline := deadline_words.summary_text(progress):
        yield Text(deadline)
    if output is not None:
        yield next_step("results", str(output))
    elif progress.is_finished:
        yield from _not_written(progress, where)
    if progress.is_finished and (words := resubmit_words(progress)) is not None:
        yield next_step("again", where.command(*words))


def resubmit_words(progress: Progress) -> tuple[str, ...] | None:
    """Return the command that sends again what a finished workload has no answer to; None when there is nothing it could send."""
    name = progress.workload.name
    match progress.reopenable:
        case Reopenable.REFUSED:
            return "resubmit", name, "--failed"
        case Reopenable.UNANSWERED:
            return "resubmit", name
        case Reopenable.NOTHING:
            return None
    if progress.counts.failed:
        return "resubmit", name, "--failed"
    return ("resubmit", name) if progress.counts.cancelled else None


def finished_before(progress: Progress, where: Where, *, output: Path | None) -> Iterator[Text]:
    """Return the lines that say that there is nothing to cancel, with the result of the workload."""
    yield Text(f"{formatting.printable(progress.workload.name)} was finished before: there is nothing to cancel")
    yield from summary(progress, where, output=output)


def written(outputs: Iterable[Path]) -> Iterator[Text]:
    """Return the lines that name the written files."""
    for output in outputs:
        yield next_step("results", str(output))


def _not_written(progress: Progress, where: Where) -> Iterator[Text]:
    """Return the lines that say that no file was written, who can write the requested one, and which command writes one here."""
    name = progress.workload.name
    output = remembered(progress.workload)
    if output is None:
        yield Text("the results are in the database; no file was written: no command named one with --output")
    else:
        targets = " and ".join(formatting.printable(target) for target in output.targets)
        yield Text(
            f"not written: {targets}. `batchkit watch {formatting.printable(name)}`{_where_writable(output)} writes it"
        )
    if progress.workload.recipe is None:
        yield next_step("results", where.command("export", name, f"{name}.results.jsonl"))
    else:
        yield next_step("results", "the command that began it, with -o FILE, writes the table with its answers")
        yield next_step("answers", where.command("export", name, f"{name}.results.jsonl"))


def _where_writable(output: RememberedOutput) -> str:
    return "" if all(target.startswith(TABLE_PREFIX) for target in output.targets) else f" on {output.host}"


def is_submitted(progress: Progress) -> bool:
    """Return whether every shard has its batch."""
    return not any(progress.shards.get(state) for state in display.UNSENT_STATES)


def submitted(progress: Progress, where: Where) -> Iterator[Text]:
    """Return the lines that say that everything is submitted."""
    name = progress.workload.name
    batches = formatting.counted(sum(progress.batches.values()), "batch", "batches")
    requests = formatting.counted(progress.counts.in_flight, "request")
    yield Text(f"{formatting.printable(name)}: {batches} with {requests} submitted")
    output = remembered(progress.workload)
    if output is not None:
        yield Text(f"whoever finishes it{_where_writable(output)} writes the results to {' and '.join(output.targets)}")
    yield next_step("resume", where.command("watch", name))


def unfinished(progress: Progress, where: Where, *, again: str) -> Iterator[Text]:
    """Return the lines that say that a workload is not finished, and that ``again`` resumes it."""
    counts = progress.counts
    batches = sum(progress.batches.values())
    name = formatting.printable(progress.workload.name)
    if not progress.is_split:
        yield Text(f"{name}: its input is not split whole yet, nothing was sent")
        yield Text("resume: `batchkit run` with the input again, unless another command is splitting it now")
        return
    left = formatting.counted(counts.unresolved, "request")
    yield Text(f"{name}: {left} of {counts.total:,} without a result here")
    yield Text(f"{situation.answered_line(progress)}; {', '.join(situation.rest_parts(progress))}".rstrip("; "))
    for wait in situation.waits(progress):
        yield Text(wait.sentence(progress.read_at))
    if deadline := deadline_words.summary_text(progress):
        yield Text(deadline)
    if batches:
        yield Text("the batches keep running at the provider")
    if progress.state is not WorkloadState.STOPPED_BY_BUDGET:
        yield next_step("resume", again)
    yield next_step("status", where.command("status", progress.workload.name))


def stopping(progress: Progress, where: Where) -> Iterator[Text]:
    """Return the lines that say that every batch was asked to stop."""
    name = progress.workload.name
    batches = formatting.counted(sum(progress.batches.values()), "batch", "batches")
    yield Text(f"{formatting.printable(name)}: {batches} asked to stop, which may take ten minutes")
    yield Text(display.plain_line(progress, display.Moment(progress.read_at)), style="dim")
    yield next_step("wait", where.command("watch", name))


def is_stopping(progress: Progress) -> bool:
    """Return whether every batch was asked to stop, and nothing is left to be sent."""
    return is_submitted(progress) and all(status in _STOPPING for status in progress.batches)


def left(progress: Progress, where: Where) -> Iterator[Text]:
    """Return the lines about a workload that an error has stopped; the error itself and its hint are printed elsewhere."""
    batches = sum(progress.batches.values())
    parts = [situation.answered_line(progress), *situation.rest_parts(progress)]
    yield Text(f"{formatting.printable(progress.workload.name)}: {'; '.join(parts)}")
    if batches:
        verb = "keeps" if batches == 1 else "keep"
        yield Text(f"{formatting.counted(batches, 'batch', 'batches')} {verb} running at the provider")
    if creations := _creations(progress):
        yield Text(creations)
    yield next_step("status", where.command("status", progress.workload.name))


def reopened(count: int, progress: Progress, *, unsendable: int) -> Iterator[str]:
    """Return the lines that say how many requests were made pending again, and which command makes more pending.

    ``unsendable`` ones have no answer, and their lines are not known here.
    """
    yield f"{formatting.counted(count, 'request')} will be sent again" if count else "no request will be sent again"
    if unsendable:
        yield f"{formatting.counted(unsendable, 'request')} cannot be sent: the batch was adopted without its input file"
    if progress.counts.failed > unsendable:
        more = formatting.counted(progress.counts.failed - unsendable, "failed request")
        yield f"hint: --failed also sends {more} again"


def never_split(progress: Progress, where: Where) -> Iterator[Text]:
    """Return the lines that say that a workload with an interrupted split has nothing to stop."""
    name = progress.workload.name
    yield Text(f"{formatting.printable(name)}: its split was interrupted, nothing of it was sent, and nothing will be")
    yield next_step("delete it", where.command("clean", name))


def interrupted(progress: Progress | None, where: Where, *, again: str) -> Iterator[Text]:
    """Return the lines that say what Ctrl-C stopped, what continues, and that ``again`` resumes the workload."""
    if progress is None:
        yield Text("interrupted before anything was sent")
        yield next_step("run again", again)
        return
    batches = sum(progress.batches.values())
    if progress.is_finished:
        yield Text("interrupted: all answers are in; nothing is lost")
    elif batches:
        verb = "keeps" if batches == 1 else "keep"
        yield Text(
            f"interrupted: {formatting.counted(batches, 'batch', 'batches')} {verb} running at the provider; nothing is lost"
        )
    elif progress.shards.get(ShardState.SUBMITTING):
        yield Text("interrupted: what was done so far is kept")
    else:
        yield Text("interrupted: no batch is running at the provider, and what was done so far is kept")
    if creations := _creations(progress):
        yield Text(creations)
    yield next_step("resume", again)
    yield next_step("status", where.command("status", progress.workload.name))
    if not progress.is_finished:
        yield next_step("stop it", where.command("cancel", progress.workload.name))


def _creations(progress: Progress) -> str:
    """Return the text that says how many batches may exist although their creation got no reply yet; empty without such batches."""
    count = progress.shards.get(ShardState.SUBMITTING, 0)
    if not count:
        return ""
    them = "it" if count == 1 else "them"
    asked = formatting.counted(
        count, "more batch" if progress.batches else "batch", "more batches" if progress.batches else "batches"
    )
    return f"{asked} may have been created at the provider: the same command looks for {them} before it sends anything again"


def interrupted_all(*, again: str) -> Iterator[Text]:
    """Return the lines that say what continues after Ctrl-C when several workloads were driven."""
    yield Text("interrupted: the batches keep running at the provider; nothing is lost")
    yield next_step("resume", again)


def _verdict(progress: Progress) -> Text:
    counts = progress.counts
    name = formatting.printable(progress.workload.name)
    if progress.all_succeeded:
        return Text.assemble(f"{name}: ", (f"all {formatting.counted(counts.total, 'request')} succeeded", "green"))
    line = Text.assemble(f"{name}: {counts.succeeded:,} of {formatting.counted(counts.total, 'request')} succeeded")
    for count, word, style in ((counts.failed, "failed", "red"), (counts.cancelled, "cancelled", "magenta")):
        if count:
            line.append(", ").append(f"{count:,} {word}", style=style)
    if counts.unresolved:
        line.append(f", {counts.unresolved:,} without a result here")
    return line


def _facts(progress: Progress) -> Iterator[Text]:
    usage = progress.usage
    facts = []
    if usage.total_tokens:
        facts.append(f"{usage.prompt_tokens:,} tokens in, {usage.completion_tokens:,} out")
    if cost := cost_text(progress):
        facts.append(cost)
    if progress.expired_attempts:
        facts.append(situation.expired_text(progress))
    if progress.doubts:
        facts.append(situation.doubt_text(progress))
    if progress.is_finished and progress.last_merged_at is not None:
        worked = progress.worked_seconds
        took = progress.last_merged_at - progress.workload.created_at if worked is None else worked
        facts.append(f"done in {formatting.duration(took)}")
    if facts:
        yield Text("; ".join(facts), style="dim")


def next_step(label: str, command: str) -> Text:
    """Return a line with a possible next command, or with a place."""
    return Text.assemble(f"{label + ':':<{_LABEL_WIDTH}}", (command, "bold"), no_wrap=True)
