"""Workloads with a deadline, as a user runs them: in batches as long as there is time, then one by one, each request once."""

from __future__ import annotations

import pytest

from batchkit.emulator.faults.batches import SlowCancel
from batchkit.emulator.faults.calls import SlowReplies
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


def run_within(command, seconds, *more):
    """Run the input, to be finished in so many seconds."""
    return command.run(*RUN, "--within", f"{seconds}s", "--shard-lines", "100", *more)


def test_what_batches_do_not_answer_in_time_is_sent_one_by_one(start_command):
    """Of an hour that 40 % would not be answered in, every request has its answer before the end, and each was bought once.

    The cancel at the cutoff uses up no budget: one expiry and one error would be the end of a request.
    """
    command = begin(start_command)
    names = write_input(command)
    ended = run_within(command, 14, "--max-expiries", "1", "--max-attempts", "1")
    assert ended.returncode == 0, ended.stderr
    assert answered(command) == names
    ledger = command.emulator.ledger()
    assert 0.3 * COUNT < ledger.synchronous.executed < 0.5 * COUNT
    assert bought_once(ledger, COUNT)
    assert command.count("SELECT count(*) FROM attempts") == 0
    assert "whether the deadline can be kept" in ended.stderr
    assert " met, " in ended.stdout
    assert "paid about $" in ended.stderr
    found = status(command)["deadline"]
    lanes = {"batch": ledger.totals.requests_succeeded, "sync": ledger.synchronous.executed}
    assert (found["outlook"], found["answers_in_time"], found["answers_late"]) == ("met", lanes, {})
    assert found["drain_since"] < found["ended_at"] < found["at"]


@pytest.mark.parametrize("flags", [("--dry-run",), ()])
def test_a_deadline_that_cannot_be_met_is_refused_beforehand(start_command, flags):
    """With the reason and the earliest possible time, and nothing is sent or stored."""
    command = begin(start_command)
    write_input(command)
    ended = command.run(*RUN, "--within", "10m", "--rpm", "30", *flags)
    assert ended.returncode == 2
    told = " ".join(ended.stderr.split())
    assert "cannot be met: 600 single calls take 20 min" in told
    assert "the earliest possible time is" in told
    assert (command.emulator.ledger().totals.uploads, totals_of_calls(command)) == (0, 0)
    assert command.run("status", "input").returncode == 2


def totals_of_calls(command):
    """Return how many single calls were executed."""
    return command.emulator.ledger().synchronous.executed


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--within", "1h", "--lane", "batch"), "a deadline needs both lanes"),
        (("--within", "1h", "--deadline", "2099-01-01T08:00"), "contradict each other"),
        (("--deadline", "2020-01-01T08:00+01:00"), "it has passed"),
        (("--deadline", "tomorrow"), "is no time"),
        (("--deadline", "2099-01-01"), "is no time"),
        (("--within", "soon"), "is no span of time"),
        (("--within", "0h"), "is no span of time"),
        (("--within", "1h", "--late", "maybe"), "there is no such choice"),
        (("--late", "stop"), "there is none"),
    ],
)
def test_deadlines_that_make_no_sense_are_refused(start_command, flags, words):
    """Exit code 2 with the reason, before anything is sent."""
    command = begin(start_command)
    write_input(command, count=3)
    ended = command.run(*RUN, *flags)
    assert ended.returncode == 2
    assert words in " ".join(ended.stderr.split())
    assert command.emulator.ledger().totals.uploads == 0


