"""Adopting batches that something else created, and the list of what is there to adopt. Nothing is sent, and nothing is bought."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from batchkit.api import existing
from batchkit.api.modes import RunMode
from batchkit.api.opening import drive_from, note_once, open_runner, paths_of
from batchkit.engine.composition import build_provider
from batchkit.engine.observer import DO_NOTHING, Observer
from batchkit.engine.waves import DriveUntil
from batchkit.errors import UsageError
from batchkit.files.sources import check_name, name_of
from batchkit.models import BatchId, BatchStatus, OutcomeKind
from batchkit.settings import load_settings
from batchkit.steps.split import SplitOptions
from batchkit.store import batches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from batchkit.api.opening import Source
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.models import Batch
    from batchkit.preflight import ModelShare
    from batchkit.settings import Settings

_FAILED = (OutcomeKind.REFUSED, OutcomeKind.TRANSIENT, OutcomeKind.INVALID, OutcomeKind.ACCOUNT)


@dataclass(frozen=True, slots=True, repr=False)
class AdoptionReport:
    """A workload of adopted batches. The counts of requests sum to its total.

    ``running`` ones are in batches that have not ended, or whose files are not downloaded yet. ``missing`` ones were not in the files
    of their batch, ``cancelled`` ones were in a batch that somebody cancelled. ``unnamed`` are requests that the batches count and no
    file names: they are in no other count. ``rest`` has the requests that ``resubmit`` would send, by their model.
    """

    progress: Progress
    batch_ids: Sequence[BatchId]
    answered: int
    expired: int
    failed: int
    missing: int
    cancelled: int
    running: int
    unnamed: int
    rest: Mapping[str, ModelShare]

    def __repr__(self) -> str:
        parts = (f"{count:,} {name}" for name, count in self.counts.items() if count or name == "answered")
        return f"<{type(self).__name__} {self.progress.workload.name}: {', '.join(parts)}>"

    @property
    def counts(self) -> dict[str, int]:
        """The counts of requests, by their names."""
        names = ("answered", "expired", "failed", "missing", "cancelled", "running")
        return {name: getattr(self, name) for name in names}

    @property
    def unsent(self) -> int:
        """How many requests ``resubmit`` would send."""
        return sum(share.requests for share in self.rest.values())


@dataclass(frozen=True, slots=True)
class ListedBatch:
    """A batch at the provider. ``vanishes_at`` (Unix seconds) is when its answers are deleted there, None when that is not known.

    ``unanswered`` counts requests of an ended batch without an answer or an error. ``workload`` holds it here, None when none does.
    """

    batch: Batch
    unanswered: int
    vanishes_at: float | None
    workload: str | None


def adopt(
    batch_ids: str | Sequence[str] = (),
    *,
    name: str | None = None,
    requests: Source | Sequence[Source] = (),
    outputs: Source | Sequence[Source] = (),
    errors: Source | Sequence[Source] = (),
    separate: bool = False,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
    observer: Observer = DO_NOTHING,
) -> AdoptionReport:
    """Make one workload of batches that something else created, and fetch the answers that exist; the same call again resumes.

    The requests are those of the provider's copies of the input files; where a copy is gone, those of ``requests``; without either
    they are known by their answers only, and cannot be sent again. ``outputs`` and ``errors`` are files that were downloaded before:
    then there are no ids, and neither a key nor the provider is needed. With ``separate`` equal custom_ids of several batches are
    different requests, with the batch's id and a colon before each.

    Nothing is sent, and running batches are not cancelled. What expired, failed or is missing counts as failed until ``resubmit``.
    Raises ``UsageError`` and ``WorkloadConflict`` before anything is stored, and ``ProviderError``.
    """
    ids = (batch_ids,) if isinstance(batch_ids, str) else tuple(batch_ids)
    return adopt_batches(
        ids,
        name=name,
        requests=_paths(requests),
        outputs=_paths(outputs),
        errors=_paths(errors),
        separate=separate,
        options=options or SplitOptions(),
        settings=settings,
        mode=RunMode(observer=observer),
    )


def adopt_batches(
    batch_ids: Sequence[str],
    *,
    name: str | None,
    requests: Sequence[Path],
    outputs: Sequence[Path],
    errors: Sequence[Path],
    separate: bool,
    options: SplitOptions,
    settings: Settings | None,
    mode: RunMode,
) -> AdoptionReport:
    """Do what ``adopt`` does."""
    files = (*outputs, *errors)
    if bool(batch_ids) == bool(files):
        raise UsageError(
            "give either the ids of batches or files of answers (--outputs, --errors)",
            hint="`batchkit adopt --list` shows the batches that your key can see",
        )
    ids = [BatchId(batch_id) for batch_id in dict.fromkeys(batch_ids)]
    workload_name = check_name(name or (ids[0] if ids else name_of(files[0])))
    with open_runner(settings, mode, is_keyless=not ids) as runner:
        workload = runner.adopt(
            ids,
            name=workload_name,
            options=options,
            separate=separate,
            requests=requests,
            outputs=outputs,
            errors=errors,
            note=mode.observer.note,
            waiting=note_once(mode.observer, f"another command is adopting {workload_name!r}; waiting for it"),
        )
        progress = runner.progress(workload.id)
        if workload.holds:
            # Nothing is pending while it holds: this pass fetches the answers that exist.
            progress = drive_from(runner, progress, DriveUntil.ONE_PASS, mode)
        return _report(runner, progress)


def listed_batches(
    settings: Settings | None = None,
    *,
    since_seconds: float | None = None,
    metadata: Mapping[str, str] | None = None,
    only_expired: bool = False,
) -> list[ListedBatch]:
    """Return the batches that the key can see, newest first, and which workload here holds each; nothing is stored or sent.

    Those created in the last ``since_seconds``, with all pairs of ``metadata``, and with ``only_expired`` those with expired requests.
    """
    found = settings or load_settings()
    wanted = dict(metadata or {}).items()
    with build_provider(found) as provider:
        since = None if since_seconds is None else (provider.now() or time.time()) - since_seconds
        chosen = [
            batch
            for batch in provider.list_batches()
            if (since is None or (batch.created_at or 0) >= since)
            and wanted <= dict(batch.metadata).items()
            and (not only_expired or batch.status == BatchStatus.EXPIRED)
        ]
    held = existing.read(found, partial(batches.holders, batch_ids=[batch.id for batch in chosen])) or {}
    return [
        ListedBatch(
            batch, _unanswered(batch), found.dialect.retention.vanishes_at(batch.created_at), held.get(batch.id)
        )
        for batch in chosen
    ]


def _report(runner: Runner, progress: Progress) -> AdoptionReport:
    found = runner.adopted(progress.workload.id)
    return AdoptionReport(
        progress=progress,
        batch_ids=found.batch_ids,
        answered=progress.counts.succeeded,
        expired=found.failed.get(OutcomeKind.EXPIRED, 0),
        failed=sum(found.failed.get(kind, 0) for kind in _FAILED),
        missing=found.failed.get(OutcomeKind.MISSING, 0),
        cancelled=progress.counts.cancelled + found.failed.get(OutcomeKind.CANCELLED, 0),
        running=progress.counts.unresolved,
        unnamed=found.unnamed,
        rest=found.rest,
    )


def _unanswered(batch: Batch) -> int:
    if not batch.is_terminal:
        return 0
    return max(batch.counts.total - batch.counts.completed - batch.counts.failed, 0)


def _paths(files: Source | Sequence[Source]) -> list[Path]:
    return paths_of(files) if files else []
