"""``transcribe`` of files on this machine: they are sent as they are, once, and what cannot be sent is said before."""

import csv
import struct
from pathlib import Path

import pytest

from batchkit.files import jsonl

ASK = ("transcribe", "calls/calls.csv", "--audio", "file", "--key", "call", "--no-prefect")


@pytest.fixture(autouse=True)
def emulator(open_emulator):
    """Start an emulator without faults."""
    return open_emulator()


def wav(seconds, value=0):
    """Return a WAV file of so many seconds."""
    samples = bytes([value, 0]) * int(8_000 * seconds)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8_000, 16_000, 2, 16)
    data = struct.pack("<4sI", b"data", len(samples))
    return struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(data) + len(samples), b"WAVE") + form + data + samples


def write_calls(**files):
    """Write recordings and the table that names them, in a folder of its own."""
    Path("calls").mkdir(exist_ok=True)
    for name, content in files.items():
        (Path("calls") / f"{name}.wav").write_bytes(content)
    write_table(**{name: f"{name}.wav" for name in files})


def write_table(**cells):
    """Write the table alone."""
    with Path("calls/calls.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("call", "file"), *cells.items()])


def rows_of(path):
    """Read an output."""
    return [jsonl.loads(line) for line in Path(path).read_bytes().splitlines()]


def test_files_are_sent_one_by_one_as_they_are(batchkit, emulator):
    """Each file beside the table is uploaded once; the length and the price are those of the file; the lane is said."""
    write_calls(a=wav(12), b=wav(30, 1))
    ended = batchkit(*ASK, "--timestamps", "segment,word", "--language", "en", "-o", "out.jsonl")
    assert ended.code == 0, ended.err
    assert "sent one by one" in ended.err
    rows = rows_of("out.jsonl")
    assert [(row["call"], row["text"], row["duration"]) for row in rows] == [
        ("a", "Transcript of a.wav", 12.0),
        ("b", "Transcript of b.wav", 30.0),
    ]
    assert rows[1]["cost_usd"] == pytest.approx(30 * 0.04 / 3600)
    assert rows[0]["segments"][0]["end"] == 12.0
    assert batchkit(*ASK, "--timestamps", "segment,word", "--language", "en", "-o", "out.jsonl").code == 0
    assert (emulator.ledger().synchronous.executed, emulator.ledger().totals.batches) == (2, 0)


def test_translations_take_files_too(batchkit, emulator):
    """``--translate`` sends them to the other endpoint."""
    write_calls(a=wav(12))
    assert batchkit(*ASK, "--translate", "-o", "out.jsonl").code == 0
    assert rows_of("out.jsonl")[0]["text"] == "Translation of a.wav"
    assert emulator.ledger().synchronous.executed == 1


def test_addresses_keep_the_batch_lane(batchkit, emulator):
    """A table with addresses alone travels in a batch; one with both is sent one by one."""
    write_calls(a=wav(12))
    write_table(a="https://example.com/a.mp3")
    assert batchkit(*ASK, "-o", "out.jsonl").code == 0
    assert (emulator.ledger().synchronous.executed, emulator.ledger().totals.batches) == (0, 1)
    write_table(a="https://example.com/a.mp3", b="a.wav")
    assert batchkit(*ASK, "-o", "out.jsonl").code == 0
    assert (emulator.ledger().synchronous.executed, emulator.ledger().totals.batches) == (2, 1)


def test_the_batch_lane_refuses_files_with_the_way_out(batchkit, emulator):
    """``--lane batch`` names the other lane, and nothing is sent; ``--lane auto`` takes it."""
    write_calls(a=wav(12))
    refused = batchkit(*ASK, "--lane", "batch")
    assert (refused.code, "--lane sync" in refused.err) == (2, True)
    assert emulator.ledger().totals.batches == 0
    assert batchkit(*ASK, "--lane", "auto", "--small", "0", "-o", "out.jsonl").code == 0
    assert emulator.ledger().synchronous.executed == 1


def test_files_that_cannot_be_sent_are_reported_by_row(batchkit, emulator):
    """Missing, empty, outside, another format, no audio: each row says its file and what to do; nothing is sent."""
    write_calls(good=wav(12), empty=b"", text=b"x" * 100)
    Path("calls/song.aiff").write_bytes(b"FORM" + bytes(100))
    Path("secret.wav").write_bytes(wav(1))
    Path("calls/folder.wav").mkdir()
    write_table(
        good="good.wav",
        none="none.wav",
        empty="empty.wav",
        text="text.wav",
        song="song.aiff",
        out="../secret.wav",
        folder="folder.wav",
    )
    refused = batchkit(*ASK)
    assert refused.code == 2
    for row, words in enumerate(
        (
            "none.wav cannot be read",
            "empty.wav is empty",
            "text.wav is not audio",
            "convert it: ffmpeg -i song.aiff -ar 16000 -ac 1 -map 0:a -c:a flac song.flac",
            "leads out of the table's folder",
            "folder.wav is a folder; a recording is a regular file",
        ),
        2,
    ):
        assert any(f"row {row}: file: " in line and words in line for line in refused.err.splitlines()), words
    assert emulator.ledger().synchronous.executed == 0
    skipped = batchkit(*ASK, "--bad-rows", "skip", "-o", "out.jsonl")
    assert skipped.code == 0, skipped.err
    assert [row["error"] for row in rows_of("out.jsonl")] == [None, *["audio_invalid"] * 6]


def test_the_size_is_that_of_the_plan(batchkit, emulator):
    """A file that a free plan does not take is told; one that no plan takes is refused with the limit."""
    write_calls(a=wav(12))
    with Path("calls/a.wav").open("r+b") as file:
        file.truncate(26_000_000)
    told = batchkit(*ASK, "--dry-run")
    assert told.code == 0, told.err
    assert "a free plan takes 25,000,000" in told.err
    with Path("calls/a.wav").open("r+b") as file:
        file.truncate(100_000_001)
    refused = batchkit(*ASK)
    assert refused.code == 2
    assert "at most 100,000,000 are taken (console.groq.com/docs/speech-to-text)" in refused.err
    assert emulator.ledger().synchronous.executed == 0


def test_the_content_of_a_file_belongs_to_the_question(batchkit, emulator):
    """Another content is another question, wherever the file lies; under a used name it is refused."""
    write_calls(a=wav(12), b=wav(30, 1))
    assert batchkit(*ASK, "--name", "calls", "-o", "out.jsonl").code == 0
    Path("calls/a.wav").rename("calls/moved.wav")
    write_table(a="moved.wav", b="b.wav")
    assert batchkit(*ASK, "-o", "moved.jsonl").code == 0
    assert emulator.ledger().synchronous.executed == 2
    write_calls(a=wav(12), b=wav(20, 2))
    refused = batchkit(*ASK, "--name", "calls", "-o", "out.jsonl")
    assert refused.code == 2
    assert "the files of the recordings differ" in refused.err
    assert batchkit(*ASK, "-o", "new.jsonl").code == 0
    assert emulator.ledger().synchronous.executed == 3
