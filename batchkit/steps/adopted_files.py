"""Reading batches that something else created, and their files, from the provider. Nothing is changed there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.errors import NotFound, ProviderRefused, RateLimited, Unauthorized, UsageError
from batchkit.steps.adopt import copy_content, why_not_requests
from batchkit.steps.adopted_index import AdoptedBatch
from batchkit.steps.answer_files import hides_a_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from batchkit.models import Batch, BatchId, FileId
    from batchkit.provider.dialect import Dialect
    from batchkit.steps.context import StepContext

_SECONDS_PER_DAY = 86_400
#: Files that vanish within so many days are worth a warning.
_SOON_DAYS = 5


@dataclass(frozen=True, slots=True)
class ForeignBatches:
    """The batches with their files, and sentences about what is missing of them."""

    adopted: list[AdoptedBatch]
    notes: list[str]


def read_batches(context: StepContext, ids: Sequence[BatchId]) -> list[Batch]:
    """Read the batches. Raises ``UsageError`` for one that the provider does not know, and ``ProviderError``."""

    def read(batch_id: BatchId) -> Batch:
        try:
            return context.provider.get_batch(batch_id)
        except NotFound as error:
            raise UsageError(
                f"batch {batch_id}: {error.message}",
                hint="the provider does not know it: check the id, and that the key is of the account and project that"
                " created it; `batchkit adopt --list` shows what this key can see",
            ) from error

    with ThreadPoolExecutor(context.transfers, thread_name_prefix="batchkit-adopt") as pool:
        return list(pool.map(read, ids))


def fetch_files(context: StepContext, found: Sequence[Batch], folder: Path, *, given: Sequence[Path]) -> ForeignBatches:
    """Download the batches' input files into ``folder``; where one is gone, use one of the ``given`` files, or the answers.

    Raises ``UsageError`` when no given file has the requests of such a batch, and ``ProviderError``.
    """
    copies = [folder / f"given-{number}.jsonl" for number in range(len(given))]
    for source, copy in zip(given, copies, strict=True):
        copy_content([source], copy)

    def fetch(numbered: tuple[int, Batch]) -> tuple[AdoptedBatch, str | None]:
        number, batch = numbered
        requests = _download(context, batch.input_file_id, folder / f"{number}-input.jsonl")
        if requests is not None:
            return AdoptedBatch(batch, requests), None
        answers = tuple(
            path
            for kind, file_id in (("output", batch.output_file_id), ("error", batch.error_file_id))
            if (path := _download(context, file_id, folder / f"{number}-{kind}.jsonl")) is not None
        )
        if not given:
            if hides_a_file(batch):
                raise UsageError(
                    f"batch {batch.id} has answers but names no file for them (yet), and its input file is gone",
                    hint="try again later, or give the file that it was made of with --requests FILE",
                )
            return AdoptedBatch(batch, None, answers), _without_requests(batch)
        reasons = [why_not_requests(copy, batch, answers) for copy in copies]
        if None in reasons:
            return AdoptedBatch(batch, copies[reasons.index(None)], answers), None
        why = "; ".join(f"{source}: {reason}" for source, reason in zip(given, reasons, strict=True))
        raise UsageError(
            f"batch {batch.id}: its input file is gone, and --requests is not that file: {why}",
            hint="give the file that the batch was made of; nothing was stored",
        )

    with ThreadPoolExecutor(context.transfers, thread_name_prefix="batchkit-adopt") as pool:
        fetched = list(pool.map(fetch, enumerate(found)))
    notes = [note for _, note in fetched if note is not None]
    if given and not any(one.requests in copies for one, _ in fetched):
        notes.append("--requests was not needed: the provider has the input files")
    return ForeignBatches([one for one, _ in fetched], [*notes, *vanishing(context, found)])


def imported(batch: Batch, answers: tuple[Path, ...], given: Sequence[Path], folder: Path) -> ForeignBatches:
    """Return files of answers with the file of their requests, if one is ``given``. Raises ``UsageError`` when that lacks some of them."""
    if not given:
        note = "without --requests the requests are known by their answers only: nothing can be sent again"
        return ForeignBatches([AdoptedBatch(batch, None, answers)], [note])
    requests = folder / "given.jsonl"
    copy_content(given, requests)
    reason = why_not_requests(requests, batch, answers)
    if reason is not None:
        raise UsageError(
            f"--requests is not the file that these answers are for: {reason}",
            hint="give the file that was sent; nothing was stored",
        )
    return ForeignBatches([AdoptedBatch(batch, requests, answers)], [])


def vanishes_at(dialect: Dialect, batch: Batch) -> float | None:
    """Return when the provider deletes a batch's answers, in Unix seconds of its clock; None when that is not known."""
    days = dialect.retention.output_days
    return None if days is None or batch.created_at is None else batch.created_at + days * _SECONDS_PER_DAY


def vanishing(context: StepContext, found: Sequence[Batch]) -> list[str]:
    """Return a sentence for each batch whose files vanish soon."""
    now = context.provider_now()
    notes = []
    for batch in found:
        at = vanishes_at(context.provider.dialect, batch)
        if at is not None and at - now < _SOON_DAYS * _SECONDS_PER_DAY:
            notes.append(
                f"batch {batch.id}: the provider deletes its files in {formatting.duration(at - now)}; its answers are fetched now, and kept"
                if at > now
                else f"batch {batch.id} is older than the days for which the provider keeps files"
            )
    return notes


def _download(context: StepContext, file_id: FileId | None, path: Path) -> Path | None:
    """Download a file; None when the provider does not have it, or does not give it out."""
    if file_id is None:
        return None
    try:
        context.provider.download_file(file_id, path)
    except (RateLimited, Unauthorized):
        raise
    except ProviderRefused:
        return None
    return path


def _without_requests(batch: Batch) -> str:
    return (
        f"batch {batch.id}: the provider does not give out its input file, so that nothing of it can be sent again;"
        " --requests FILE names the file that it was made of"
    )
