"""Does a server do what its dialect says? One line is sent through every call, and what came back is compared.

Whatever was uploaded or created is cancelled and deleted at the end, also after an error or an interrupt.
"""

from __future__ import annotations

import logging
import re
from contextlib import closing, suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

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
from batchkit.preflight.rules import CHAT
from batchkit.provider import check_calls, check_trials, wire
from batchkit.provider.base import METADATA_KEY
from batchkit.provider.check_headers import SeenHeaders
from batchkit.provider.check_pages import check_list, check_pages
from batchkit.provider.check_questions import add_unanswered
from batchkit.provider.check_remote import ENTRIES, Costs, Remote, lines_of, request
from batchkit.provider.check_report import CheckReport, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.models import Batch, RemoteFile
    from batchkit.provider.check_remote import Trial
    from batchkit.provider.client import BatchApi
    from batchkit.provider.dialect import Dialect

logger = logging.getLogger(__name__)

_CUSTOM_ID: Final = "batchkit-check-1"
_DAY_HOURS: Final = 24
#: Statuses of a file that every provider takes for ready.
_READY_WORDS: Final = frozenset({None, "processed", "uploaded", "completed", "ready", "success"})
_NO_CHAT: Final = re.compile(
    r"embed|rerank|whisper|tts|audio|image|moderat|guard|transcri|ocr|bge|minilm|omni|vision", re.IGNORECASE
)
#: What a line's answer may cost at most, in tokens, for the price that is told before.
TOKENS: Final = (30, 300)


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
            remote = Remote(provider, trial, report)
            headers = SeenHeaders(dialect.api.batches_path)
            provider.http.on_reply = headers.see
            with remote.cleaned_up():
                _Checker(remote, dialect, headers).run()
            headers.conclude(report)
    except KeyboardInterrupt:
        if report.left:
            logger.warning("could not be deleted: %s", ", ".join(report.left))
        raise
    except (ProviderError, WrongAddress) as error:
        report.problem, report.hint = error.message, error.hint
    return report


