"""The size of a shard and the length of its window."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.sharding import MIN_RESUBMIT_LINES, ShardLimits, Windows, hours_of, is_full, smaller_shard

hours = st.integers(24, 168)
WINDOWS = Windows(shortest_hours=24, longest_hours=168, spellings=((168, "7d"),))
LIMITS = ShardLimits(
    max_lines=50_000, max_bytes=200_000_000, default_bytes=100_000_000, min_default_lines=1_000, polled_batches=200
)


@pytest.mark.parametrize(("window", "expected"), [("24h", 24), ("1d", 24), ("36h", 36), ("7d", 168), ("168h", 168)])
def test_window_is_read_as_hours(window, expected):
    """Hours and days are both understood."""
    assert WINDOWS.hours(window) == hours_of(window) == expected


@pytest.mark.parametrize("window", ["23h", "169h", "8d"])
def test_window_outside_the_offered_range_is_refused(window):
    """A window that the provider does not have is an error that names the range."""
    with pytest.raises(ValueError, match="24h to 7d"):
        WINDOWS.hours(window)
    with pytest.raises(ValueError, match="is 24h here"):
        Windows().hours(window)


@pytest.mark.parametrize(
    "window", ["", "0d", "24", "h", "24H", " 24h", "24h\n", "1.5d", "-24h", "024h", "2٤h", "24h7d", "9999h"]
)
def test_text_that_is_no_window_is_refused(window):
    """Whatever the provider has."""
    with pytest.raises(ValueError, match="in hours or days"):
        WINDOWS.hours(window)


@given(hours)
def test_window_is_written_as_it_is_read(length):
    """Writing and reading a window are inverse to each other."""
    assert WINDOWS.hours(WINDOWS.written(length)) == length


def test_window_is_written_as_the_provider_documents_it():
    """A week is 7d and a day is 24h, as the provider spells them."""
    assert (WINDOWS.shortest, WINDOWS.written(48), WINDOWS.longest) == ("24h", "48h", "7d")


@given(hours, hours)
def test_longer_window_stays_within_the_limit(window, allowed):
    """It doubles, stops at the limit, never shrinks, and reaches the limit in a few steps."""
    now = window
    for _ in range(4):
        longer = WINDOWS.hours(WINDOWS.longer(WINDOWS.written(now), WINDOWS.written(allowed)))
        assert longer == max(now, min(now * 2, allowed))
        now = longer
    assert now == max(window, allowed)


def test_a_provider_with_one_window_has_no_longer_one():
    """Its window stays as it is, whatever the user allows."""
    assert Windows().longer("24h", "7d") == "24h"


@given(st.integers(0, 20_000_000))
def test_default_shards_are_small_but_few(total):
    """They never exceed the provider's limit, are never tiny, and fit into one status call unless the limit prevents it."""
    lines = LIMITS.default_lines(total)
    assert LIMITS.min_default_lines <= lines <= LIMITS.max_lines
    if total <= LIMITS.max_lines * LIMITS.polled_batches:
        assert -(-total // lines) <= LIMITS.polled_batches
    if lines > LIMITS.min_default_lines:
        assert -(-total // (lines - 1)) > LIMITS.polled_batches


@pytest.mark.parametrize(
    ("total", "lines"), [(0, 1_000), (200_000, 1_000), (200_001, 1_001), (10_000_000, 50_000), (10**9, 50_000)]
)
def test_default_shard_size_by_example(total, lines):
    """The examples cover both ends of the clamp and the first step above."""
    assert LIMITS.default_lines(total) == lines


@given(st.integers(1, LIMITS.max_lines))
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
