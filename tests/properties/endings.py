"""Ways in which a batch may end, drawn at random: the content and form of its files, and the faults of fetching them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from batchkit.models import BatchProblem, BatchStatus, RequestCounts
from tests.properties.ideal import Line, Says
from tests.properties.scripted import Ending
from tests.properties.wording import NOISE, chat_body, write

if TYPE_CHECKING:
    from collections.abc import Sequence

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_variants = st.integers(0, 8 * 48 - 1)
_REASONS = ("invalid_json_line", "token_limit_exceeded")


@dataclass
class Script:
    """An ending and its meaning: the lines that count, the meaning of a missing line, and the places that its errors name.

    ``refusal`` is the code of a batch that failed validation, None for one that ran.
    """

    ending: Ending
    lines: list[Line] = field(default_factory=list)
    silence: Says = Says.EXPIRED
    named: tuple[int, ...] = ()
    refusal: str | None = None


@dataclass
class _File:
    """One file under construction: its lines as bytes, and their meaning."""

    written: list[bytes] = field(default_factory=list)
    meant: list[Line] = field(default_factory=list)

    def bytes(self, *, marked: bool, closed: bool) -> bytes:
        """Return the file, with or without a byte order mark and a final newline."""
        text = b"\n".join(self.written) + (b"\n" if closed else b"")
        return (_BYTE_ORDER_MARK if marked else b"") + text

    def count(self) -> int:
        """Return the number of lines that are not blank."""
        return sum(1 for line in self.written if line.strip())


@st.composite
def refusals(draw: st.DrawFn, shard_requests: Sequence[str]) -> Script:
    """Draw a batch that failed validation, with or without a named line; refusals without an explanation have their own tests."""
    code = draw(st.sampled_from(_REASONS))
    named = tuple(draw(st.lists(st.integers(1, len(shard_requests) + 2), max_size=2)))
    problems = [BatchProblem("not that", code=code, line=line) for line in named] or [
        BatchProblem("a line is wrong", code=code)
    ]
    ending = Ending(BatchStatus.FAILED, problems=problems)
    return Script(ending, named=named, refusal=code)


@st.composite
def files(draw: st.DrawFn, shard_requests: Sequence[str], foreign: Sequence[str], serial: str) -> tuple[_File, _File]:
    """Draw an output and an error file: lines for the requests in any order and number, and lines with unknown ids among them."""
    output, error = _File(), _File()
    everybody = range(len(shard_requests))
    if draw(st.integers(0, 3)) == 0:
        spoken: list[Any] = [(place, Says.ANSWER, place, False) for place in everybody]
    else:
        sayings = st.sampled_from([Says.ANSWER, Says.ANSWER, *Says])
        said = st.tuples(st.sampled_from(everybody), sayings, _variants, st.booleans())
        spoken = draw(st.lists(said, max_size=2 * len(shard_requests)))
        if draw(st.booleans()):
            # Two contradicting lines about one request, in either order.
            place, variant = draw(st.sampled_from(everybody)), draw(_variants)
            pair = [(place, Says.ANSWER, variant, False), (place, draw(st.sampled_from(Says)), variant, False)]
            spoken += draw(st.permutations(pair))
    for number, (place, says, variant, is_error) in enumerate(spoken):
        answer = chat_body(f"{serial}.{number}: \u2028 \x85 \x00 ja") if says is Says.ANSWER else None
        line = Line(shard_requests[place], says, answer)
        file = error if is_error else output
        file.written.append(write(line, variant))
        file.meant.append(line)
    strangers = [write(Line(custom_id, Says.ANSWER, chat_body("foreign")), 0) for custom_id in foreign]
    torn = [write(Line(custom_id, Says.ANSWER, chat_body("torn")), 0)[:-2] for custom_id in shard_requests]
    nothing = st.tuples(st.sampled_from([*NOISE, *strangers, *torn]), st.integers(0, 9), st.booleans())
    for data, place, is_error in draw(st.lists(nothing, max_size=3)):
        file = error if is_error else output
        file.written.insert(place % (len(file.written) + 1), data)
    return output, error


@st.composite
def scripts(draw: st.DrawFn, shard_requests: Sequence[str], foreign: Sequence[str], serial: str) -> Script:
    """Draw any ending of a batch with these ``shard_requests``; ``foreign`` ids are not in it, ``serial`` marks its answers."""
    if draw(st.integers(0, 5)) == 0:
        return draw(refusals(shard_requests))
    if draw(st.integers(0, 11)) == 0:
        return Script(Ending(vanishes=True))
    output, error = draw(files(shard_requests, foreign, serial))
    status = draw(st.sampled_from([BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED]))
    named = tuple(draw(st.sampled_from([(), (), (1,), (2, 99)])))
    closed, marked = draw(st.booleans()), draw(st.integers(0, 5)) == 0
    ending = Ending(
        status,
        output.bytes(marked=marked, closed=closed) if output.written else None,
        error.bytes(marked=False, closed=closed) if error.written else None,
        counts=RequestCounts(len(shard_requests), output.count(), error.count()),
        problems=[BatchProblem("not that", code="invalid_url", line=line) for line in named],
    )
    trouble = draw(st.sampled_from(["none", "lies", "late", "away", "broken", "torn", "gone"]))
    amount = draw(st.integers(1, 3))
    lines = output.meant + error.meant
    match trouble:
        case "lies":
            # Only for files that exist: a count for a missing file makes the runner wait for that file.
            many = draw(st.integers(0, 9))
            ending.counts = RequestCounts(
                many, many if output.written else 0, draw(st.integers(0, 9)) if error.written else 0
            )
        case "late" if all(file.count() for file in (output, error) if file.written):
            ending.late = amount
        case "away":
            ending.away = amount
        case "broken":
            ending.broken = amount
        case "torn":
            ending.torn = min(amount, 2)
            ending.torn_at = draw(st.integers(0, max(len(ending.output or b""), len(ending.error or b""))))
        case "gone":
            ending.gone = frozenset(draw(st.sampled_from([("output",), ("error",), ("output", "error")])))
            lines = [
                line
                for kind, file in (("output", output), ("error", error))
                if kind not in ending.gone
                for line in file.meant
            ]
    silence = Says.STOPPED if status == BatchStatus.CANCELLED else Says.EXPIRED
    return Script(ending, lines, silence, named)
