"""What the user means by SOURCE, --name and --output."""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from batchkit.errors import InputInvalid, Problem, UsageError
from batchkit.files import sources
from batchkit.steps.export import check_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STDIN = "-"
_NOT_IN_FILE_NAMES = re.compile(r"[/\\\x00-\x1f]+")
_DIGEST_CHARS = 8


@contextmanager
def opened(words: Sequence[str], *, folder: Path | None) -> Iterator[list[Path]]:
    """Give the files that SOURCE names; stdin (``-``) is copied first, because an input is read more than once.

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


def _as_stdin(problem: Problem, copy: Path) -> Problem:
    return Problem(STDIN, problem.line, problem.reason) if problem.source == str(copy) else problem


def workload_name(given: str | None, words: Sequence[str], paths: Sequence[Path]) -> str:
    """Choose the workload's name: the given one, else the first file's without its endings.

    For stdin it is made of a digest of the bytes, so that the same input carries on. Raises ``UsageError`` for names that
    cannot be shown on one line.
    """
    if given is not None:
        name = given
    elif words[0] == STDIN:
        name = paths[0].name[: len("stdin-") + _DIGEST_CHARS]
    else:
        name = sources.name_of(paths[0])
    return sources.check_name(name)


def output_file(given: Path | None, name: str, paths: Sequence[Path]) -> Path:
    """Choose where the results go: the given file, else ``NAME.results.jsonl`` in the working directory.

    Raises ``UsageError`` for one that cannot be written, or that is the input.
    """
    target = given or Path(f"{_NOT_IN_FILE_NAMES.sub('-', name)}.results.jsonl")
    check_target(target, inputs=paths)
    return target
