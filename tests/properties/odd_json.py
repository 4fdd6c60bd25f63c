"""Untrusted bytes: JSON with everything that some reader fails on, and bytes that are nearly JSON."""

from __future__ import annotations

import json  # noqa: TID251 - the other side; it must not share a parser with the code under test
import math
from typing import Any

from hypothesis import strategies as st

_FIRST_SURROGATE, _LAST_SURROGATE = "\ud800", "\udfff"
_UNSIGNED_64_BITS, _SIGNED_64_BITS = 2**64, -(2**63)

#: Any text that Python can hold: NUL, lone surrogates, separators that some readers take for line ends.
texts = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    [
        "",
        "\x00",
        "\ud800",
        "\udfffa",
        "a\u2028b",
        "\x85",
        "=1+1",
        "'=1",
        "\r\n",
        '"',
        ",",
        "null",
        "\ufeff",
        "x" * 3_000,
    ]
)
numbers = st.one_of(
    st.integers(-5, 1_200),
    st.integers(),
    st.floats(),
    st.sampled_from([2**31, 2**63, 2**64, -(2**63) - 1, 10**300, -0.0, 1e999, 5e-324, math.nan]),
)
scalars = st.none() | st.booleans() | numbers | texts
#: Any value that a JSON parser, strict or not, may return.
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


def kept(value: Any) -> Any:
    """Return what the store keeps of a value: the documented losses, and no others.

    NaN and the infinities become null; integers beyond 64 bits keep the digits of a double. Adjacent halves of a surrogate
    pair are the pair.
    """
    if isinstance(value, dict):
        return {kept(key): kept(member) for key, member in value.items()}
    if isinstance(value, list):
        return [kept(member) for member in value]
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool) and not _SIGNED_64_BITS <= value < _UNSIGNED_64_BITS:
        return float(value)
    return value


def in_utf8(text: str) -> str:
    """Return what a UTF-8 file holds of a text: lone surrogates become U+FFFD."""
    return "".join("\ufffd" if _FIRST_SURROGATE <= char <= _LAST_SURROGATE else char for char in text)


def written(value: Any) -> bytes:
    """Return a value as a careless server would write it: escapes for non-ASCII, NaN and Infinity as Python spells them."""
    return json.dumps(value).encode()


#: Pieces that break parsers, in any order.
nearly_json = st.lists(
    st.sampled_from(
        [
            *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\\ud800", b"\\u0000", b"NaN", b"-", b"1e999", b"\r"),
            *(
                b"9" * 400,
                b"null",
                b" ",
                b"\x00",
                b"\xff",
                b"\xed\xa0\x80",
                b"\xef\xbb\xbf",
                b'"custom_id"',
                b"[" * 2_000,
            ),
        ]
    )
    | st.binary(max_size=3),
    max_size=10,
).map(lambda pieces: b"".join(pieces).replace(b"\n", b" "))


@st.composite
def mutations(draw: st.DrawFn, data: bytes) -> bytes:
    """Draw a mutation of a whole line: truncated, doubled, overwritten, or with bytes inserted."""
    for _ in range(draw(st.integers(1, 3))):
        place, other = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        match draw(st.integers(0, 4)):
            case 0:
                data = data[:place]
            case 1:
                data = data[:place] + data[other:]
            case 2:
                data = data[:place] + draw(nearly_json) + data[other:]
            case 3:
                data = data[:place] + draw(nearly_json) + data[place:]
            case _:
                data = data[:other] + data[place:]
    return data.replace(b"\n", b" ")


@st.composite
def changed(draw: st.DrawFn, record: dict[str, Any]) -> Any:
    """Draw a record with some member, at any depth, replaced by any value, removed, or joined by another member."""
    record = json.loads(json.dumps(record))
    for _ in range(draw(st.integers(1, 3))):
        inside: Any = record
        while True:
            places = sorted(inside) if isinstance(inside, dict) else list(range(len(inside)))
            if not places:
                break
            place = draw(st.sampled_from(places))
            if isinstance(inside[place], dict | list) and draw(st.booleans()):
                inside = inside[place]
                continue
            match draw(st.integers(0, 3)):
                case 0 if isinstance(inside, dict):
                    del inside[place]
                case 1 if isinstance(inside, dict):
                    inside[draw(texts)] = draw(values)
                case _:
                    inside[place] = draw(values)
            break
    return record
