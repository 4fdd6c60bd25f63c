"""The wait before a call is tried again."""

from __future__ import annotations

_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 8.0
#: 0.5 s times two to the fourth is the longest wait already; a larger power would only overflow.
_LAST_DOUBLING = 4


def backoff_seconds(failures: int, jitter: float) -> float:
    """Return the wait in seconds after ``failures`` failures in a row (from 1): doubling from 0.5 to 8.

    ``jitter``, from 0 to 1, scales it between one half and all of it, so that callers that failed together do not return together.
    """
    longest = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(failures - 1, _LAST_DOUBLING))
    return longest * (0.5 + 0.5 * jitter)