class _Checker:
    def __init__(self, remote: Remote, dialect: Dialect, headers: SeenHeaders) -> None:
        self._remote = remote
        self._provider = remote.provider
        self._dialect = dialect
        self._trial = remote.trial
        self._listing = remote.provider.dialect.api.listing
        self._headers = headers
        self.report = remote.report

    def run(self) -> None:
        """Try one call after the other."""
        model = self._model()
        endpoint = self._dialect.free_request[0] if self._is_free(model) and self._dialect.free_request else CHAT
        file, line = self._upload(endpoint, model or "none")
        self._read_back(file, line)
        check_calls.content_call(self._remote, file)
        self._list_files(file)
        has_batches = False
        if model is None:
            self._open("creation", "a batch of one line", "no model is known: name one with --model")
        elif not self._is_free(model) and not self._trial.may_create(self._costs(model)):
            self._open("creation", "a batch of one line", "left out, because it costs")
        elif (batch := self._create(file, endpoint, model)) is not None:
            has_batches = True
            self._look_up(batch, file)
            self._try_more(batch, endpoint, model)
            self._by_ids(batch, others=len(self._remote.batches) - 1)
        check_list(self._provider, self.report)
        add_unanswered(self.report, self._dialect, has_batches=has_batches, has_audio=self._trial.audio is not None)
        self._delete(file)

    def _costs(self, model: str) -> Costs:
        recordings = 0 if self._trial.audio is None else check_trials.RECORDINGS
        return Costs(model=model, lines=1 + check_trials.LINES, calls=check_calls.CALLS, recordings=recordings)

    def _try_more(self, batch: Batch, endpoint: str, model: str) -> None:
        """Begin all other batches, so that they run at the same time, and conclude them."""
        trials = check_trials.Trials(self._remote, self._dialect, endpoint, model, window=batch.completion_window)
        try:
            trials.begin()
        except ProviderError as error:
            self._open("further batches", "taken", error.message)
        self._end(batch)
        trials.conclude()
        self._statuses()
        if not self._is_free(model):
            check_calls.ordinary_calls(self._remote, self._headers, model)

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
        known = [name for name in self._dialect.models.chat if name in listed]
        preferred += [name for name in known + chats if self._is_batched(name)]
        return next((name for name in preferred if name), None)

    def _is_batched(self, model: str) -> bool:
        endpoints = self._dialect.rules.model_endpoints.get(model.lower())
        return endpoints is None or CHAT in endpoints

    def _upload(self, endpoint: str, model: str) -> tuple[RemoteFile, bytes]:
        line = lines_of(request(_CUSTOM_ID, endpoint, check_calls.question(model)))
        file = self._remote.upload(line)
        self._compare("upload", f"purpose {self._dialect.api.purpose}", "taken", is_same=True)
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
            is_same = self._remote.content(file.id) == line
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
            listed = any(entry.id == file.id for entry in islice(self._provider.list_files(), ENTRIES))
        except ListingIncomplete as error:
            self._compare("list of files", "has the new file", error.message, is_same=False)
        else:
            found = "has it" if listed else f"is not among the first {ENTRIES}"
            self._compare("list of files", "has the new file", found, is_same=listed)

    def _create(self, file: RemoteFile, endpoint: str, model: str) -> Batch | None:
        """Create the batch, with a day's window if the shortest one is refused; None without one."""
        windows = self._dialect.windows
        shortest, day = windows.shortest, windows.written(_DAY_HOURS)
        expected = f"a window of {shortest}"
        try:
            batch = self._remote.create(file.id, endpoint, model, shortest, key=self._remote.key)
        except AccountRefused:
            raise
        except ProviderRefused as error:
            refusal = error.message
        else:
            self._compare("creation", expected, "taken", is_same=True)
            return replace(batch, completion_window=shortest)
        if day != shortest:
            with suppress(ProviderRefused):
                batch = self._remote.create(file.id, endpoint, model, day, key=self._remote.key)
                longest = max(windows.longest_hours, _DAY_HOURS)
                found = f"takes {day}: {refusal}"
                self._compare("creation", expected, found, is_same=False, windows=[_DAY_HOURS, longest])
                return replace(batch, completion_window=day)
        self._compare("creation", expected, refusal, is_same=False)
        return None

    def _look_up(self, made: Batch, file: RemoteFile) -> None:
        read = self._remote.see(self._provider.get_batch(made.id))
        is_named = read.input_file_id == file.id
        self._compare("its input file", "named", "named" if is_named else "not named", is_same=is_named)
        self._metadata(read)
        try:
            entries = list(islice(self._provider.list_batches(), ENTRIES))
        except ListingIncomplete as error:
            self._compare("list of batches", "has the new batch", error.message, is_same=False)
            return
        listed = any(entry.id == made.id for entry in entries)
        self._compare(
            "list of batches", "has the new batch", "has it" if listed else "does not have it yet", is_same=listed
        )

    def _metadata(self, read: Batch) -> None:
        names = self._dialect.api.metadata_names
        if names == {}:
            self._compare("metadata", "none", "none was sent", is_same=True)
            return
        expected = f"kept as {', '.join(names.values())}" if names else "kept"
        is_kept = read.metadata.get(METADATA_KEY) == self._remote.key
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
        (batch,) = self._remote.wait(batch)
        is_cancelled = not batch.is_terminal
        if is_cancelled:
            try:
                batch = self._remote.see(self._provider.cancel_batch(batch.id))
            except ProviderRefused as error:
                self._open("cancellation", "taken", error.message)
            else:
                (batch,) = self._remote.wait(batch)
        if not batch.is_terminal:
            self._open("the end", "an output file", f"still {batch.status}")
            return
        if is_cancelled:
            self._open("the end", "an output file", f"cancelled after {self._trial.patience_seconds:,.0f} s")
        else:
            self._output(batch)
        again = self._provider.cancel_batch(batch.id)
        self._compare("cancelling it again", "changes nothing", again.status, is_same=again.status == batch.status)

    def _statuses(self) -> None:
        seen = dict.fromkeys(self._remote.statuses)
        unknown = sorted({status for status in seen if status not in frozenset(BatchStatus)})
        self._compare(
            "statuses",
            "known words",
            ", ".join(seen),
            is_same=not unknown,
            statuses=dict.fromkeys(map(str.lower, unknown)),
        )

    def _output(self, batch: Batch) -> None:
        for _, record in self._remote.results(batch):
            answer = jsonl.read_output_line(record)
            if answer is not None and answer.custom_id == _CUSTOM_ID:
                what = f"status {answer.status_code}" if answer.error_code is None else answer.error_code
                is_whole = isinstance(answer.body, dict) or answer.has_error
                self._compare("an output line", "custom_id and a body", what, is_same=is_whole)
                check_calls.kept_until(self._remote, batch, self._dialect.retention)
                return
        found = f"no line, {batch.status}" + "".join(f": {problem.message}" for problem in batch.problems[:1])
        self._compare("an output line", "custom_id and a body", found, is_same=False)

    def _delete(self, file: RemoteFile) -> None:
        self._remote.delete(file.id)
        try:
            self._provider.file(file.id)
        except NotFound:
            self._compare("deletion", "the file is gone", "gone", is_same=True)
        except OutcomeUnknown as error:
            self._open("deletion", "the file is gone", error.message)
        else:
            self._compare("deletion", "the file is gone", "still there", is_same=False)
