"""Checking a large input in a process beside us: the same verdicts, whatever becomes of that process."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from batchkit.errors import InputUnreadable
from batchkit.files import sources
from batchkit.steps.block_check import check_block
from batchkit.steps.block_stream import WORKER_FROM_BYTES, checked_blocks
from tests.workloads import audio_line, chat_line, write_lines

LONGEST = 100_000


@pytest.fixture
def source(tmp_path):
    """Write some megabytes: plain chats, audio, and lines with problems."""
    rows: list[Any] = [chat_line(f"row-{number}", "naïve " * 100) for number in range(6_000)]
    rows[2_000] = audio_line("sound")
    rows[4_000] = b"nonsense"
    rows[5_000] = chat_line("long", "x" * LONGEST)
    return write_lines(tmp_path / "input.jsonl", rows)


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    """Let the worker be started also where there is one core only."""
    monkeypatch.setattr("batchkit.steps.block_stream._cores", lambda: 2)


def stream(source):
    """Check a file as if it were large."""
    blocks = sources.read_blocks([source], max_line_bytes=LONGEST)
    return checked_blocks(blocks, max_line_bytes=LONGEST, input_bytes=WORKER_FROM_BYTES)


def expected(source):
    """Check the blocks one by one, here."""
    return [
        (block, check_block(block.data, max_line_bytes=LONGEST))
        for block in sources.read_blocks([source], max_line_bytes=LONGEST)
    ]


def children():
    """Name the processes that this one has started and not buried, the tests' database server aside."""
    pids = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    found = [int(pid) for path in pids for pid in path.read_text().split()]
    return [pid for pid in found if b"check_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_worker_gives_the_same_verdicts(source):
    """Checked in another process, each block gets the verdict that it gets here, in order."""
    assert list(stream(source)) == expected(source)
    assert children() == []


def test_a_worker_that_is_killed_is_done_without(source):
    """When the other process dies in the middle, the rest is checked here, and nothing is missing."""
    found = []
    for item in stream(source):
        found.append(item)
        for pid in children():
            os.kill(pid, signal.SIGKILL)

    assert found == expected(source)


def test_a_stream_that_is_left_leaves_nothing_running(source):
    """Whoever stops in the middle leaves neither a process nor a thread."""
    before = threading.active_count()
    blocks = stream(source)
    next(blocks)
    assert len(children()) == 1

    blocks.close()

    assert children() == []
    assert threading.active_count() == before


def test_trouble_with_the_input_is_raised_where_it_is_read(tmp_path):
    """A file that turns out to be damaged raises its own error, through the other thread."""
    packed = tmp_path / "input.jsonl.gz"
    packed.write_bytes(b"\x1f\x8b" + b"no gzip at all")

    with pytest.raises(InputUnreadable):
        list(stream(packed))
    assert children() == []
