"""What a user's own module may hold."""

from __future__ import annotations

import os
import sys
from decimal import Decimal

import numpy as np

CONSTANT = 3


def same_length(row, answer):
    """Say whether the answer is as long as the text; a bool is a score."""
    return len(answer.value) == len(row["text"])


def undecided(_row, _answer):
    """Give no score."""


def broken(row, _answer):
    """Fail on a column that is not there."""
    return row["nothing"]


def one_argument(_row):
    """Take no answer."""


async def later(_row, _answer):
    """Return nothing that could be waited for."""


def said(_row, answer):
    """Return or do what the answer names."""
    match answer.value:
        case "leave":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "vanish":
            os._exit(7)
        case "spin":
            while True:
                pass
        case "key":
            return float(any("GROQ" in name or "BATCHKIT" in name for name in os.environ))
    return {
        "nan": float("nan"),
        "inf": float("inf"),
        "text": "0.5",
        "numpy": np.float32(0.5),
        "numpy bool": np.True_,
        "decimal": Decimal("0.25"),
        "bool": True,
        "list": [1],
        "huge": 10**400,
    }[answer.value]
