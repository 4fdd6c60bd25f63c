"""What repeats among many values is found with eight bytes for each."""

from __future__ import annotations

import random

import pytest

from batchkit.files import uniqueness
from batchkit.files.uniqueness import SeenDigests, SeenIds


def digest_of(number: int) -> bytes:
    """Return sixteen bytes of which the first eight differ for each number."""
    return (number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big") + bytes(8)


@pytest.mark.parametrize("recent", [1, 7, 1_000])
def test_a_digest_is_new_once(monkeypatch, recent):
    """Within one call and across calls, whether it was seen lately or long ago."""
    monkeypatch.setattr(uniqueness, "_RECENT", recent)
    rng = random.Random(recent)  # noqa: S311 - which numbers repeat
    seen, known = SeenDigests(), set()
    for _ in range(40):
        numbers = [rng.randrange(60) for _ in range(rng.randrange(9))]
        expected = []
        for number in numbers:
            expected.append(number not in known)
            known.add(number)
        assert seen.add([digest_of(number) for number in numbers]) == expected


def test_repeated_ids_are_suspects():
    """An id that occurs twice is one, whatever lies between; others are none."""
    seen = SeenIds()
    assert seen.suspects() == set()
    seen.update(["a", "b", "c"])
    assert seen.suspects() == set()
    seen.update(["d", "a"])
    assert seen.suspects() == {hash("a")}
