"""Answers with lone surrogates, which files and tables in UTF-8 cannot hold."""

from __future__ import annotations

import logging

from batchkit.files import jsonl

logger = logging.getLogger(__name__)


class ReplacedHalves:
    """Counts the answers of one output in which U+FFFD replaces a lone surrogate, and logs one warning."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, body: bytes | None) -> bool:
        """Return whether a stored body (JSON) has any, and count it if so."""
        found = body is not None and jsonl.has_lone_surrogates(body)
        self.count += found
        return found

    def report(self, target: str) -> None:
        """Log a warning if there were any; ``target`` names the output."""
        if self.count:
            logger.warning(
                "%s: U+FFFD stands for half of a surrogate pair in %s, which this format cannot hold;"
                " `batchkit export` to .jsonl keeps it",
                target,
                "1 answer" if self.count == 1 else f"{self.count:,} answers",
            )
