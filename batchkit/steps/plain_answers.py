"""Recognising plain successes by the million: the parser itself checks an answer's shape and leaves its body as it came.

A line that is recognised here is a success for ``jsonl.read_output_line`` and ``lifecycle.classify`` as well, with the same
facts; a property test compares the two. What stays in doubt is read the long way.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Raw, Struct

from batchkit.files import jsonl

_MAX_WORD_CHARS: Final = 200

_Tokens = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class _Usage(Struct, gc=False):
    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None
    total_tokens: _Tokens | None = None


class _Choice(Struct, gc=False):
    finish_reason: Literal["stop", "length", "tool_calls", "function_call", "content_filter"] | None = None


class _Body(Struct, gc=False):
    choices: list[_Choice] = []
    text: str | None = None
    usage: _Usage | None = None
    error: None = None


class _Response(Struct, gc=False):
    status_code: Literal[200]
    body: Raw
    request_id: str | None = None


class _Line(Struct, gc=False):
    custom_id: str
    response: _Response
    error: None = None


class PlainAnswers(Struct, array_like=True, gc=False):
    """Successes with status 200, column by column: the bodies are JSON text as it came, the tokens are as far as they are told."""

    custom_ids: list[str]
    request_ids: list[str | None]
    bodies: list[str]
    finish_reasons: list[str | None]
    prompt_tokens: list[int | None]
    completion_tokens: list[int | None]
    total_tokens: list[int | None]

    def chosen(self, places: list[int]) -> PlainAnswers:
        """Give those at some places, in that order."""
        if len(places) == len(self.custom_ids):
            return self
        columns = (getattr(self, name) for name in self.__struct_fields__)
        return PlainAnswers(*[[column[place] for place in places] for column in columns])


_NO_USAGE: Final = _Usage()
_NO_CHOICE: Final = _Choice()
_read_lines: Final = jsonl.typed_lines_reader(_Line)
_read_body: Final = jsonl.typed_reader(_Body)


def plain_answers(block: bytes) -> PlainAnswers | None:
    r"""Read a block of lines, each with a ``\n`` behind it; None unless all are plain successes.

    Two answers in one line, or one in two, are taken as well: each tells by itself whose it is.
    """
    try:
        responses = _read_lines(block)
        answered = [line.response for line in responses]
        raw_bodies = [response.body for response in answered]
        bodies = list(map(_read_body, raw_bodies))
        texts = [str(raw, "utf-8") for raw in raw_bodies]
    except jsonl.UNREADABLE:
        return None
    if any(not body.choices and body.text is None for body in bodies):
        return None
    request_ids = [response.request_id for response in answered]
    if not _are_words(request_ids):
        return None
    usages = [body.usage or _NO_USAGE for body in bodies]
    return PlainAnswers(
        [line.custom_id for line in responses],
        request_ids,
        texts,
        [(body.choices or (_NO_CHOICE,))[0].finish_reason for body in bodies],
        [usage.prompt_tokens for usage in usages],
        [usage.completion_tokens for usage in usages],
        [usage.total_tokens for usage in usages],
    )


def _are_words(words: list[str | None]) -> bool:
    """Whether each of these is stored as it is: see ``jsonl.storable_word``."""
    given = [word for word in words if word is not None]
    lengths = set(map(len, given)) or {1}
    return min(lengths) > 0 and max(lengths) <= _MAX_WORD_CHARS and "".join(given).isprintable()
