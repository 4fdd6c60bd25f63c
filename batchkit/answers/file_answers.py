"""Answers that are files: what stands in place of their bytes, in output lines and in the database."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from batchkit.files import jsonl

#: The folder of the spool with all binary answers: those of a workload are in a folder of its directory's name below it.
AUDIO_FOLDER: Final = "audio"
#: How the bodies of binary answers begin, as a pattern of SQL.
FILE_ANSWERS: Final = '{"path":"audio/%'
BEGINNING: Final = FILE_ANSWERS.removesuffix("%").encode()
#: What a server writes in an answer of its own must lead nowhere else.
_PATH: Final = re.compile(r"audio/\w[\w.-]*/\w[\w.-]*/\w[\w.-]*", re.ASCII)


class FileAnswer(Struct, kw_only=True, forbid_unknown_fields=True):
    """A binary answer; ``path`` is below the spool, ``characters`` are those of the text that was spoken."""

    path: str
    bytes: int
    sha256: str
    content_type: str | None = None
    characters: int | None = None


_read: Final = jsonl.typed_reader(FileAnswer)


def file_answer(body: bytes | None) -> FileAnswer | None:
    """Read a body that is a binary answer; None for any other one."""
    if body is None or not body.startswith(BEGINNING):
        return None
    try:
        found = _read(body)
    except jsonl.UNREADABLE:
        return None
    return found if _PATH.fullmatch(found.path) else None
