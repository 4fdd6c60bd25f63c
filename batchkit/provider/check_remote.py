"""What a check makes at a server: files and batches, and how they are cancelled and deleted again."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from batchkit.errors import AccountRefused, NotFound, ProviderError, ProviderRefused, RateLimited
from batchkit.files import jsonl
from batchkit.preflight.rules import METHOD
from batchkit.provider.base import METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from batchkit.models import Batch, FileId, RemoteFile
    from batchkit.provider.check_report import CheckReport
    from batchkit.provider.client import BatchApi

#: Enough to find a batch that was just made; a whole list may have hundreds of pages.
ENTRIES: Final = 500
_FILE_NAME: Final = "batchkit-check.jsonl"
#: How often a call is repeated for a file that is not shown yet.
_RETRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What is bought at most: lines of batches, calls of the ordinary endpoint, and recordings; ``model`` answers all but these."""

    model: str
    lines: int
    calls: int
    recordings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How to check: ``model`` None chooses one; ``may_create`` is asked with what it costs before a batch is created.

    ``audio`` is the address of a recording for lines that transcribe it; None leaves them out. ``pause_seconds`` lie between two
    polls, and after ``patience_seconds`` a batch that still runs is cancelled.
    """

    folder: Path
    may_create: Callable[[Costs], bool]
    model: str | None = None
    audio: str | None = None
    pause_seconds: float = 2.0
    patience_seconds: float = 60.0
    sleep: Callable[[float], object] = time.sleep  # noqa: TID251 - the default of a wait that is passed in
    clock: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class Attempt:
    """What became of a file of lines: ``refused`` at its upload or at its creation, or a batch. ``refusal`` is the server's word."""

    refused: str | None = None
    refusal: str | None = None
    file: RemoteFile | None = None
    batch: Batch | None = None


@dataclass(slots=True)
class Remote:
    """The files and batches of one check; ``key`` is that of its first batch, ``statuses`` are all that were seen of its batches."""

    provider: BatchApi
    trial: Trial
    report: CheckReport
    key: str = field(default_factory=lambda: f"check-{uuid4().hex}")
    files: list[FileId] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    _unanswered: list[FileId] = field(default_factory=list)

    def upload(self, content: bytes) -> RemoteFile:
        """Upload a file; what is refused is raised."""
        path = self.trial.folder / _FILE_NAME
        path.write_bytes(content)
        file = self.provider.upload_file(path, _FILE_NAME)
        self.files.append(file.id)
        return file

    def create(self, file_id: FileId, endpoint: str, model: str, window: str, *, key: str | None = None) -> Batch:
        """Create a batch; what is refused is raised, and then no batch exists. Waits a little for a file that is not shown yet.

        Every creation has another ``key``, because some providers answer a repeated one with the first batch.
        """
        metadata = {"batchkit_workload": "check", METADATA_KEY: key or f"check-{uuid4().hex}"}
        for number in range(_RETRIES + 1):
            self._unanswered.append(file_id)
            try:
                batch = self.provider.create_batch(
                    input_file_id=file_id, endpoint=endpoint, window=window, model=model, metadata=metadata
                )
            except ProviderRefused as error:
                self._unanswered.pop()
                if not isinstance(error, NotFound) or number == _RETRIES:
                    raise
                # Some servers show a new file a moment later.
                self.trial.sleep(self.trial.pause_seconds)
            else:
                self._unanswered.pop()
                self.statuses.append(batch.status)
                if all(batch.id != known.id for known in self.batches):
                    self.batches.append(batch)
                return batch
        raise AssertionError("the last try returns or raises")

    def attempt(self, content: bytes, endpoint: str, model: str, window: str) -> Attempt:
        """Upload a file and create a batch of it. Raises ``AccountRefused``, ``RateLimited`` and what is no refusal."""
        tried = Attempt()
        step = "upload"
        try:
            tried.file = self.upload(content)
            step = "creation"
            tried.batch = self.create(tried.file.id, endpoint, model, window)
        except (AccountRefused, RateLimited):
            raise
        except ProviderRefused as error:
            tried.refused, tried.refusal = step, error.message
        return tried

    def see(self, batch: Batch) -> Batch:
        """Record what a batch is by now."""
        self.statuses.append(batch.status)
        self.batches = [batch if batch.id == one.id else one for one in self.batches]
        return batch

    def wait(self, *some: Batch) -> list[Batch]:
        """Poll batches until all have ended, for ``patience_seconds`` at most; return them as they are then."""
        ends_at = self.trial.clock() + self.trial.patience_seconds
        now = list(some)
        while not all(batch.is_terminal for batch in now) and self.trial.clock() < ends_at:
            self.trial.sleep(self.trial.pause_seconds)
            now = [batch if batch.is_terminal else self.see(self.provider.get_batch(batch.id)) for batch in now]
        return now

    def content(self, file_id: FileId) -> bytes:
        """Download a file, which some servers show a moment later. Raises ``NotFound``."""
        target = self.trial.folder / "content.jsonl"
        for _ in range(_RETRIES):
            with suppress(NotFound):
                self.provider.download_file(file_id, target)
                return target.read_bytes()
            self.trial.sleep(self.trial.pause_seconds)
        self.provider.download_file(file_id, target)
        return target.read_bytes()

    def results(self, batch: Batch) -> list[tuple[str, Any]]:
        """Return the lines of a batch's files, with the kind of the file (``output``, ``error``); what is not JSON is left out."""
        lines = []
        for kind, file_id in (("output", batch.output_file_id), ("error", batch.error_file_id)):
            if file_id is None:
                continue
            if file_id not in self.files:
                self.files.append(file_id)
            for raw in self.content(file_id).splitlines():
                with suppress(jsonl.MalformedJson):
                    lines.append((kind, jsonl.loads_leniently(raw)))
        return lines

    def delete(self, file_id: FileId) -> None:
        """Delete a file."""
        self.provider.delete_file(file_id)
        self.files.remove(file_id)

    @contextmanager
    def cleaned_up(self) -> Iterator[None]:
        """Cancel and delete at the end what the block leaves behind; ``left`` of the report names what could not be."""
        try:
            yield
        finally:
            self._find_unanswered()
            for batch in self.batches:
                if batch.is_terminal:
                    continue
                try:
                    self.provider.cancel_batch(batch.id)
                except ProviderRefused:
                    pass  # it has ended, whatever the server calls that
                except ProviderError:
                    self.report.left.append(f"batch {batch.id}")
            for file_id in self.files:
                try:
                    self.provider.delete_file(file_id)
                except ProviderError:
                    self.report.left.append(f"file {file_id}")

    def _find_unanswered(self) -> None:
        """Find the batches whose creation was not answered."""
        if not self._unanswered:
            return
        known = {batch.id for batch in self.batches}
        found = []
        with suppress(ProviderError):
            listed = islice(self.provider.list_batches(), ENTRIES)
            found = [one for one in listed if one.input_file_id in self._unanswered and one.id not in known]
        self.batches += found
        if not found:
            self.report.left.append("perhaps a batch whose creation was not answered")


def lines_of(*lines: dict[str, Any]) -> bytes:
    """Return lines as a file."""
    return b"".join(jsonl.dumps(line) + b"\n" for line in lines)


def request(custom_id: str, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return a line."""
    return {"custom_id": custom_id, "method": METHOD, "url": endpoint, "body": body}


def answer_of(results: Sequence[tuple[str, Any]], custom_id: str) -> list[tuple[str, Any]]:
    """Return the lines of one request."""
    return [(kind, line) for kind, line in results if isinstance(line, dict) and line.get("custom_id") == custom_id]
