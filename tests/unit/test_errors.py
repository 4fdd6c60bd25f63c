"""Errors can be passed between processes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from batchkit import errors
from batchkit.errors import BatchkitError, InputInvalid, InputProblem, InputUnreadable, ProviderRefused, RateLimited

MADE = {
    InputInvalid: lambda: InputInvalid([InputProblem("in.jsonl", 3, "no id")], 7),
    InputUnreadable: lambda: InputUnreadable(Path("in.jsonl"), "is gone", "put it back"),
    RateLimited: lambda: RateLimited("slow down", status=429, retry_after_seconds=2.5),
}


def make(kind):
    """Return an error of a type with all its attributes."""
    if kind in MADE:
        return MADE[kind]()
    if issubclass(kind, ProviderRefused):
        return kind("no", status=400, code="bad", type="invalid", param="model", hint="change it")
    return kind("no", hint="change it")


KINDS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BatchkitError)),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_arrives_unchanged(kind):
    """An error raised in one process has the same type, message and attributes in another."""
    error = make(kind)

    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert type(arrived) is kind
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)
