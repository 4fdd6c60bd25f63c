"""Does a server do what its dialect says? One line is sent through every call, and what came back is compared.

Whatever was uploaded or created is cancelled and deleted at the end, also after an error or an interrupt.
"""

from __future__ import annotations

import logging
import re
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from batchkit.errors import (
    AccountRefused,
    ListingIncomplete,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    ProviderRefused,
    WrongAddress,
)
from batchkit.files import jsonl
from batchkit.formatting import counted
from batchkit.models import BatchStatus
from batchkit.preflight.rules import CHAT, METHOD
from batchkit.provider import wire
from batchkit.provider.base import METADATA_KEY
from batchkit.provider.check_pages import check_pages
from batchkit.provider.check_report import CheckReport, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batchkit.models import Batch, FileId, RemoteFile
    from batchkit.provider.client import BatchApi
    from batchkit.provider.dialect import Dialect

logger = logging.getLogger(__name__)

_CUSTOM_ID: Final = "batchkit-check-1"
_FILE_NAME: Final = "batchkit-check.jsonl"
#: Enough to find a batch that was just made; a whole list may have hundreds of pages.
_ENTRIES: Final = 500
#: How often a call is repeated for a file that is not shown yet.
_RETRIES: Final = 3
_DAY_HOURS: Final = 24
#: Statuses of a file that every provider takes for ready.
_READY_WORDS: Final = frozenset({None, "processed", "uploaded", "completed", "ready", "success"})
_NO_CHAT: Final = re.compile(
    r"embed|rerank|whisper|tts|audio|image|moderat|guard|transcri|ocr|bge|minilm|omni|vision", re.IGNORECASE
)
#: What a line's answer may cost at most, in tokens, for the price that is told before.
TOKENS: Final = (30, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How to check: ``model`` None chooses one; ``may_create`` is asked with the model before a batch is created.

    ``pause_seconds`` lie between two polls, and after ``patience_seconds`` a batch that still runs is cancelled.
    """

    folder: Path
    may_create: Callable[[str], bool]
    model: str | None = None
    pause_seconds: float = 2.0
    patience_seconds: float = 60.0
    sleep: Callable[[float], object] = time.sleep  # noqa: TID251 - the default of a wait that is passed in
    clock: Callable[[], float] = time.monotonic


def check(connect: Callable[[Dialect], BatchApi], dialect: Dialect, trial: Trial) -> CheckReport:
    """Try every call and return what was found. ``connect`` opens the server with a dialect, which may differ in how lists are paged.

    Raises what ``connect`` raises.
    """
    report = CheckReport()
    # No status of a file is waited for, so that the first one is seen.
    tried = replace(dialect, api=replace(dialect.api, ready_statuses=frozenset()))
    try:
        with closing(connect(tried)) as provider:
            style = check_pages(provider, dialect, report)
        # From here on lists are read as the server writes them.
        with closing(connect(replace(tried, api=replace(tried.api, listing=style)))) as provider:
            checker = _Checker(provider, dialect, trial, report)
            with checker.cleaned_up():
                checker.run()
    except KeyboardInterrupt:
        if report.left:
            logger.warning("could not be deleted: %s", ", ".join(report.left))
        raise
    except (ProviderError, WrongAddress) as error:
        report.problem, report.hint = error.message, error.hint
    return report


class _Checker:
    def __init__(self, provider: BatchApi, dialect: Dialect, trial: Trial, report: CheckReport) -> None:
        self._provider = provider
        self._dialect = dialect
        self._trial = trial
        self._listing = provider.dialect.api.listing
        self._key = f"check-{uuid4().hex}"
        self._files: list[FileId] = []
        self._batch: Batch | None = None
        self._is_creating = False
        self.report = report

    def run(self) -> None:
        """Try one call after the other."""
        model = self._model()
        endpoint = self._dialect.free_request[0] if self._is_free(model) and self._dialect.free_request else CHAT
        file, line = self._upload(endpoint, model or "none")
        self._read_back(file, line)
        self._list_files(file)
        if model is None:
            self._open("creation", "a batch of one line", "no model is known: name one with --model")
        elif not self._is_free(model) and not self._trial.may_create(model):
            self._open("creation", "a batch of one line", "left out, because it costs")
        elif self._create(file, endpoint, model) and self._batch is not None:
            self._look_up(self._batch)
            self._end(self._batch)
        self._delete(file)

    @contextmanager
    def cleaned_up(self) -> Iterator[None]:
        """Cancel and delete at the end what the block leaves behind."""
        try:
            yield
        finally:
            self._clean_up()

    def _clean_up(self) -> None:
        with suppress(ProviderError):
            if self._is_creating and self._batch is None and self._files:
                # No answer came to the creation, but there may be a batch.
                found = islice(self._provider.list_batches(), _ENTRIES)
                self._batch = next((batch for batch in found if batch.input_file_id == self._files[0]), None)
                if self._batch is None:
                    self.report.left.append("perhaps a batch whose creation was not answered")
        batch = self._batch
        if batch is not None and not batch.is_terminal:
            try:
                self._provider.cancel_batch(batch.id)
            except ProviderRefused:
                pass  # it has ended, whatever the server calls that
            except ProviderError:
                self.report.left.append(f"batch {batch.id}")
        for file_id in self._files:
            try:
                self._provider.delete_file(file_id)
            except ProviderError:
                self.report.left.append(f"file {file_id}")

    # What was seen

    def _compare(self, subject: str, expected: str, found: str, *, is_same: bool, **corrections: object) -> None:
        self.report.compare(subject, expected, found, is_same=is_same, corrections=corrections)

    def _open(self, subject: str, expected: str, found: str) -> None:
        self.report.add(subject, expected, found, Verdict.OPEN)

    # The calls

    def _is_free(self, model: str | None) -> bool:
        return self._dialect.free_request is not None and self._dialect.free_request[1] == model

    def _model(self) -> str | None:
        listed: list[str] = []
        try:
            listed = [model.id for model in self._provider.list_models() if model.active]
        except AccountRefused:
            raise
        except (ProviderRefused, OutcomeUnknown) as error:
            self._open("models", "a list", error.message)
        else:
            self._compare("models", "a list", counted(len(listed), "model"), is_same=bool(listed))
        free = self._dialect.free_request[1] if self._dialect.free_request else None
        chats = [name for name in listed if not _NO_CHAT.search(name)]
        preferred = [self._trial.model, free if free in listed else None]
        preferred += [name for name in self._dialect.models.chat if name in listed] + chats
        return next((name for name in preferred if name), None)

    def _upload(self, endpoint: str, model: str) -> tuple[RemoteFile, bytes]:
        messages = [{"role": "user", "content": "Answer with OK."}]
        body = {"model": model, "messages": messages}
        line = jsonl.dumps({"custom_id": _CUSTOM_ID, "method": METHOD, "url": endpoint, "body": body}) + b"\n"
        path = self._trial.folder / _FILE_NAME
        path.write_bytes(line)
        purpose = self._dialect.api.purpose
        file = self._provider.upload_file(path, _FILE_NAME)
        self._files.append(file.id)
        self._compare("upload", f"purpose {purpose}", "taken", is_same=True)
        return self._wait_until_ready(file), line

    def _wait_until_ready(self, file: RemoteFile) -> RemoteFile:
        wanted = self._dialect.api.ready_statuses
        first, ends_at = file.status, self._trial.clock() + self._trial.patience_seconds
        while file.status not in _READY_WORDS | wanted and self._trial.clock() < ends_at:
            self._trial.sleep(self._trial.pause_seconds)
            with suppress(NotFound):
                file = self._provider.file(file.id)
        expected = f"ready when {' or '.join(sorted(wanted))}" if wanted else "ready at once"
        found = file.status or "no status"
        if first != file.status:
            found = f"{first}, later {found}"
        is_same = file.status in wanted if wanted else first in _READY_WORDS
        self._compare("a new file", expected, found, is_same=is_same, ready=[file.status] if file.status else [])
        return file

    def _read_back(self, file: RemoteFile, line: bytes) -> None:
        expected = "the same bytes"
        try:
            is_same = self._content(file.id) == line
            size = self._provider.file(file.id).size_bytes
        except ProviderRefused as error:
            self._open("read back", expected, error.message)
            return
        self._compare("read back", expected, expected if is_same else "others", is_same=is_same)
        if size:
            self._compare("size of a file", f"{len(line)} bytes", f"{size} bytes", is_same=size == len(line))
        else:
            self._open("size of a file", f"{len(line)} bytes", "not told")

    def _list_files(self, file: RemoteFile) -> None:
        try:
            listed = any(entry.id == file.id for entry in islice(self._provider.list_files(), _ENTRIES))
        except ListingIncomplete as error:
            self._compare("list of files", "has the new file", error.message, is_same=False)
        else:
            found = "has it" if listed else f"is not among the first {_ENTRIES}"
            self._compare("list of files", "has the new file", found, is_same=listed)

    def _create(self, file: RemoteFile, endpoint: str, model: str) -> bool:
        """Create the batch, with a day's window if the shortest one is refused; returns whether there is one."""
        windows = self._dialect.windows
        shortest, day = windows.shortest, windows.written(_DAY_HOURS)
        expected = f"a window of {shortest}"
        refused = self._try_to_create(file, endpoint, model, shortest)
        if refused is None:
            self._compare("creation", expected, "taken", is_same=True)
            return True
        if day == shortest or self._try_to_create(file, endpoint, model, day) is not None:
            self._compare("creation", expected, refused.message, is_same=False)
            return False
        longest = max(windows.longest_hours, _DAY_HOURS)
        self._compare(
            "creation", expected, f"takes {day}: {refused.message}", is_same=False, windows=[_DAY_HOURS, longest]
        )
        return True

    def _try_to_create(self, file: RemoteFile, endpoint: str, model: str, window: str) -> ProviderRefused | None:
        """Create the batch; returns a refusal, after which no batch exists. Raises ``AccountRefused`` and ``OutcomeUnknown``."""
        metadata = {"batchkit_workload": "check", METADATA_KEY: self._key}
        for number in range(_RETRIES + 1):
            self._is_creating = True
            try:
                self._batch = self._provider.create_batch(
                    input_file_id=file.id, endpoint=endpoint, window=window, model=model, metadata=metadata
                )
            except ProviderRefused as error:
                self._is_creating = False
                if isinstance(error, AccountRefused):
                    raise
                if not isinstance(error, NotFound) or number == _RETRIES:
                    return error
                # Some servers show a new file a moment later.
                self._trial.sleep(self._trial.pause_seconds)
            else:
                break
        return None

    def _look_up(self, made: Batch) -> None:
        read = self._batch = self._provider.get_batch(made.id)
        self._compare(
            "its input file",
            "named",
            "named" if read.input_file_id == self._files[0] else "not named",
            is_same=read.input_file_id == self._files[0],
        )
        self._metadata(read)
        try:
            entries = list(islice(self._provider.list_batches(), _ENTRIES))
        except ListingIncomplete as error:
            self._compare("list of batches", "has the new batch", error.message, is_same=False)
            return
        listed = any(entry.id == made.id for entry in entries)
        self._compare(
            "list of batches", "has the new batch", "has it" if listed else "does not have it yet", is_same=listed
        )
        self._by_ids(made, others=len(entries) - 1)

    def _metadata(self, read: Batch) -> None:
        names = self._dialect.api.metadata_names
        if names == {}:
            self._compare("metadata", "none", "none was sent", is_same=True)
            return
        expected = f"kept as {', '.join(names.values())}" if names else "kept"
        is_kept = read.metadata.get(METADATA_KEY) == self._key
        self._compare("metadata", expected, "kept" if is_kept else "lost", is_same=is_kept, metadata="none")

    def _by_ids(self, made: Batch, *, others: int) -> None:
        shape = self._dialect.api
        most = shape.ids_per_status_call
        expected = f"{most} in a call" if most else "not offered"
        page = wire.page(self._provider.http.get(shape.batches_path, [("id", made.id)]), self._listing)
        found = [wire.batch(shape.batch_of(entry)) for entry in page.entries] if page is not None else []
        is_offered = [batch.id for batch in found if batch is not None] == [made.id]
        if others < 1 and is_offered:
            self._open("batches by their ids", expected, "there is only one batch")
            return
        self._compare(
            "batches by their ids",
            expected,
            "offered" if is_offered else "ignored",
            is_same=is_offered == bool(most),
            ids_per_status_call=int(is_offered),
        )

    def _end(self, batch: Batch) -> None:
        seen = [batch.status]
        batch = self._poll(batch, seen)
        is_cancelled = not batch.is_terminal
        if is_cancelled:
            try:
                self._batch = batch = self._provider.cancel_batch(batch.id)
            except ProviderRefused as error:
                self._open("cancellation", "taken", error.message)
            else:
                seen.append(batch.status)
                batch = self._poll(batch, seen)
        unknown = sorted({status for status in seen if status not in frozenset(BatchStatus)})
        words = ", ".join(dict.fromkeys(seen))
        self._compare(
            "statuses", "known words", words, is_same=not unknown, statuses=dict.fromkeys(map(str.lower, unknown))
        )
        if not batch.is_terminal:
            self._open("the end", "an output file", f"still {batch.status}")
            return
        if is_cancelled:
            self._open("the end", "an output file", f"cancelled after {self._trial.patience_seconds:,.0f} s")
        else:
            self._output(batch)
        again = self._provider.cancel_batch(batch.id)
        self._compare("cancelling it again", "changes nothing", again.status, is_same=again.status == batch.status)

    def _poll(self, batch: Batch, seen: list[str]) -> Batch:
        ends_at = self._trial.clock() + self._trial.patience_seconds
        while not batch.is_terminal and self._trial.clock() < ends_at:
            self._trial.sleep(self._trial.pause_seconds)
            self._batch = batch = self._provider.get_batch(batch.id)
            seen.append(batch.status)
        return batch

    def _output(self, batch: Batch) -> None:
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id is None:
                continue
            self._files.append(file_id)
            for line in self._content(file_id).splitlines():
                answer = _answer_in(line)
                if answer is not None and answer.custom_id == _CUSTOM_ID:
                    what = f"status {answer.status_code}" if answer.error_code is None else answer.error_code
                    is_whole = isinstance(answer.body, dict) or answer.has_error
                    self._compare("an output line", "custom_id and a body", what, is_same=is_whole)
                    return
        found = f"no line, {batch.status}" + "".join(f": {problem.message}" for problem in batch.problems[:1])
        self._compare("an output line", "custom_id and a body", found, is_same=False)

    def _content(self, file_id: FileId) -> bytes:
        """Download a file, which some servers show a moment later. Raises ``NotFound``."""
        target = self._trial.folder / "content.jsonl"
        for _ in range(_RETRIES):
            with suppress(NotFound):
                self._provider.download_file(file_id, target)
                return target.read_bytes()
            self._trial.sleep(self._trial.pause_seconds)
        self._provider.download_file(file_id, target)
        return target.read_bytes()

    def _delete(self, file: RemoteFile) -> None:
        self._provider.delete_file(file.id)
        self._files.remove(file.id)
        try:
            self._provider.file(file.id)
        except NotFound:
            self._compare("deletion", "the file is gone", "gone", is_same=True)
        except OutcomeUnknown as error:
            self._open("deletion", "the file is gone", error.message)
        else:
            self._compare("deletion", "the file is gone", "still there", is_same=False)


def _answer_in(line: bytes) -> Any:
    try:
        return jsonl.read_output_line(jsonl.loads_leniently(line))
    except jsonl.MalformedJson:
        return None
