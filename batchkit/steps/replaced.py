"""Answers that hold half of a surrogate pair, on their way into files and tables of UTF-8."""

from __future__ import annotations

import logging

from batchkit.files import jsonl

logger = logging.getLogger(__name__)


class ReplacedHalves:
    """Counts the answers of one output in which U+FFFD stands for half of a surrogate pair, and tells it once."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, body: bytes | None) -> bool:
        """Whether a stored body, JSON, has any; then it is counted."""
        found = body is not None and jsonl.has_lone_surrogates(body)
        self.count += found
        return found

    def report(self, target: str) -> None:
        """Log a warning if there were any; ``target`` says where they were written."""
        if self.count:
            logger.warning(
                "%s: U+FFFD stands for half of a surrogate pair in %s, which this format cannot hold;"
                " `batchkit export` to .jsonl keeps it",
                target,
                "1 answer" if self.count == 1 else f"{self.count:,} answers",
            )
