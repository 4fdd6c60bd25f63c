"""What is to be told of the files of a batch that was merged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.models import IMPORTED

if TYPE_CHECKING:
    from batchkit.models import Batch, Workload
    from batchkit.steps.answers import ShardAnswers


def on_lost(
    workload: Workload, batch: Batch, lost: str, answers: ShardAnswers, *, days: int | None, holding: bool
) -> str:
    """Return the note on answers that vanished before they were fetched: ``lost`` are its files; ``days`` is how long results are kept."""
    kept = "" if days is None else f" (results are kept for {formatting.counted(days, 'day')})"
    count = formatting.counted(answers.unmentioned, "answer")
    if holding:
        then = (
            f"their requests fail as missing; `batchkit resubmit {workload.name}` sends them again, which is paid for"
        )
    else:
        then = "their requests are sent again, and paid for again"
    return f"batch {batch.id}: {lost} is gone at the provider{kept}, and with it {count}; {then}"


def on_torn(batch: Batch, answers: ShardAnswers, *, fetches: int) -> str:
    """Return the note on files that are accepted although they still seem torn."""
    if batch.status == IMPORTED:
        return "the last line of a file of answers is torn; the answers before it are kept"
    what = f"batch {batch.id}: its files look torn, and did so in each of {fetches} downloads; what they hold is kept"
    if not answers.again:
        return what
    again = "1 request is" if answers.again == 1 else f"{answers.again:,} requests are"
    return f"{what}, {again} sent again, and what was answered beyond the tear is paid for twice"


def on_oddities(batch: Batch, answers: ShardAnswers) -> list[str]:
    """Return the notes on lines that belong to no request, or cannot be read."""
    found = (
        (answers.malformed, "lines that are not JSON"),
        (answers.unknown, "lines for requests that were not in it"),
        (answers.duplicate, "repeated answers"),
    )
    return [f"batch {batch.id}: {count} {what}" for count, what in found if count]
