"""Checking a large input in a second process gives the same verdicts, even when that process dies."""

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
from batchkit.provider.groq.dialect import GROQ
from batchkit.steps import block_stream
from batchkit.steps.block_check import check_block
from batchkit.steps.block_stream import WORKER_FROM_BYTES, checked_blocks
from tests.processes import has_argument
from tests.workloads import audio_line, chat_line, write_lines

LONGEST = 100_000


@pytest.fixture
def source(tmp_path):
    """Write a few megabytes: plain chats, audio, and lines with problems."""
    rows: list[Any] = [chat_line(f"row-{number}", "naïve " * 100) for number in range(6_000)]
    rows[2_000] = audio_line("sound")
    rows[4_000] = b"nonsense"
    rows[5_000] = chat_line("long", "x" * LONGEST)
    return write_lines(tmp_path / "input.jsonl", rows)


_cores = block_stream._cores


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    """Start the worker even on a machine with one core."""
    monkeypatch.setattr(block_stream, "_cores", lambda: 2)


def stream(source):
    """Check a file as if it were large."""
    blocks = sources.read_blocks([source], max_line_bytes=LONGEST)
    return checked_blocks(blocks, rules=GROQ.rules, max_line_bytes=LONGEST, input_bytes=WORKER_FROM_BYTES)


def expected(source):
    """Return the verdicts of checking the blocks one by one in this process."""
    return [
        (block, check_block(block.data, rules=GROQ.rules, max_line_bytes=LONGEST))
        for block in sources.read_blocks([source], max_line_bytes=LONGEST)
    ]


def children():
    """Return the processes that this one started and has not reaped, without the tests' database server."""
    return [child.pid for child in psutil.Process().children() if has_argument(child.pid, "check_worker")]


def test_a_worker_gives_the_same_verdicts(source):
    """Each block gets the same verdict in another process as in this one, in the same order."""
    assert list(stream(source)) == expected(source)
    assert children() == []


def test_a_worker_needs_no_wide_pipes(source, monkeypatch):
    """Where the size of a pipe cannot be set, as on macOS, the verdicts are the same."""
    monkeypatch.delattr(fcntl, "F_SETPIPE_SZ", raising=False)
    assert list(stream(source)) == expected(source)


def test_pipes_that_may_not_be_widened_stay_as_they_are(source, monkeypatch):
    """An administrator may have limited the size of pipes."""

    def refuse(*_arguments):
        raise PermissionError

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert list(stream(source)) == expected(source)


def test_cores_are_counted_where_none_can_be_reserved(monkeypatch):
    """Without CPU affinity, as on macOS, all cores count; where they cannot be counted, one does."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert _cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert _cores() == 1


def test_the_rest_is_checked_here_when_the_worker_is_killed(source):
    """When the worker dies in the middle, this process checks the rest, and nothing is missing."""
    found = []
    for item in stream(source):
        found.append(item)
        for pid in children():
            os.kill(pid, signal.SIGKILL)

    assert found == expected(source)


def test_a_stream_that_is_left_leaves_nothing_running(source):
    """Closing the stream in the middle leaves neither a process nor a thread behind."""
    before = threading.active_count()
    blocks = stream(source)
    next(blocks)
    assert len(children()) == 1

    blocks.close()

    assert children() == []
    assert threading.active_count() == before


def test_an_error_of_the_input_is_raised_in_the_reading_thread(tmp_path):
    """A damaged file raises its own error in the reading thread, although another thread found it."""
    packed = tmp_path / "input.jsonl.gz"
    packed.write_bytes(b"\x1f\x8b" + b"no gzip at all")

    with pytest.raises(InputUnreadable):
        list(stream(packed))
    assert children() == []
