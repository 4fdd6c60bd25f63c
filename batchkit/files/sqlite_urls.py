"""The addresses of SQLite files: what they say about the path, which may hold any character."""

from __future__ import annotations

import re
from typing import Final

_ADDRESS: Final = "sqlite:///"
#: Options at the end. A question mark with anything else behind it belongs to the path.
_OPTIONS: Final = re.compile(r"\?\w+=[^/?&]*(?:&\w+=[^/?&]*)*\Z")


def sqlite_file(url: str) -> str | None:
    """Return the path of an address that names a SQLite file without options; None for any other address."""
    if not url.startswith(_ADDRESS) or _OPTIONS.search(url):
        return None
    return url.removeprefix(_ADDRESS)
