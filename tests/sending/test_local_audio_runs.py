"""Recordings of this machine on the sync lane: what is sent is what was asked, whatever happens to the file meanwhile."""

import csv

from batchkit.emulator.faults.calls import SlowReplies
from tests.cli.test_local_audio import wav

RUN = ("transcribe", "calls.csv", "--audio", "file", "--name", "calls", "--no-prefect", "-o", "out.jsonl")


def test_a_file_that_changes_on_the_way_is_not_sent(start_command):
    """Killed, and with a changed file: the command says which, and sends nothing more; put back, it resumes."""
    command = start_command([SlowReplies(on=("synchronous",), seconds=0.5)])
    names = [f"{number}.wav" for number in range(30)]
    for number, name in enumerate(names):
        (command.folder / name).write_bytes(wav(0.1, number))
    with (command.folder / "calls.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file",), *([name] for name in names)])
    command.kill_when(lambda: command.emulator.ledger().synchronous.executed >= 2, *RUN)
    for number, name in enumerate(names):
        (command.folder / name).write_bytes(wav(0.1, number + 100))
    executed = command.emulator.ledger().synchronous.executed
    refused = command.run(*RUN)
    assert refused.returncode == 2
    assert "the files of the recordings differ" in refused.stderr
    watched = command.run("watch", "calls", "--no-prefect")
    assert watched.returncode != 0
    assert ".wav was changed after the requests were made" in watched.stderr
    assert command.emulator.ledger().synchronous.executed == executed
    for number, name in enumerate(names):
        (command.folder / name).write_bytes(wav(0.1, number))
    ended = command.run(*RUN)
    assert ended.returncode == 0, ended.stderr
