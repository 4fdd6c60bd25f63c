"""The output line of a call that ended, and what its answer used. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from batchkit.answers.file_answers import file_answer
from batchkit.files import jsonl
from batchkit.provider.call_reply import CallEnd
from batchkit.provider.call_verdicts import CallVerdict
from batchkit.sending.journal import NO_ANSWER_CODE, TOO_LARGE_CODE, answer_line, error_line
from batchkit.sending.reservations import Amounts

if TYPE_CHECKING:
    from batchkit.provider.call_reply import CallReply
    from batchkit.provider.call_verdicts import CallJudgement


class _Details(Struct, gc=False):
    cached_tokens: float = 0.0


class _Usage(Struct, gc=False):
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    prompt_tokens_details: _Details | None = None


class _Body(Struct, gc=False):
    usage: _Usage | None = None


_read_body: Final = jsonl.typed_reader(_Body)


def _read(body: bytes) -> object | None:
    """Return a JSON body, None for one that is none; of a body of the usual shape, only its usage is read."""
    try:
        return _read_body(body)
    except jsonl.UNREADABLE:
        pass
    try:
        value: object = jsonl.loads_leniently(body)
    except jsonl.MalformedJson:
        return None
    return () if value is None else value


def _used(body: object) -> Amounts | None:
    """Return what an answer says that it used; None when it says nothing."""
    usage = body.usage if isinstance(body, _Body) else None
    if usage is None:
        return None
    # Cached tokens do not count towards Groq's limits (console.groq.com/docs/rate-limits).
    cached = 0.0 if usage.prompt_tokens_details is None else usage.prompt_tokens_details.cached_tokens
    read = usage.prompt_tokens + usage.input_tokens
    return Amounts(input_tokens=max(read - cached, 0.0), output_tokens=usage.completion_tokens + usage.output_tokens)


def line_of(
    custom_id: str, reply: CallReply, judgement: CallJudgement, *, file: bytes | None = None
) -> tuple[bytes, Amounts | None]:
    """Return the output line of a request, with its newline, and what its answer says that it used; None when it says nothing.

    ``file`` is the body of an answer that is a file: no server writes one itself.
    """
    if reply.end is CallEnd.IN_DOUBT:
        return error_line(custom_id, NO_ANSWER_CODE, reply.message), None
    if file is not None:
        return answer_line(custom_id, status=reply.status or 0, request_id=reply.request_id, body=file), None
    if file_answer(reply.body) is not None:
        return error_line(custom_id, NO_ANSWER_CODE, f"{reply.message}, which names a file of this machine"), None
    body = _read(reply.body)
    if body is None:
        code = NO_ANSWER_CODE if reply.is_success else f"http_{reply.status}"
        status = None if reply.is_success else reply.status
        return error_line(custom_id, code, f"{reply.message}, which is not JSON", status=status), None
    if judgement.verdict is CallVerdict.TOO_LARGE_FOR_LIMIT:
        return error_line(custom_id, TOO_LARGE_CODE, judgement.message), None
    line = answer_line(custom_id, status=reply.status or 0, request_id=reply.request_id, body=reply.body)
    return line, _used(body)
