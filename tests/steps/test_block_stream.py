"""Checking a large input in a process beside us: the same verdicts, whatever becomes of that process."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from typing import Any

import psutil
import pytest

from batchkit.errors import InputUnreadable
from batchkit.files import sources
from batchkit.steps import block_stream
from batchkit.steps.block_check import check_block
from batchkit.steps.block_stream import WORKER_FROM_BYTES, checked_blocks
from tests.processes import has_argument
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


_cores = block_stream._cores


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    """Let the worker be started also where there is one core only."""
    monkeypatch.setattr(block_stream, "_cores", lambda: 2)


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
    return [child.pid for child in psutil.Process().children() if has_argument(child.pid, "check_worker")]


def test_a_worker_gives_the_same_verdicts(source):
    """Checked in another process, each block gets the verdict that it gets here, in order."""
    assert list(stream(source)) == expected(source)
    assert children() == []


def test_a_worker_needs_no_wide_pipes(source, monkeypatch):
    """Where their size cannot be set, as on macOS, the verdicts are the same."""
    monkeypatch.delattr(fcntl, "F_SETPIPE_SZ", raising=False)
    assert list(stream(source)) == expected(source)


def test_pipes_that_may_not_be_widened_stay_as_they_are(source, monkeypatch):
    """The administrator has limited them."""

    def refuse(*_arguments):
        raise PermissionError

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert list(stream(source)) == expected(source)


def test_cores_are_counted_where_none_can_be_reserved(monkeypatch):
    """Where nobody says which ones this process may use, as on macOS, all count; where they are not counted, one."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert _cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert _cores() == 1


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
