"""Protection against texts that a spreadsheet would run as a formula.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-``, ``@`` or a similar character as a formula, and the text of a cell may come
from a stranger (CWE-1236; OWASP, "CSV Injection"). Such a cell gets an apostrophe in front, which makes a spreadsheet treat
it as text. A plain number is unchanged: it computes nothing.

A cell that already begins with apostrophes before such a character gets one more, so that two texts never become one cell.
To restore a text: remove the first apostrophe of a cell that begins with apostrophes and then such a character.
"""

from __future__ import annotations

import re

# The last four are the full-width forms of the first four; spreadsheets treat them alike.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\x00\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def without_formula(text: str | None) -> str | None:
    """Return the text, with an apostrophe in front if a spreadsheet would run it."""
    if not text or _FORMULA.match(text) is None or _NUMBER.fullmatch(text) is not None:
        return text
    return f"'{text}"
