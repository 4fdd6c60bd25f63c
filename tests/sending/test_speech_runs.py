"""Binary answers on the sync lane: whatever dies, each answer names a file that is whole, and no other file stays."""

import hashlib
import wave

import pytest

from batchkit.emulator.faults.calls import LoseReply, SlowReplies
from tests.workloads import read_lines, write_lines

COUNT = 40
RUN = ("run", "input.jsonl", "--lane", "sync", "--no-prefect", "-o", "out.jsonl")


def write_input(command):
    """Write different requests for speech."""
    body = {"model": "canopylabs/orpheus-v1-english", "voice": "troy"}
    write_lines(
        command.folder / "input.jsonl",
        (
            {
                "custom_id": f"r{number}",
                "method": "POST",
                "url": "/v1/audio/speech",
                "body": {**body, "input": f"number {number}"},
            }
            for number in range(COUNT)
        ),
    )


def spool_files(command):
    """Return the files of binary answers in the spool."""
    return {path for path in (command.folder / ".batchkit/spool/audio").rglob("*") if path.is_file()}


def check_answers(command):
    """Check that every line names a whole file of its own, and that the spool has these files alone."""
    rows = read_lines(command.folder / "out.jsonl")
    assert [row["custom_id"] for row in rows] == [f"r{number}" for number in range(COUNT)]
    paths = set()
    for row in rows:
        body = row["response"]["body"]
        data = (command.folder / body["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (body["bytes"], body["sha256"])
        with wave.open(str(command.folder / body["path"])) as audio:
            assert audio.getnframes() > 0
        paths.add(command.folder / ".batchkit/spool" / body["path"])
    assert len(paths) == COUNT
    assert spool_files(command) == paths


@pytest.mark.parametrize("deaths", [1, 3])
def test_killed_it_leaves_no_wrong_row_and_no_other_file(start_command, deaths):
    """SIGKILL between an audio file and its line: the request is sent again, and the first file is swept."""
    command = start_command([SlowReplies(on=("synchronous",), seconds=0.2)])
    write_input(command)
    for death in range(1, deaths + 1):
        command.kill_when(lambda least=6 * death: command.emulator.ledger().synchronous.executed >= least, *RUN)
    # What a death between the two leaves, whether or not one fell there.
    spool = command.folder / ".batchkit" / "spool"
    for journal in spool.glob("*/sent/*.jsonl"):
        folder = spool / "audio" / journal.parent.parent.name / journal.stem
        (folder / "left.wav").write_bytes(b"RIFF")
        (folder / "left.wav.12345678.part").write_bytes(b"RI")
    ended = command.run(*RUN)
    assert ended.returncode == 0, ended.stderr
    check_answers(command)


def test_a_lost_reply_is_asked_for_again(start_command):
    """A connection that breaks within the audio leaves no file."""
    command = start_command([LoseReply(on=("synchronous",), times=3, how="reset")])
    write_input(command)
    ended = command.run(*RUN)
    assert ended.returncode == 0, ended.stderr
    check_answers(command)
