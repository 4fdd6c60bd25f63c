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


#: What ``moody`` does; tests set it.
MOOD = "says 1"


def moody(row, _answer):
    """Give a fixed score, or fail on all or on the first rows."""
    if MOOD == "fails" or (MOOD.startswith("fails on ") and int(row["id"][1:]) < int(MOOD.rsplit(maxsplit=1)[-1])):
        raise KeyError("renamed")
    return 0.0 if MOOD == "says 0" else 1.0
