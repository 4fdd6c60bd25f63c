"""When the reader of a pipe has closed it, the command continues without a message and ends with its own exit code."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def start(*words, into):
    """Start the real command with a descriptor as standard output."""
    return subprocess.Popen(
        [sys.executable, "-m", "batchkit", *words],
        stdout=into,
        stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "80"},
    )


@pytest.fixture
def closed_pipe():
    """Return the write end of a pipe whose read end is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("emulator", "--list-faults"), 0),
        (("--help",), 0),
        (("status", "--json"), 2),
        (("export", "nobody", "x.jsonl"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_closed_pipe_is_no_error(closed_pipe, monkeypatch, words, code):
    """Tables, help and JSON end without a message, and the exit code is the same as with a reader."""
    for name in ("GROQ_API_KEY", "BATCHKIT_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    process = start(*words, into=closed_pipe)
    _, err = process.communicate(timeout=60)

    assert process.returncode == code
    assert b"Broken" not in err
    assert b"Traceback" not in err


def test_output_that_is_read_before_the_pipe_closes_arrives():
    """``batchkit emulator --list-faults | head -1`` gives one line, exit code 0, and no error message."""
    process = start("emulator", "--list-faults", into=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"lines: ")
    process.stdout.close()

    assert process.wait(60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_both_streams_may_be_the_closed_pipe(closed_pipe):
    """``2>&1 | head``: even an error message that cannot be written does not change the exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "batchkit", "run", "missing.jsonl"], stdout=closed_pipe, stderr=closed_pipe, check=False
    )
    assert done.returncode == 2


def test_the_list_of_faults_explains_shared_parameters_once(batchkit, monkeypatch):
    """Each family's parameters are in its heading, each fault has only its own, and 80 columns are enough."""
    monkeypatch.setenv("COLUMNS", "80")
    out = batchkit("emulator", "--list-faults").out
    words = " ".join(out.split())
    for shared in (
        "only these custom_ids",
        "only the batches created as the n-th",
        "calls of each operation that pass first",
    ):
        assert words.count(shared) == 1
    assert (
        "gone-files Files are gone, as after their retention ran out. on (default files.content, files.retrieve)"
        in words
    )
    assert max(len(line) for line in out.splitlines()) <= 80