def test_a_dry_run_tells_what_the_deadline_means(start_command):
    """The window, the cutoff, what can be answered in the time, from when on it is too late, and the price of each lane."""
    command = begin(start_command)
    write_input(command)
    plain = command.run("run", "input.jsonl", "--dry-run", "--within", "6h", "--rpm", "30")
    assert plain.returncode == 0, plain.stderr
    told = " ".join(plain.stdout.split())
    for words in (
        "in batches with a window of 24h, which do not end in time",
        "30 single calls a minute: 600 of 600 requests can be answered so in the time",
        "it cannot be promised any more from",
        "for all in batches",
        "for all one by one",
    ):
        assert words in told, told
    machine = command.run("run", "input.jsonl", "--dry-run", "--json", "--within", "6h", "--rpm", "30")
    found = jsonl.loads(machine.stdout)["deadline"]
    assert (found["drainable"], found["requests_per_second"], found["window_is_in_time"]) == (600, 0.5, False)
    assert found["at"] - found["start_by"] == pytest.approx(1_200)
    assert command.emulator.ledger().totals.uploads == 0


SLOW = SlowReplies(on=("synchronous",), seconds=0.5)


def test_a_late_workload_stops_if_it_is_to_and_goes_on_when_asked(start_command):
    """Nothing more is sent after the deadline: exit code 4, at each repetition too, until --late finish; no answer is lost."""
    command = begin(start_command, SLOW)
    command.environment["BATCHKIT_MAX_IN_FLIGHT"] = "4"
    names = write_input(command, count=60)
    ended = run_within(command, 3, "--late", "stop")
    assert ended.returncode == 4, ended.stderr
    assert "has passed: nothing more is sent" in ended.stderr
    executed = totals_of_calls(command)
    found = status(command)
    assert 0 < executed == found["requests"]["succeeded"] < 60
    assert (found["deadline"]["outlook"], found["deadline"]["late"]) == ("missed", "stop")
    assert run_within(command, 3).returncode == 4
    assert totals_of_calls(command) == executed
    ended = run_within(command, 3, "--late", "finish")
    assert ended.returncode == 0, ended.stderr
    assert " missed, by " in ended.stdout
    assert answered(command) == names
    assert bought_once(command.emulator.ledger(), 60)


def test_a_late_workload_goes_on_by_default(start_command):
    """It is finished late, and says by how much and what came late."""
    command = begin(start_command, SLOW)
    command.environment["BATCHKIT_MAX_IN_FLIGHT"] = "4"
    names = write_input(command, count=30)
    ended = run_within(command, 2)
    assert ended.returncode == 0, ended.stderr
    assert " missed, by " in ended.stdout
    assert "late: " in ended.stdout
    assert answered(command) == names


def test_the_deadline_is_stored_at_the_first_use(start_command):
    """The same command keeps it, one with another deadline is refused by name."""
    command = begin(start_command)
    write_input(command, count=3)
    assert run_within(command, 3_600).returncode == 0
    at = status(command)["deadline"]["at"]
    assert run_within(command, 7_200).returncode == 0
    assert status(command)["deadline"]["at"] == at
    other = command.run(*RUN, "--deadline", "2099-01-01T08:00+01:00")
    assert other.returncode == 2
    assert "was begun to be finished by" in other.stderr
    without = command.run("submit", "input.jsonl", "--name", "other", "--no-prefect")
    assert without.returncode == 0
    refused = command.run("run", "input.jsonl", "--name", "other", "--no-prefect", "--within", "1h")
    assert refused.returncode == 2
    assert "was begun without a deadline" in refused.stderr


def test_the_status_says_when_batches_are_left_and_whether_it_will_be_met(start_command):
    """While the batches run: the cutoff, what is missing, and the outlook by the limits."""
    command = begin(start_command)
    write_input(command)
    ended = command.run("submit", "input.jsonl", "--within", "6h", "--rpm", "60", "--no-prefect")
    assert ended.returncode == 0, ended.stderr
    found = status(command)
    deadline = found["deadline"]
    assert (found["lane"], deadline["outlook"], deadline["drain_since"]) == ("auto", "on_time", None)
    assert deadline["at"] - deadline["cutoff_at"] == pytest.approx(1.5 * deadline["missing"] + 0.5)
    assert "it will be met" in " ".join(command.run("status", "input").stdout.replace("\u2502", " ").split())


