"""Workloads with a deadline, as a user runs them: in batches as long as there is time, then one by one, each request once."""

from __future__ import annotations

from batchkit.emulator.faults.lines import ExpireLines
from batchkit.files import jsonl
from tests.workloads import chat_line, read_lines, write_lines

COUNT = 600
#: An emulated hour takes 6 seconds, and the shortest window 144.
SPEED = 600
RUN = ("run", "input.jsonl", "--no-prefect", "-o", "out.jsonl")


def write_input(command, count=COUNT, **body):
    """Write different questions, and return their custom_ids."""
    names = [f"r{number}" for number in range(count)]
    lines = (chat_line(name, f"What is {name}?", max_completion_tokens=20, **body) for name in names)
    write_lines(command.folder / "input.jsonl", lines)
    return names


def begin(start_command, *faults, speed=SPEED):
    """Start an emulator of which 40 % of the requests would expire."""
    command = start_command([ExpireLines(fraction=0.4), *faults], speed=speed)
    command.environment["BATCHKIT_CANCEL_SECONDS"] = "0.5"
    return command


def answered(command):
    """Return the custom_ids of the output whose request succeeded, in their order."""
    return [row["custom_id"] for row in read_lines(command.folder / "out.jsonl") if row["error"] is None]


def status(command, name="input"):
    """Read ``status --json``."""
    return jsonl.loads(command.run("status", name, "--json").stdout)


def bought_once(ledger, count):
    """Return whether each of so many requests was executed once, in whichever lane."""
    twice = ledger.totals.bought_twice + ledger.synchronous.bought_twice
    return (twice, ledger.totals.requests_succeeded + ledger.synchronous.executed) == (0, count)


def test_what_batches_do_not_answer_in_time_is_sent_one_by_one(start_command):
    """Of an hour that 40 % would not be answered in, every request has its answer before the end, and each was bought once."""
    command = begin(start_command)
    names = write_input(command)
    ended = command.run(*RUN, "--within", "8s", "--shard-lines", "100")
    assert ended.returncode == 0, ended.stderr
    assert answered(command) == names
    ledger = command.emulator.ledger()
    assert 0.3 * COUNT < ledger.synchronous.executed < 0.5 * COUNT
    assert bought_once(ledger, COUNT)
