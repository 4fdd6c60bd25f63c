"""What a user's own module may hold."""

from __future__ import annotations


def same_length(row, answer):
    """Say whether the answer is as long as the text; a bool is a score."""
    return len(answer.value) == len(row["text"])


def undecided(_row, _answer):
    """Give no score."""


def broken(row, _answer):
    """Fail on a column that is not there."""
    return row["nothing"]
