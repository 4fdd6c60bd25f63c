"""The size of a shard and the length of its window."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.sharding import (
    BATCHES_PER_STATUS_CALL,
    MAX_SHARD_LINES,
    MIN_DEFAULT_SHARD_LINES,
    MIN_RESUBMIT_LINES,
    default_shard_lines,
    format_window,
    is_full,
    longer_window,
    parse_window,
    smaller_shard,
)

hours = st.integers(24, 168)


@pytest.mark.parametrize(("window", "expected"), [("24h", 24), ("1d", 24), ("36h", 36), ("7d", 168), ("168h", 168)])
def test_window_is_read_as_hours(window, expected):
    """Hours and days are both understood."""
    assert parse_window(window) == expected


@pytest.mark.parametrize(
    "window",
    ["", "23h", "169h", "8d", "0d", "24", "h", "24H", " 24h", "24h\n", "1.5d", "-24h", "024h", "2٤h", "24h7d", "9999h"],
)
def test_window_outside_the_offered_range_is_refused(window):
    """A window outside of 24h to 7d is an error that names the range."""
    with pytest.raises(ValueError, match="24h to 7d"):
        parse_window(window)


@given(hours)
def test_window_is_written_as_it_is_read(length):
    """Writing and reading a window are inverse to each other."""
    assert parse_window(format_window(length)) == length


def test_window_is_written_as_the_provider_documents_it():
    """A week is 7d and a day is 24h, as the provider spells them."""
    assert (format_window(24), format_window(48), format_window(168)) == ("24h", "48h", "7d")


@given(hours, hours)
def test_longer_window_stays_within_the_limit(window, allowed):
    """It doubles, stops at the limit, never shrinks, and reaches the limit in a few steps."""
    now = window
    for _ in range(4):
        longer = parse_window(longer_window(format_window(now), format_window(allowed)))
        assert longer == max(now, min(now * 2, allowed))
        now = longer
    assert now == max(window, allowed)


@given(st.integers(0, 20_000_000))
def test_default_shards_are_small_but_few(total):
    """They never exceed the provider's limit, are never tiny, and fit into one status call unless the limit prevents it."""
    lines = default_shard_lines(total)
    assert MIN_DEFAULT_SHARD_LINES <= lines <= MAX_SHARD_LINES
    if total <= MAX_SHARD_LINES * BATCHES_PER_STATUS_CALL:
        assert -(-total // lines) <= BATCHES_PER_STATUS_CALL
    if lines > MIN_DEFAULT_SHARD_LINES:
        assert -(-total // (lines - 1)) > BATCHES_PER_STATUS_CALL


@pytest.mark.parametrize(
    ("total", "lines"), [(0, 1_000), (200_000, 1_000), (200_001, 1_001), (10_000_000, 50_000), (10**9, 50_000)]
)
def test_default_shard_size_by_example(total, lines):
    """The examples cover both ends of the clamp and the first step above."""
    assert default_shard_lines(total) == lines


@given(st.integers(1, MAX_SHARD_LINES))
def test_shard_shrinks_to_a_floor(lines):
    """Halving ends at the floor, and a shard below it is not enlarged."""
    smaller = smaller_shard(lines)
    assert smaller <= lines
    assert smaller >= min(lines, MIN_RESUBMIT_LINES)
    assert smaller == lines or smaller >= lines // 2
    for _ in range(20):
        smaller = smaller_shard(smaller)
    assert smaller == min(lines, MIN_RESUBMIT_LINES)


def cut(sizes, max_lines, max_bytes):
    """Cut lines into shards by the rule under test."""
    shards: list[list[int]] = [[]]
    for size in sizes:
        if is_full(
            lines=len(shards[-1]),
            size_bytes=sum(shards[-1]),
            next_bytes=size,
            max_lines=max_lines,
            max_bytes=max_bytes,
        ):
            shards.append([])
        shards[-1].append(size)
    return shards


@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 100))
def test_limits_are_never_exceeded(sizes, max_lines, max_bytes):
    """Every line is in one shard, in order, none is empty, and only a single line that is too large exceeds the limit."""
    shards = cut(sizes, max_lines, max_bytes)
    assert [size for shard in shards for size in shard] == sizes
    for shard in shards:
        assert 1 <= len(shard) <= max_lines
        assert sum(shard) <= max_bytes or len(shard) == 1


@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 100))
def test_shards_are_filled(sizes, max_lines, max_bytes):
    """No shard is closed while the next line would still fit."""
    shards = cut(sizes, max_lines, max_bytes)
    for shard, following in pairwise(shards):
        assert len(shard) == max_lines or sum(shard) + following[0] > max_bytes


def test_limit_is_reached_to_the_byte():
    """A shard may be exactly as large as the limit."""
    assert not is_full(lines=1, size_bytes=60, next_bytes=40, max_lines=5, max_bytes=100)
    assert is_full(lines=1, size_bytes=61, next_bytes=40, max_lines=5, max_bytes=100)
    assert is_full(lines=5, size_bytes=0, next_bytes=0, max_lines=5, max_bytes=100)
    assert not is_full(lines=0, size_bytes=0, next_bytes=101, max_lines=5, max_bytes=100)
