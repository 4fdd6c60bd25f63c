"""``speak``: each row of a table becomes an audio file that can be played, and is bought once."""

import csv
import hashlib
import wave
from pathlib import Path

import pytest
from pyarrow import parquet as pq

import batchkit as package
from batchkit.files import jsonl
from tests.workloads import chat_line, write_lines

MODEL = "canopylabs/orpheus-v1-english"
LINES = {"a1": "Good morning", "B2": "The train to Zurich leaves in ten minutes", "c3": "Good morning"}
SPEAK = ("speak", "lines.csv", "--text", "line", "--voice", "hannah", "--key", "id", "--no-prefect")


@pytest.fixture(autouse=True)
def emulator(open_emulator):
    """Start an emulator without faults."""
    return open_emulator()


def write_table(lines=LINES):
    """Write the table."""
    with Path("lines.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "line"), *lines.items()])


def rows_of(folder):
    """Read the table of a folder."""
    return pq.read_table(f"{folder}/table.parquet").to_pylist()


def seconds_of(path):
    """Play a file: its length in seconds."""
    with wave.open(str(path)) as audio:
        assert (audio.getnchannels(), audio.getsampwidth(), audio.getframerate()) == (1, 2, 24_000)
        frames = audio.readframes(audio.getnframes())
        assert len(frames) == 2 * audio.getnframes()
        return audio.getnframes() / audio.getframerate()


def test_each_row_is_a_file_that_can_be_played(batchkit, emulator):
    """A file for each row, named by its key, whose size and digest the table has; a longer text takes longer."""
    write_table()
    ended = batchkit(*SPEAK, "-o", "spoken")
    assert ended.code == 0, ended.err
    rows = rows_of("spoken")
    assert [(row["id"], row["line"]) for row in rows] == list(LINES.items())
    for row in rows:
        data = (Path("spoken") / row["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (row["bytes"], row["sha256"])
    assert len({row["path"].lower() for row in rows}) == len(rows)
    assert rows[0]["path"] == "a1.wav"
    short, long, again = (seconds_of(Path("spoken") / row["path"]) for row in rows)
    assert 0 < short == again < long
    assert sorted(path.name for path in Path("spoken").iterdir()) == sorted(
        ["table.parquet", *(row["path"] for row in rows)]
    )
    assert emulator.ledger().synchronous.executed == 2


def test_the_price_is_that_of_the_characters_before_and_after(batchkit, emulator):
    """The dry run and the summary say the price per million characters of the documentation; equal texts are paid for once."""
    write_table()
    planned = jsonl.loads(batchkit(*SPEAK, "--dry-run", "--json").out)
    characters = len(LINES["a1"]) + len(LINES["B2"])
    assert planned["estimate"]["cost_usd_at_most"] == pytest.approx(22e-6 * characters)
    assert emulator.ledger().synchronous.executed == 0
    ended = batchkit(*SPEAK, "-o", "spoken", "--json")
    assert ended.json["cost_usd"] == pytest.approx(22e-6 * characters)
    assert "ordinary prices" in batchkit(*SPEAK, "-o", "spoken").out


def test_the_same_command_resumes_and_grown_tables_buy_the_new_rows(batchkit, emulator):
    """A repetition sends nothing and restores deleted files; a new row costs one request."""
    write_table()
    assert batchkit(*SPEAK, "-o", "spoken").code == 0
    Path("spoken/a1.wav").unlink()
    Path("spoken/c3.wav").write_bytes(b"changed")
    assert batchkit(*SPEAK, "-o", "spoken").code == 0
    assert seconds_of("spoken/a1.wav") == seconds_of("spoken/c3.wav")
    assert emulator.ledger().synchronous.executed == 2
    write_table({**LINES, "d4": "Mind the gap"})
    assert batchkit(*SPEAK, "-o", "more").code == 0
    assert emulator.ledger().synchronous.executed == 3
    assert len(rows_of("more")) == 4


def test_reused_audio_stays_until_the_last_workload_with_it_is_cleaned(batchkit, emulator):
    """``clean`` of the workload that bought it keeps the files that another one refers to, and nothing stays in the end."""
    write_table()
    assert batchkit(*SPEAK, "--name", "first", "-o", "first").code == 0
    assert batchkit(*SPEAK, "--name", "second", "-o", "second").code == 0
    assert batchkit("clean", "first", "--yes").code == 0
    assert batchkit(*SPEAK, "--name", "second", "-o", "again").code == 0
    assert [row["sha256"] for row in rows_of("again")] == [row["sha256"] for row in rows_of("first")]
    assert emulator.ledger().synchronous.executed == 2
    assert batchkit("clean", "second", "--yes").code == 0
    assert not list(Path(".batchkit/spool").iterdir())


def test_what_the_provider_refuses_is_refused_before(batchkit, emulator):
    """A text that is too long and an empty one are reported by row; ``--lane batch`` names the way out; nothing is sent."""
    write_table({"a": "short", "b": "x" * 201, "c": " "})
    refused = batchkit(*SPEAK, "--on-empty", "skip")
    assert refused.code == 2
    assert "row 2: input has 201 characters" in refused.err
    assert "at most 200" in refused.err
    assert batchkit(*SPEAK).code == 2
    write_table()
    refused = batchkit(*SPEAK, "--lane", "batch")
    assert (refused.code, "--lane sync" in refused.err) == (2, True)
    assert emulator.ledger().synchronous.executed == 0


def test_skipped_rows_have_no_file(batchkit):
    """A row that is skipped keeps its place in the table, without a path."""
    write_table({"a": "short", "b": " "})
    assert batchkit(*SPEAK, "--on-empty", "skip", "-o", "spoken").code == 0
    rows = rows_of("spoken")
    assert [(row["path"], row["status"]) for row in rows] == [("a.wav", "succeeded"), (None, "skipped")]


def test_a_changed_file_of_the_spool_is_not_given_out(batchkit):
    """Audio that is not what was received ends the command with its path."""
    write_table()
    assert batchkit(*SPEAK, "-o", "spoken").code == 0
    for path in Path(".batchkit/spool/audio").rglob("*.wav"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    ended = batchkit(*SPEAK, "-o", "other")
    assert ended.code != 0
    assert "was changed after it was received" in ended.err


def test_requests_for_speech_travel_with_others(batchkit):
    """``run`` writes the audio where the path of its line leads; batches take none of it, ``--lane auto`` finds the way."""
    speech = {"model": MODEL, "input": "hello there", "voice": "troy"}
    line = {"custom_id": "x", "method": "POST", "url": "/v1/audio/speech", "body": speech}
    write_lines(Path("input.jsonl"), [line, chat_line("y"), chat_line("z", "2 + 3", model="groq/compound")])
    refused = batchkit("run", "input.jsonl", "--no-prefect", "-o", "out.jsonl")
    assert refused.code == 2
    assert refused.err.count("with --lane sync") >= 2
    planned = batchkit("run", "input.jsonl", "--lane", "auto", "--small", "0", "--dry-run", "--json").json
    assert planned["lane"] == "sync"
    ended = batchkit("run", "input.jsonl", "--lane", "auto", "--small", "0", "--no-prefect", "-o", "out.jsonl")
    assert ended.code == 0, ended.err
    body = jsonl.loads(Path("out.jsonl").read_bytes().splitlines()[0])["response"]["body"]
    assert hashlib.sha256(Path(body["path"]).read_bytes()).hexdigest() == body["sha256"]
    assert (body["content_type"], body["bytes"]) == ("audio/wav", Path(body["path"]).stat().st_size)
    assert seconds_of(body["path"]) > 0
    assert batchkit("export", "input", "out.parquet").code == 0
    assert pq.read_table("out.parquet").column("text").to_pylist()[0] == body["path"]


def test_python_speaks_the_same_table(batchkit, emulator):
    """The function makes the workload of the command."""
    write_table()
    ended = package.speak("lines.csv", "line", "hannah", key="id", output="spoken")
    assert ended.is_finished
    assert batchkit(*SPEAK, "-o", "spoken").code == 0
    assert emulator.ledger().synchronous.executed == 2
