"""What becomes of odd files and odd batches: the questions that documentation leaves open, each tried with a line or two.

All batches are begun before the first one is waited for, so that they run at the same time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from batchkit.errors import AccountRefused, ProviderError, ProviderRefused, RateLimited
from batchkit.files import jsonl
from batchkit.formatting import counted, printable
from batchkit.models import BatchStatus, FileId
from batchkit.preflight.rules import CHAT, TRANSCRIPTIONS
from batchkit.provider.check_calls import question
from batchkit.provider.check_remote import Attempt, answer_of, lines_of, request
from batchkit.provider.check_report import Verdict
from batchkit.sharding import hours_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.models import Batch
    from batchkit.provider.check_remote import Remote
    from batchkit.provider.dialect import Dialect

#: How many lines the trials may buy, and how many recordings where one is given.
LINES: Final = 13
RECORDINGS: Final = 3
_LONG_ID_CHARS: Final = 300
_CANCELLED_LINES: Final = 3
_HOURS_PER_DAY: Final = 24
_LONGEST_CHARS: Final = 200
_NO_SUCH_FILE: Final = FileId("file-batchkit-check-none")


@dataclass(slots=True)
class _Running:
    """A batch that is concluded when it has ended."""

    batch: Batch
    conclude: Callable[[Batch], None]


class Trials:
    """The further batches of a check; ``window`` is one that the server takes."""

    def __init__(self, remote: Remote, dialect: Dialect, endpoint: str, model: str, *, window: str) -> None:
        self._remote = remote
        self._report = remote.report
        self._dialect = dialect
        self._endpoint = endpoint
        self._model = model
        self._window = window
        self._running: list[_Running] = []

    def begin(self) -> None:
        """Create the batches. Raises ``ProviderError``; those that were created before are concluded all the same."""
        good, bad = self._line("good"), {"custom_id": "bad", "method": "GET", "url": self._endpoint}
        self._start("a bad line", [good, bad], self._bad_line)
        self._start("a custom_id that repeats", [self._line("same"), self._line("same")], self._repeated)
        refused = request("refused", self._endpoint, {**question(self._model), "messages": "none"})
        self._start("a line that is refused", [good, refused], self._refused_line)
        most = self._dialect.rules.max_custom_id_chars
        self._start(f"a custom_id of {most} characters", [self._line("x" * most)], partial(self._long_id, chars=most))
        if most < _LONG_ID_CHARS:
            subject = f"a custom_id of {_LONG_ID_CHARS} characters"
            self._start(subject, [self._line("x" * _LONG_ID_CHARS)], partial(self._long_id, chars=_LONG_ID_CHARS))
        self._two_of_one_file()
        self._windows()
        self._audio()
        # The last one, so that it is cancelled before it can end.
        cancelled = [self._line(f"cancelled-{number}") for number in range(_CANCELLED_LINES)]
        batch = self._start("a cancelled batch", cancelled, self._cancelled)
        if batch is not None:
            self._cancel(batch)

    def conclude(self) -> None:
        """Wait for the batches and report what became of them."""
        ended = self._remote.wait(*(running.batch for running in self._running))
        for running, batch in zip(self._running, ended, strict=True):
            running.conclude(batch)
        self._cancel_again(ended)

    # Beginning

    def _line(self, custom_id: str) -> dict[str, Any]:
        return request(custom_id, self._endpoint, question(self._model))

    def _start(
        self,
        subject: str,
        lines: Sequence[dict[str, Any]],
        conclude: Callable[[str, Batch], None],
        *,
        endpoint: str | None = None,
        model: str | None = None,
    ) -> Batch | None:
        try:
            tried = self._remote.attempt(
                lines_of(*lines), endpoint or self._endpoint, model or self._model, self._window
            )
        except (AccountRefused, RateLimited):
            raise
        except ProviderError as error:
            self._report.add(subject, "", _short(error.message), Verdict.OPEN)
            return None
        return self._watched(subject, tried, conclude)

    def _watched(self, subject: str, tried: Attempt, conclude: Callable[[str, Batch], None]) -> Batch | None:
        if tried.batch is None:
            self._report.note(subject, f"refused at its {tried.refused}: {_short(tried.refusal or '')}")
            return None
        self._running.append(_Running(tried.batch, partial(self._concluded, subject, conclude)))
        return tried.batch

    def _concluded(self, subject: str, conclude: Callable[[str, Batch], None], batch: Batch) -> None:
        if not batch.is_terminal:
            self._report.add(subject, "", f"still {printable(batch.status)}", Verdict.OPEN)
            return
        try:
            conclude(subject, batch)
        except ProviderError as error:
            self._report.add(subject, "", _short(error.message), Verdict.OPEN)

    def _cancel(self, batch: Batch) -> None:
        try:
            self._remote.see(self._remote.provider.cancel_batch(batch.id))
        except ProviderRefused as error:
            self._report.note("cancelling a running batch", f"refused: {_short(error.message)}")

    def _two_of_one_file(self) -> None:
        """Create two batches of one file, and delete the file at once."""
        subject = "its input deleted after the creation"
        tried = self._remote.attempt(lines_of(self._line("twice")), self._endpoint, self._model, self._window)
        first = self._watched(subject, tried, self._deleted_input)
        if first is None or tried.file is None:
            return
        try:
            second = self._remote.create(tried.file.id, self._endpoint, self._model, self._window)
        except (AccountRefused, RateLimited):
            raise
        except ProviderRefused as error:
            self._report.note("a second batch of a file", f"refused: {_short(error.message)}")
        else:
            found = "the first one again" if second.id == first.id else "a batch of its own"
            self._report.note("a second batch of a file", found)
        if self._dialect.api.idempotency_field is not None:
            self._repeated_creation(tried.file.id)
        try:
            self._remote.delete(tried.file.id)
        except ProviderRefused as error:
            self._report.note("deletion of a file in use", f"refused: {_short(error.message)}")

    def _repeated_creation(self, file_id: FileId) -> None:
        """Create the same batch twice with one key; the second creation must return the first batch."""
        key = f"{self._remote.key}-twice"
        found = [self._remote.create(file_id, self._endpoint, self._model, self._window, key=key).id for _ in range(2)]
        is_same = found[0] == found[1]
        self._report.compare(
            "a repeated creation with its key",
            "the first batch",
            "the first batch" if is_same else "another batch",
            is_same=is_same,
        )

    def _windows(self) -> None:
        """Try windows on a file that does not exist, so that nothing can be executed."""
        windows = self._dialect.windows
        known, batch = self._created_of_nothing(self._window)
        if batch is not None:
            self._running.append(_Running(batch, partial(self._concluded, "a file that does not exist", self._no_file)))
        else:
            self._report.note("a file that does not exist", f"refused at the creation: {known}")
        tries = ["48h", "2d", windows.longest, f"{windows.longest_hours + _HOURS_PER_DAY}h"]
        taken = [self._window]
        for window in dict.fromkeys(tries):
            is_known = window in {windows.longest, windows.written(2 * _HOURS_PER_DAY)}
            is_offered = is_known and windows.longest_hours >= 2 * _HOURS_PER_DAY
            refusal, batch = self._created_of_nothing(window)
            subject = f"a window of {window}"
            if batch is not None:
                found = "taken"
                taken.append(window)
            elif refusal == known:
                found = "not told: the file is refused first"
            else:
                found = f"refused: {refusal}"
            if is_offered and (batch is not None or refusal != known):
                hours = sorted(map(hours_of, taken))
                corrections: dict[str, object] = {"windows": [hours[0], hours[-1]]}
                self._report.compare(subject, "taken", found, is_same=batch is not None, corrections=corrections)
            elif window != self._window:
                self._report.note(subject, found)

    def _created_of_nothing(self, window: str) -> tuple[str | None, Batch | None]:
        """Create a batch of a file that does not exist; return a refusal, or the batch."""
        try:
            return None, self._remote.create(_NO_SUCH_FILE, self._endpoint, self._model, window)
        except (AccountRefused, RateLimited):
            raise
        except ProviderRefused as error:
            return _short(error.message), None

    def _audio(self) -> None:
        address = self._remote.trial.audio
        if address is None or TRANSCRIPTIONS not in self._dialect.rules.endpoints:
            return
        model = next(iter(self._dialect.models.transcription), self._model)
        plain = request("audio", TRANSCRIPTIONS, {"model": model, "url": address})
        text = request("text", TRANSCRIPTIONS, {"model": model, "url": address, "response_format": "text"})
        audio = {"endpoint": TRANSCRIPTIONS, "model": model}
        self._start(f"audio lines, endpoint {TRANSCRIPTIONS}", [plain, text], self._transcripts, **audio)
        if not self._dialect.rules.has_one_model:
            mixed = [self._line("chat"), {**plain, "custom_id": "mixed"}]
            self._start(f"a mixed file, endpoint {CHAT}", mixed, self._mixed, endpoint=CHAT)

    # Concluding

    def _bad_line(self, subject: str, batch: Batch) -> None:
        results = self._remote.results(batch)
        where = _where(results, "bad")
        if batch.status == BatchStatus.FAILED:
            found = "the batch fails"
        else:
            good = "the good line is answered" if _is_answered(results, "good") else "the good line is not answered"
            found = f"the batch ends as {printable(batch.status)}, {good}, the bad one is {where}"
        self._report.note(subject, f"{found}{_problems(batch)}")
        self._report.note("shape of errors", _shape_of_errors(batch.raw.get("errors")))

    def _repeated(self, subject: str, batch: Batch) -> None:
        count = len(answer_of(self._remote.results(batch), "same"))
        found = f"{counted(count, 'line')} for it, {printable(batch.status)}"
        self._report.note(subject, f"{found}{_problems(batch)}")

    def _refused_line(self, subject: str, batch: Batch) -> None:
        found = answer_of(self._remote.results(batch), "refused")
        if not found:
            self._report.note(subject, f"in no file, {printable(batch.status)}{_problems(batch)}")
            return
        kind, line = found[0]
        self._report.note(subject, f"in the {kind} file: {_members(line)}")

    def _long_id(self, subject: str, batch: Batch, *, chars: int) -> None:
        results = self._remote.results(batch)
        is_answered = _is_answered(results, "x" * chars)
        found = "answered" if is_answered else f"not answered, {printable(batch.status)}{_problems(batch)}"
        if not is_answered and batch.status != BatchStatus.FAILED and not answer_of(results, "x" * chars):
            self._report.add(subject, "", f"{found}, in no file", Verdict.OPEN)
        elif chars == self._dialect.rules.max_custom_id_chars:
            self._report.compare(subject, "answered", found, is_same=is_answered, corrections={"custom_id_chars": None})
        else:
            self._report.note(subject, found)

    def _deleted_input(self, subject: str, batch: Batch) -> None:
        is_answered = _is_answered(self._remote.results(batch), "twice")
        found = "is answered all the same" if is_answered else "is not answered"
        self._report.note(subject, f"{found}, {printable(batch.status)}{_problems(batch)}")

    def _no_file(self, subject: str, batch: Batch) -> None:
        self._report.note(subject, f"taken, and later {printable(batch.status)}{_problems(batch)}")

    def _cancelled(self, subject: str, batch: Batch) -> None:
        results = self._remote.results(batch)
        kinds = Counter(f"{kind} file: {_members(line)}" for kind, line in results)
        lines = "; ".join(f"{count} in the {what}" for what, count in kinds.items()) or "no line in its files"
        self._report.note(subject, f"{printable(batch.status)}, {lines}")

    def _transcripts(self, subject: str, batch: Batch) -> None:
        results = self._remote.results(batch)
        self._report.note(subject, f"{printable(batch.status)}, {_where(results, 'audio')}{_problems(batch)}")
        bodies = [_body(line) for _, line in answer_of(results, "text")]
        found = "not seen" if not bodies else f"a body that is {_kind(bodies[0])}"
        self._report.note("a transcript as text", found)

    def _mixed(self, subject: str, batch: Batch) -> None:
        results = self._remote.results(batch)
        both = all(_is_answered(results, name) for name in ("chat", "mixed"))
        found = "both lines are answered" if both else "not both lines are answered"
        self._report.note(subject, f"{found}, {printable(batch.status)}{_problems(batch)}")

    def _cancel_again(self, ended: Sequence[Batch]) -> None:
        """Note what the server itself answers to the cancellation of a batch that has ended."""
        done = next((batch for batch in ended if batch.status == BatchStatus.COMPLETED), None)
        if done is None:
            return
        path = f"{self._dialect.api.batches_path}/{done.id}/cancel"
        try:
            self._remote.provider.http.post(path)
        except ProviderRefused as error:
            self._report.note("cancelling an ended batch", f"status {error.status}")
        except ProviderError as error:
            self._report.note("cancelling an ended batch", _short(error.message))
        else:
            self._report.note("cancelling an ended batch", "status 200")


def _short(message: str) -> str:
    return printable(message, _LONGEST_CHARS)


def _problems(batch: Batch) -> str:
    return "".join(
        f": {printable(problem.code or '', _LONGEST_CHARS)} {_short(problem.message)}" for problem in batch.problems[:1]
    )


def _is_answered(results: Sequence[tuple[str, Any]], custom_id: str) -> bool:
    answers = (jsonl.read_output_line(line) for _, line in answer_of(results, custom_id))
    return any(answer is not None and answer.body is not None and not answer.has_error for answer in answers)


def _where(results: Sequence[tuple[str, Any]], custom_id: str) -> str:
    found = answer_of(results, custom_id)
    return f"in the {found[0][0]} file: {_members(found[0][1])}" if found else "in no file"


def _body(line: Mapping[str, Any]) -> object:
    response = line.get("response")
    return response.get("body") if isinstance(response, Mapping) else None


def _members(line: object) -> str:
    """Return what a line of a result file says of its outcome, for people."""
    if not isinstance(line, Mapping):
        return "no object"
    response, error = line.get("response"), line.get("error")
    parts = []
    if isinstance(response, Mapping):
        parts.append(f"status {printable(str(response.get('status_code')), _LONGEST_CHARS)}")
        parts.append("with a request_id" if response.get("request_id") else "without a request_id")
    else:
        parts.append("no response")
    if isinstance(error, Mapping):
        parts.append(f"error {_short(str(error.get('code') or error.get('message')))}")
    else:
        parts.append("error null" if "error" in line else "no member error")
    return ", ".join(parts)


def _shape_of_errors(errors: object) -> str:
    if isinstance(errors, Mapping):
        return "an object with data" if isinstance(errors.get("data"), list) else "an object without data"
    return _kind(errors)


def _kind(value: object) -> str:
    names = {type(None): "null", str: "a string", dict: "an object", list: "a list"}
    return names.get(type(value), "a number")
