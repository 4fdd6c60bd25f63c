"""What the user means by SOURCE and --name."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from batchkit.errors import InputInvalid, InputProblem, UsageError
from batchkit.files import sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STDIN = "-"
_DIGEST_CHARS = 8


@contextmanager
def opened(words: Sequence[str], *, folder: Path | None) -> Iterator[list[Path]]:
    """Yield the files that SOURCE names; stdin (``-``) is copied first, because an input is read more than once.

    The copy lies in ``folder``, or with None where the system keeps temporary files, and is deleted at the end. Problems
    with its lines are reported as ``-:LINE``. Raises ``UsageError`` when stdin is named twice.
    """
    if words.count(STDIN) > 1:
        raise UsageError("stdin (-) can be read only once")
    if STDIN not in words:
        yield [Path(word) for word in words]
        return
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with TemporaryDirectory(prefix="stdin-", dir=folder) as directory:
        copy = sources.spool_stdin(sys.stdin.buffer, Path(directory))
        try:
            yield [copy if word == STDIN else Path(word) for word in words]
        except InputInvalid as invalid:
            raise InputInvalid([_as_stdin(problem, copy) for problem in invalid.problems], invalid.count) from None


def _as_stdin(problem: InputProblem, copy: Path) -> InputProblem:
    return InputProblem(STDIN, problem.line, problem.reason) if problem.source == str(copy) else problem


def workload_name(given: str | None, words: Sequence[str], paths: Sequence[Path]) -> str | None:
    """Return the workload's name: the given one, or for stdin one with a digest of the bytes, so that the same input resumes.

    None means that of the first file.
    """
    if given is None and words[0] == STDIN:
        return paths[0].name[: len("stdin-") + _DIGEST_CHARS]
    return given
