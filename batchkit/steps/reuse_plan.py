"""Counting, before anything is stored, the requests that a split would not send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.files.uniqueness import SeenDigests

if TYPE_CHECKING:
    from batchkit.steps.request_digests import RequestDigests
    from batchkit.steps.reuse import ValidAnswers


class PlannedReuse:
    """Tells which requests of an input would be sent; ``answers`` is None where there is no database.

    ``reused`` counts requests whose answer the database has, ``repeated`` those that ask what an earlier one asks. Memory grows by
    eight bytes for each request.
    """

    def __init__(self, digests: RequestDigests, answers: ValidAnswers | None) -> None:
        self._digests = digests
        self._answers = answers
        self._seen = SeenDigests()
        self.reused = 0
        self.repeated = 0

    def sent(self, lines: list[bytes]) -> list[bool]:
        """Return of each line, without its end, whether it would be sent."""
        digests = self._digests.of_lines(lines)
        asked = [digest for digest in digests if digest is not None]
        known = self._answers.find(set(asked)) if asked and self._answers is not None else {}
        is_new = iter(self._seen.add(asked))
        are_sent: list[bool] = []
        for digest in digests:
            is_first = digest is None or next(is_new)
            is_known = digest in known
            self.reused += is_known
            self.repeated += not is_first and not is_known
            are_sent.append(is_first and not is_known)
        return are_sent
