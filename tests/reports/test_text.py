"""The treatment of foreign text before it is shown on a page."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

from batchkit.reports.text import Cut, cut, escaped_bytes, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("a\r\nb\u2028c\u2029d\x85e", "a\nb\nc\nd\ne"),
        ("bell \x07, escape \x1b[31m, delete \x7f", "bell ␇, escape ␛[31m, delete ␡"),
        ("\x00\x9f", "␀\ufffd"),
        ("file\u202egnp.exe", "file[U+202E]gnp.exe"),
        ("שלום \u200f!", "שלום \u200f!"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("half \ud83d", "half ?"),
    ],
)
def test_invisible_characters_are_shown(text, expected):
    """Control characters become symbols, and direction overrides become codes; letters of any script are unchanged."""
    assert shown(text) == expected


def test_a_short_text_stays_whole():
    """A text that fits is not cut."""
    assert cut("short", 100) == Cut("short", 0)
    assert cut(None, 100) == Cut("", 0)


def test_a_long_text_states_how_much_is_missing():
    """The shown and the missing characters add up."""
    assert cut("x" * 1_000_000, 300) == Cut("x" * 300, 999_700)


@settings(max_examples=50)
@given(st.text(st.characters(codec="utf-8"), max_size=400), st.integers(8, 300))
def test_no_text_exceeds_its_share(text, most):
    """Escaped and in UTF-8, a cut text stays within its bytes, whatever its characters are."""
    found = cut(text, most)

    assert len(str(escape(found.text)).encode()) <= escaped_bytes(found.text) <= most
    assert shown(text).startswith(found.text)
    if not found.missing:
        assert found.text == shown(text)
