"""``kill -9`` at the worst moments, and the same command again: nothing is lost, nothing is bought twice."""

from __future__ import annotations

import pytest

from batchkit.emulator.faults import batches, calls, lines
from tests.workloads import mixed_line, read_lines, write_mixed

REQUESTS = 400
RUN = ("run", "input.jsonl", "--no-prefect", "--shard-lines", "20", "--output", "out.jsonl")

FAULTS = [
    lines.FailLines(fraction=0.05, code="bad_thing"),
    lines.ExpireLines(fraction=0.3, attempts=1),
    batches.ShuffleOutput(),
]

MOMENTS = {
    "while splitting": lambda command: any((command.folder / ".batchkit" / "spool").glob("*/shards/*.jsonl")),
    "while uploading": lambda command: command.emulator.ledger().calls.get("files.create", 0) >= 3,
    "while creating batches": lambda command: command.emulator.ledger().totals.batches >= 3,
    # Of twenty shards, eight may have been in progress at the kill, and their batches may have ended meanwhile.
    "while batches run": lambda command: command.count("SELECT count(*) FROM shards WHERE state = 'submitted'") >= 8,
    "while merging": lambda command: command.count("SELECT count(*) FROM shards WHERE state = 'merged'") >= 3,
}


def _check(command, done):
    exported = read_lines(command.folder / "out.jsonl")
    ledger = command.emulator.ledger()
    keys = [batch.metadata["batchkit_key"] for batch in ledger.batches]
    failed = [line["custom_id"] for line in exported if line["status"] == "failed"]
    assert done.returncode == 3, done.stderr
    assert [line["custom_id"] for line in exported] == [mixed_line(n)["custom_id"] for n in range(REQUESTS)]
    assert {line["status"] for line in exported} == {"succeeded", "failed"}
    assert len(set(keys)) == len(keys), "a shard was bought as two batches"
    assert ledger.totals.requests_executed == REQUESTS, "a request was executed twice or never"
    assert ledger.totals.requests_succeeded == REQUESTS - len(failed)
    assert ledger.totals.bought_twice == 0


@pytest.mark.slow  # the next test covers the same moments
@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_killed_and_started_again(start_command, moment):
    """After a kill at one moment, the same command ends as if nothing had happened."""
    command = start_command(FAULTS)
    write_mixed(command.folder / "input.jsonl", REQUESTS)

    command.kill_when(lambda: moment(command), *RUN)

    _check(command, command.run(*RUN))


def test_killed_at_every_moment_in_turn(start_command):
    """After five kills during one workload, the same command still ends as if nothing had happened."""
    command = start_command(FAULTS)
    write_mixed(command.folder / "input.jsonl", REQUESTS)

    for moment in MOMENTS.values():
        command.kill_when(lambda moment=moment: moment(command), *RUN)

    _check(command, command.run(*RUN))


def test_killed_while_the_provider_has_accepted_but_not_answered(start_command):
    """A batch whose creation was never answered is found and adopted, not bought again."""
    command = start_command([*FAULTS, calls.LoseReply(on=("batches.create",), how="hang", times=3, hang_seconds=3)])
    write_mixed(command.folder / "input.jsonl", REQUESTS)

    command.kill_when(lambda: command.emulator.ledger().totals.batches >= 1, *RUN)

    _check(command, command.run(*RUN))


def test_two_commands_at_once_do_no_harm(start_command):
    """Two runs with the same name at the same time finish together: both print the same, and nothing is bought twice."""
    command = start_command(FAULTS)
    write_mixed(command.folder / "input.jsonl", REQUESTS)

    first, second = command.start(*RUN), command.start(*RUN[:-1], "second.jsonl")
    for process in (first, second):
        _, err = process.communicate(timeout=100)
        assert process.returncode == 3, err

    _check(command, first)
    assert read_lines(command.folder / "second.jsonl") == read_lines(command.folder / "out.jsonl")


def test_a_second_run_sends_nothing_and_writes_the_same(start_command):
    """After completion the same command makes no call and writes the same bytes."""
    command = start_command(FAULTS)
    write_mixed(command.folder / "input.jsonl", REQUESTS)
    done = command.run(*RUN)
    before, exported = command.emulator.ledger().calls, (command.folder / "out.jsonl").read_bytes()

    again = command.run(*RUN)

    assert (done.returncode, again.returncode) == (3, 3)
    assert command.emulator.ledger().calls == before
    assert (command.folder / "out.jsonl").read_bytes() == exported
