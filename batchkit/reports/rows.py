"""The requests that a report shows one by one: the worst first, with question and answer, cut to fit."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self

from batchkit import formatting
from batchkit.errors import SpoolError
from batchkit.files import jsonl
from batchkit.reports.text import Cut, cut, escaped_bytes
from batchkit.store import report_rows, shards

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy.engine import Connection

    from batchkit.engine.runtime import Runner
    from batchkit.models import ShardId, Workload
    from batchkit.store.report_rows import ReportRow

#: The bytes that all texts of a page share; each text also has its own limit.
TEXT_BYTES = 900_000
_LONGEST_TEXT_BYTES = 4_000
_SHORTEST_TEXT_BYTES = 160
_ID_BYTES = 300
_FORMER_MARKUP_BYTES = 600
_BESIDE_MARKUP_BYTES = 120
_SCORE_MARKUP_BYTES = 24
#: Shard files at a URL are downloaded completely, so only this many of them.
_FETCHED_FILES = 4
_OPEN_FILES = 32


class Former(NamedTuple):
    """The answer to the same row in an earlier ``run``."""

    run: str
    answer: Cut
    error: Cut
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None


class Beside(NamedTuple):
    """The answer of another prompt or model to the same row, with its scores."""

    name: str
    answer: Cut
    scores: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A request as the page shows it. ``place`` is its line in the input, starting at 1.

    ``prompt`` is None if the shard's file is not available. ``former`` is the answer in the run before, of a row whose score changed.
    """

    place: int
    custom_id: Cut
    state: str
    attempts: int
    prompt: Cut | None
    answer: Cut
    error: Cut
    facts: tuple[str, ...]
    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    scores: tuple[tuple[str, str], ...] = ()
    expected: Cut | None = None
    flipped: str | None = None
    review: str | None = None
    finish_reason: str | None = None
    former: Former | None = None
    beside: tuple[Beside, ...] = ()

    @property
    def texts(self) -> Iterator[str]:
        """Return all texts of the row that come from outside."""
        for text in (self.custom_id, self.prompt, self.answer, self.error, self.expected):
            if text is not None:
                yield text.text
        yield self.model
        yield from self.facts
        for name, value in self.scores:
            yield name + value
        if self.former is not None:
            yield self.former.run
            yield self.former.answer.text
            yield self.former.error.text
        for one in self.beside:
            yield one.name
            yield one.answer.text
            for name, value in one.scores:
                yield name + value

    @property
    def more_markup(self) -> int:
        """Return the largest size of the markup of other answers, beside their texts."""
        scores = sum(len(one.scores) for one in self.beside)
        others = _BESIDE_MARKUP_BYTES * len(self.beside) + _SCORE_MARKUP_BYTES * scores
        return (_FORMER_MARKUP_BYTES if self.former else 0) + others

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the values by which the row can be filtered."""
        return tuple(kind for kind in (self.state, self.flipped, self.review) if kind is not None)


def worst_rows(runner: Runner, workload: Workload, *, limit: int) -> list[ShownRow]:
    """Read up to ``limit`` requests, the worst first (see ``report_rows.worst_seqs``)."""
    if limit <= 0:
        return []
    with runner.store.read() as connection:
        seqs = report_rows.worst_seqs(connection, workload.id, limit=limit)
    return rows_of(runner, workload, seqs)


def rows_of(runner: Runner, workload: Workload, seqs: Sequence[int]) -> list[ShownRow]:
    """Read requests by their places in the input, in the given order."""
    each = text_limit(len(seqs))
    with runner.store.read() as connection, _ShardFiles(runner) as files:
        lines = _Lines(connection, files)
        return [_shown(row, lines.read(row), each) for row in report_rows.report_rows(connection, workload.id, seqs)]


def request_line(runner: Runner, connection: Connection, row: ReportRow) -> Any:
    """Return a request's line as it was sent, read from its place in the file; None if its shard's file is not available."""
    with _ShardFiles(runner) as files:
        return _Lines(connection, files).read(row)


def text_limit(rows: int) -> int:
    """Return the bytes that each of the two texts of a row may take."""
    return min(max(TEXT_BYTES // max(2 * rows, 1), _SHORTEST_TEXT_BYTES), _LONGEST_TEXT_BYTES)


def prompt_of(line: Any) -> str | None:
    """Return the question of a request: the last user message, or the recording's address; None for an invalid request."""
    body = line.get("body") if isinstance(line, dict) else None
    if not isinstance(body, dict):
        return None
    messages = body.get("messages")
    if isinstance(messages, list):
        asked = [message for message in messages if isinstance(message, dict) and message.get("role") == "user"]
        chosen = asked or [message for message in messages if isinstance(message, dict)]
        return _content(chosen[-1].get("content")) if chosen else ""
    parts = [body[name] for name in ("url", "prompt") if isinstance(body.get(name), str)]
    return "\n".join(parts)