KILLED_AT = {
    "the cutoff": "SELECT count(*) FROM workloads WHERE drain_since IS NOT NULL",
    "the merge of a stopped batch": "SELECT count(*) FROM batches WHERE status = 'cancelled'",
    "the drain": "SELECT count(*) FROM shards WHERE state = 'sending'",
}


@pytest.mark.parametrize("moment", KILLED_AT)
def test_killed_around_the_cutoff_nothing_is_lost(start_command, moment):
    """SIGKILL at the cutoff, between cancel and drain, and while draining: bought twice is at most what is in doubt."""
    command = begin(start_command, SlowReplies(on=("synchronous",), seconds=0.05), SlowCancel(seconds=300), speed=SPEED)
    names = write_input(command, count=300)
    command.environment["BATCHKIT_LEASE_SECONDS"] = "1"
    command.kill_when(
        lambda: command.count(KILLED_AT[moment]) > 0, *RUN, "--within", "8s", "--shard-lines", "50", "--small", "0"
    )
    ended = run_within(command, 8)
    assert ended.returncode == 0, ended.stderr
    assert answered(command) == names
    ledger = command.emulator.ledger()
    assert ledger.totals.bought_twice == 0
    extra = ledger.totals.requests_succeeded + ledger.synchronous.executed - 300
    assert extra == ledger.synchronous.bought_twice <= status(command)["in_doubt"]["requests"]


def test_resubmit_takes_a_deadline(start_command):
    """What expired is sent again by then: here there is no time for a batch."""
    command = begin(start_command, speed=432_000)
    names = write_input(command, count=50)
    assert command.run(*RUN, "--max-expiries", "1").returncode == 3
    ended = command.run("resubmit", "input", "--no-prefect", "--within", "30s")
    assert ended.returncode == 0, ended.stderr
    assert status(command)["deadline"]["outlook"] == "met"
    assert totals_of_calls(command) > 0
    assert bought_once(command.emulator.ledger(), 50)
    assert command.run(*RUN).returncode == 0
    assert answered(command) == names


def test_rows_of_a_table_have_a_deadline_too(start_command):
    """``annotate`` tells what it means, refuses one that cannot be met in its dry run too, and answers all rows in time."""
    command = begin(start_command)
    write_lines(
        command.folder / "rows.jsonl", [{"id": f"r{number}", "text": f"Text {number}"} for number in range(200)]
    )
    annotate = ("annotate", "rows.jsonl", "--prompt", "{{text}}", "--model", "openai/gpt-oss-20b", "--name", "rows")
    for more in (("--dry-run",), ("--no-prefect",)):
        refused = command.run(*annotate, "--within", "5m", "--rpm", "30", *more)
        assert refused.returncode == 2
        assert "cannot be met" in refused.stderr
    shown = command.run(*annotate, "--within", "6h", "--rpm", "30", "--dry-run")
    assert "30 single calls a minute" in " ".join(shown.stderr.split())
    ended = command.run(*annotate, "--within", "14s", "--no-prefect", "--shard-lines", "50", "-o", "out.jsonl")
    assert ended.returncode == 0, ended.stderr
    assert len(read_lines(command.folder / "out.jsonl")) == 200
    assert totals_of_calls(command) > 0
    assert bought_once(command.emulator.ledger(), 200)
    assert status(command, "rows")["deadline"]["outlook"] == "met"


@pytest.mark.slow
def test_an_hour_is_kept_over_twenty_thousand_requests(start_command):
    """An emulated hour, which takes two minutes here: 40 % would expire, all are answered in time, each bought once."""
    command = begin(start_command, speed=30)
    names = write_input(command, count=20_000)
    ended = command.run(*RUN, "--within", "120s", timeout_seconds=400)
    assert ended.returncode == 0, ended.stderr
    assert answered(command) == names
    ledger = command.emulator.ledger()
    assert ledger.synchronous.executed > 7_000
    assert bought_once(ledger, 20_000)
    assert status(command)["deadline"]["outlook"] == "met"
