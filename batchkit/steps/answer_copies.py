"""Binary answers beside exported results: copies of their files from the spool."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Final

from batchkit.answers.file_answers import BEGINNING, file_answer
from batchkit.errors import SpoolError
from batchkit.files.spool import disk_errors, sha256_of, whole_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from batchkit.answers.file_answers import FileAnswer
    from batchkit.files.spool import Spool

logger = logging.getLogger(__name__)

_PIECE_BYTES: Final = 1 << 20


def copy_answer(spool: Spool, answer: FileAnswer, target: Path) -> None:
    """Copy the file of a binary answer; one that is there already stays. Raises ``SpoolError`` for a file that is lost or changed."""
    source = spool.kept(answer.path)
    with disk_errors("write", target):
        if target.is_file() and target.stat().st_size == answer.bytes and sha256_of(target) == answer.sha256:
            return
        digest = hashlib.sha256()
        with source.open("rb") as read, whole_file(target, sweeps=False) as written:
            while piece := read.read(_PIECE_BYTES):
                digest.update(piece)
                written.write(piece)
            if digest.hexdigest() != answer.sha256:
                raise SpoolError(f"{source} was changed after it was received", hint="put BATCHKIT_HOME back as it was")


class AnswerCopies:
    """Copies the files of the binary answers among bodies to where their paths lead from ``folder``."""

    def __init__(self, folder: Path, spool: Spool) -> None:
        self._folder = folder
        self._spool = spool
        self._lost = 0

    def note(self, bodies: Iterable[bytes | None]) -> None:
        """Copy the files that some bodies name. Raises ``SpoolError`` for an error of the disk."""
        for body in bodies:
            # Of a million answers mostly none is a file.
            if body is not None and body.startswith(BEGINNING) and (answer := file_answer(body)) is not None:
                self._copy(answer)

    def _copy(self, answer: FileAnswer) -> None:
        try:
            copy_answer(self._spool, answer, self._folder / answer.path)
        except SpoolError as error:
            if isinstance(error.__cause__, OSError):
                raise
            self._lost += 1

    def report(self) -> None:
        """Log how many files are lost: their answers stay, with their digests."""
        if self._lost:
            logger.warning("%d answers name audio that is missing or changed in BATCHKIT_HOME", self._lost)
