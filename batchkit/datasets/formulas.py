"""Texts that a spreadsheet would run, and how they are kept from it.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-``, ``@`` and their like as a formula, and what stands in a cell may
be written by a stranger (CWE-1236; OWASP, "CSV Injection"). Such a cell gets an apostrophe in front, which makes a
spreadsheet take it as text. A plain number stays as it is: it computes nothing.

A cell that already begins with apostrophes before such a sign gets one more, so that two texts never become one cell.
Hence the way back: of a cell that begins with apostrophes and then such a sign, take off the first apostrophe.
"""

from __future__ import annotations

import re

# The last four are what East Asian input methods make of the first four; spreadsheets take them for the same.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\x00\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def without_formula(text: str | None) -> str | None:
    """Put an apostrophe in front of a text that a spreadsheet would run."""
    if not text or _FORMULA.match(text) is None or _NUMBER.fullmatch(text) is not None:
        return text
    return f"'{text}"
