"""The recordings of a table's texts: their files beside the table, one for each row."""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

from batchkit.annotation.skipped import SkippedRow
from batchkit.answers.file_answers import FileAnswer
from batchkit.steps.answer_copies import copy_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.annotation.row_answers import Answered
    from batchkit.files.spool import Spool

#: The table beside the recordings.
TABLE: Final = "table.parquet"
#: Keys that are the same name on every disk, whatever it thinks of capital letters.
_PLAIN_KEY: Final = re.compile(r"[a-z0-9_-][a-z0-9_.-]{0,79}")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_STEM_CHARS: Final = 60


def table_in(folder: str) -> str:
    """Return the path of the table with the recordings of a folder."""
    return str(Path(folder) / TABLE)


def placed(answered: Sequence[Answered], spool: Spool, folder: Path) -> list[Answered]:
    """Copy the recordings of some rows into ``folder``; returns the answers with their paths from there. Raises ``SpoolError``."""
    found: list[Answered] = []
    for of_row in answered:
        if isinstance(of_row, SkippedRow):
            found.append(of_row)
            continue
        moved = []
        for answer in of_row:
            if answer.value is None:
                moved.append(answer)
                continue
            file = FileAnswer(**answer.value)
            name = file_name(answer.custom_id.partition(":")[0], file.path)
            copy_answer(spool, file, folder / name)
            moved.append(replace(answer, value={**answer.value, "path": name}))
        found.append(tuple(moved))
    return found


def file_name(key: str, path: str) -> str:
    """Return the name of a row's file: its key, and the ending of ``path``. Different keys have different names."""
    ending = Path(path).suffix
    if _PLAIN_KEY.fullmatch(key):
        return f"{key}{ending}"
    stem = _UNSAFE.sub("-", key).strip("-.")[:_STEM_CHARS]
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
    return f"{stem}-{digest}{ending}" if stem else f"{digest}{ending}"
