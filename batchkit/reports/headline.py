"""The headline of a page: the state of a workload, and its exit code."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from batchkit import formatting
from batchkit.engine import situation
from batchkit.engine.budget_texts import budget_text
from batchkit.engine.progress import WorkloadState

if TYPE_CHECKING:
    from batchkit.engine.progress import Progress


class Headline(NamedTuple):
    """The state of a workload: one word, its colour, one sentence, and the exit code for scripts."""

    word: str
    tone: str
    verdict: str
    meaning: str
    command: str = ""


def headline(progress: Progress) -> Headline:
    """Return the state of a workload, with the exit code of `batchkit status --exit-code`."""
    counts = progress.counts
    name = shlex.quote(progress.workload.name)
    if progress.state is WorkloadState.SPLITTING:
        return Headline(
            "splitting",
            "open",
            "The input is still being split into shards; nothing was sent yet.",
            "Exit code 4: not finished. The command that began it resumes.",
        )
    if progress.state is WorkloadState.INTERRUPTED:
        return Headline(
            "interrupted",
            "open",
            "The split of the input was interrupted; nothing was sent.",
            "Exit code 4: not finished. The same run command starts the split again.",
        )
    if progress.state is WorkloadState.STOPPED_BY_BUDGET:
        return Headline(
            "stopped by the budget",
            "open",
            f"{situation.answered_line(progress)}; {budget_text(progress)}.",
            "Exit code 6: stopped by the budget. The command that began it resumes with a larger one, and so does this:",
            f"batchkit watch {name} --max-cost USD",
        )
    if not progress.is_finished:
        return Headline(
            progress.state.value,
            "open",
            f"{', '.join(filter(None, (situation.answered_line(progress), situation.news_text(progress, utc=True))))}.",
            "Exit code 4: not finished. This resumes it:",
            f"batchkit watch {name}",
        )
    if progress.all_succeeded:
        return Headline(
            "succeeded",
            "good",
            f"All {formatting.counted(counts.total, 'request')} succeeded.",
            "Exit code 0: every request has its answer.",
        )
    lost = [
        f"{count:,} {word}"
        for count, word in ((counts.failed, "failed permanently"), (counts.cancelled, "cancelled"))
        if count
    ]
    return Headline(
        "finished with failures" if counts.failed else "cancelled",
        "bad" if counts.failed else "void",
        f"{counts.succeeded:,} of {formatting.counted(counts.total, 'request')} succeeded; {' and '.join(lost)}.",
        "Exit code 3: finished, but not every request succeeded. This sends the others again:",
        f"batchkit resubmit {name}{' --failed' if counts.failed else ''}",
    )