def answer_of(body: bytes | None) -> str:
    """Return a model's answer: its text, or its tool calls as JSON."""
    text = jsonl.answer_text(body)
    if text or body is None:
        return text or ""
    value = jsonl.loads_leniently(body)
    choices = value.get("choices") if isinstance(value, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    return jsonl.dumps(calls).decode() if calls else ""


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(_part(part) for part in content if isinstance(part, dict))


def _part(part: dict[str, Any]) -> str:
    if isinstance(part.get("text"), str):
        return str(part["text"])
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else None
    if not isinstance(url, str):
        return f"[{part.get('type')}]"
    return "[image]" if url.startswith("data:") else f"[image {url}]"


def _shown(row: ReportRow, line: Any, each: int) -> ShownRow:
    prompt = prompt_of(line)
    body = line.get("body") if isinstance(line, dict) else None
    model = body.get("model") if isinstance(body, dict) else None
    facts = []
    if row.finish_reason not in {None, "stop"}:
        facts.append(f"ended by {row.finish_reason}")
    if row.body_seq is not None:
        facts.append("answer of another request")
    if row.expiries:
        facts.append(f"unanswered {formatting.counted(row.expiries, 'time')}")
    return ShownRow(
        place=row.seq + 1,
        custom_id=cut(row.custom_id, _ID_BYTES),
        state=row.state,
        attempts=row.attempts,
        prompt=None if prompt is None else cut(prompt, each),
        answer=cut(answer_of(row.body), each),
        error=cut(error_text(row.status_code, row.error_code, row.error_message), min(each, 1_000)),
        facts=tuple(cut(fact, _ID_BYTES).text for fact in facts),
        model=cut(model, _ID_BYTES).text if isinstance(model, str) else "",
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        finish_reason=None if row.finish_reason is None else cut(row.finish_reason, _ID_BYTES).text,
    )


def error_text(status_code: int | None, code: str | None, message: str | None) -> str:
    """Return an error in one line: status, code and the provider's message; empty without an error."""
    if code is None and message is None:
        return ""
    name = " ".join(str(part) for part in (status_code, code) if part is not None)
    return f"{name}: {message}" if name and message else name or message or ""


def within(rows: Iterable[ShownRow], most_bytes: int, overhead: int) -> list[ShownRow]:
    """Return the first rows whose texts, with ``overhead`` bytes each, fit in ``most_bytes``."""
    kept: list[ShownRow] = []
    used = 0
    for row in rows:
        used += overhead + row.more_markup + sum(map(escaped_bytes, row.texts))
        if used > most_bytes:
            break
        kept.append(row)
    return kept


class _Lines:
    """Reads the lines of requests from the shard files."""

    def __init__(self, connection: Any, files: _ShardFiles) -> None:
        self._connection = connection
        self._files = files

    def read(self, row: ReportRow) -> Any:
        """Return the request's line; None if its shard's file is not available."""
        handle = self._files.open(self._connection, row.shard_id)
        if handle is None:
            return None
        handle.seek(row.line_offset)
        try:
            return jsonl.loads_leniently(handle.read(row.line_length))
        except jsonl.MalformedJson:
            return None


class _ShardFiles:
    """Shard files, each opened once and closed together; files at a URL are downloaded, but only a few."""

    def __init__(self, runner: Runner) -> None:
        self._spool = runner.spool
        self._stack = ExitStack()
        self._open: dict[ShardId, IO[bytes] | None] = {}
        self._fetched = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def open(self, connection: Any, shard_id: ShardId) -> IO[bytes] | None:
        """Return a shard's open file, or None."""
        if shard_id not in self._open:
            if len(self._open) >= _OPEN_FILES:
                self._stack.close()
                self._open.clear()
            self._open[shard_id] = self._try(connection, shard_id)
        return self._open[shard_id]

    def _try(self, connection: Any, shard_id: ShardId) -> IO[bytes] | None:
        shard = shards.get(connection, shard_id)
        try:
            if not self._spool.holds(shard):
                if self._fetched >= _FETCHED_FILES:
                    return None
                self._fetched += 1
            return self._stack.enter_context(self._spool.open_shard(shard))
        except SpoolError:
            # If a file is lost or the storage is unavailable, the next ones are too: do not wait for each.
            self._fetched = _FETCHED_FILES
            return None
