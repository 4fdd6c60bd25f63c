"""The fast path for plain successes: the parser checks the shape of an answer and leaves its body unchanged.

A line that is recognised here is a success for ``jsonl.read_output_line`` and ``lifecycle.classify`` as well, with the same
facts; a property test compares the two. All other lines take the lenient path.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Raw, Struct

from batchkit.files import jsonl
from batchkit.steps.answer_facts import PlainBody, are_storable, fact_columns


class _Response(Struct, gc=False):
    status_code: Literal[200]
    body: Raw
    request_id: str | None = None


class _Line(Struct, gc=False):
    custom_id: str
    response: _Response
    error: None = None


class PlainAnswers(Struct, array_like=True, gc=False):
    """Successes with status 200, in columns: the bodies are JSON text as received, ``facts`` is the result of ``fact_columns``."""

    custom_ids: list[str]
    request_ids: list[str | None]
    bodies: list[str]
    facts: tuple[list[Any], ...]

    def chosen(self, places: list[int]) -> PlainAnswers:
        """Return the answers at ``places``, in that order."""
        if len(places) == len(self.custom_ids):
            return self

        def of(column: list[Any]) -> list[Any]:
            return [column[place] for place in places]

        return PlainAnswers(of(self.custom_ids), of(self.request_ids), of(self.bodies), tuple(map(of, self.facts)))


_read_lines: Final = jsonl.typed_lines_reader(_Line)
_read_body: Final = jsonl.typed_reader(PlainBody)


def plain_answers(block: bytes) -> PlainAnswers | None:
    r"""Read a block of lines that each end with ``\n``; None unless all are plain successes.

    Two answers in one line, or one in two, are accepted: each holds its own custom_id.
    """
    try:
        responses = _read_lines(block)
        answered = [line.response for line in responses]
        raw_bodies = [response.body for response in answered]
        bodies = list(map(_read_body, raw_bodies))
        texts = [str(raw, "utf-8") for raw in raw_bodies]
    except jsonl.UNREADABLE:
        return None
    request_ids = [response.request_id for response in answered]
    facts = fact_columns(bodies)
    if facts is None or not are_storable(request_ids):
        return None
    return PlainAnswers([line.custom_id for line in responses], request_ids, texts, facts)
