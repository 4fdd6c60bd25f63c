"""Made-up secrets, all encodings in which one could be written, and the places where it could be."""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from sqlalchemy import create_engine, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sqlalchemy.engine import Connection

#: With characters that URLs, base64 and JSON escape.
KEY = "gsk_made+up/for=the&safety?tests%0123456789abcdefghij"
PASSWORD = "hunter2@p/a+s:s%w#o&r=d"

_SQLITE = b"SQLite format 3\0"


def spellings(secret: str) -> dict[str, bytes]:
    """Return a secret in every encoding to search for: plain, both halves, for URLs, in JSON, in hex and in base64."""
    raw, middle = secret.encode(), len(secret) // 2
    found = {
        "as it is": raw,
        "first half": raw[:middle],
        "second half": raw[middle:],
        "for a path": quote(secret).encode(),
        "for a query": quote_plus(secret).encode(),
        "for a user": quote(secret, safe="").encode(),
        "in JSON": secret.replace("/", "\\/").encode(),
        "in hex": raw.hex().encode(),
        "in capital hex": raw.hex().upper().encode(),
    }
    # The bytes before it shift its groups of three; the edges depend on the neighbouring bytes and are left out.
    for before in range(3):
        for name, encode in (("base64", base64.b64encode), ("URL base64", base64.urlsafe_b64encode)):
            whole = encode(b"\0" * before + raw)
            found[f"in {name}, {before} behind"] = whole[4 if before else 0 : -4]
    return found


def leaks(place: str, content: bytes, *secrets: str) -> list[str]:
    """Return the encodings of the secrets that are in the content, with its place."""
    return [
        f"{secret[:8]}... {name}: {place}"
        for secret in secrets
        for name, spelling in spellings(secret).items()
        if spelling in content
    ]


def leaks_in_folder(folder: Path, *secrets: str, but: Sequence[Path] = ()) -> list[str]:
    """Search every file below a folder, except those in ``but``, and the rows of SQLite databases among them."""
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        found += leaks("a name", str(path).encode(), *secrets)
        if not path.is_file() or any(path.is_relative_to(left_out) for left_out in but):
            continue
        content = path.read_bytes()
        found += leaks(str(path), content, *secrets)
        if content.startswith(_SQLITE):
            found += leaks(f"rows of {path}", sqlite_dump(path), *secrets)
    return found


def sqlite_dump(path: Path) -> bytes:
    """Return every row of a SQLite file as text: a long value is split over several pages."""
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        rows = [connection.execute(f'SELECT * FROM "{name}"').fetchall() for (name,) in tables]  # noqa: S608 - the file's own names
    return b"\n".join(_written(value) for table in rows for row in table for value in row)


def postgres_dump(database_url: str) -> bytes:
    """Return every row of every table of a Postgres database as text."""
    engine = create_engine(database_url)
    try:
        with engine.connect() as connection:
            return b"\n".join(_postgres_rows(connection))
    finally:
        engine.dispose()


def _postgres_rows(connection: Connection) -> Iterator[bytes]:
    names = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
    for name in names:
        for row in connection.execute(text(f'SELECT * FROM "{name}"')):  # noqa: S608 - the database's own names
            yield from (_written(value) for value in row)


def _written(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
