"""What ``status`` says of a workload that somebody works on, and of one that nobody does."""

from __future__ import annotations

from batchkit.emulator.faults import batches, calls
from batchkit.models import RetryPolicy
from batchkit.runner import Runner
from batchkit.settings import load_settings
from batchkit.store import workloads
from tests.cli.test_driving import start

RUN = ("--no-prefect", "--shard-lines", "10")


def flat(text):
    """Take the frame and the line breaks out of a panel."""
    return " ".join(text.replace("│", " ").split())


def test_status_says_why_a_command_stopped(batchkit, open_emulator, source):
    """After an outage, until somebody drives it again."""
    emulator = open_emulator(calls.DropConnection(on=("*",)))
    ended = batchkit("run", source, *RUN)
    assert ended.code == 4
    shown = batchkit("status", "input")
    assert "nobody: stopped" in flat(shown.out)
    assert "ago: the provider could not be reached for" in flat(shown.out)
    assert "worked on by nobody: stopped" in flat(batchkit("status").out)
    value = batchkit("status", "input", "--json").json
    assert value["stopped_reason"].startswith("the provider could not be reached")
    assert (value["not_sent"], value["answered"], value["fetched"], value["runners"]) == (30, 0, 0, [])
    assert value["waiting_for"] == "30 requests not sent yet"

    emulator.set_scenario("clean")
    assert batchkit("run", source, *RUN).code == 0
    value = batchkit("status", "input", "--json").json
    assert (value["stopped_at"], value["stopped_reason"], value["waiting_for"]) == (None, None, None)
    assert (value["answered"], value["fetched"], value["not_sent"]) == (30, 30, 0)


def test_an_outage_of_a_run_is_two_lines_of_its_log(open_emulator, source):
    """One when it begins, although every try fails and is told by the steps."""
    open_emulator(calls.DropConnection(on=("*",)))
    process = start("run", source, *RUN, BATCHKIT_OUTAGE_SECONDS="3")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    said = [line for line in err.splitlines() if "GET /models" in line and not line.startswith("error:")]
    said = [line for line in said if "downloaded" not in line]
    assert len(said) == 1, err
    assert "tried" in said[0]
    assert "since" in said[0]


def test_status_says_that_a_command_has_left_the_batches_to_the_provider(batchkit, open_emulator, source):
    """After submit, and after a cancel that does not wait."""
    open_emulator(batches.StuckBatches())
    batchkit("submit", source, *RUN)
    assert "ago: everything was submitted" in flat(batchkit("status", "input").out)
    batchkit("cancel", "input")
    value = batchkit("status", "input", "--json").json
    assert value["state"] == "finished" or value["stopped_reason"] == "the command waits for no batch"


def test_an_interrupted_split_says_what_to_do(batchkit, open_emulator):
    """It is worked on by nobody, and the same command begins it anew."""
    open_emulator()
    with Runner(load_settings()) as runner, runner.store.write() as connection:
        workloads.add(
            connection, name="half", source="in.jsonl", directory="half-1", window="24h", max_window="7d", shard_lines=10,
            shard_bytes=1_000, policy=RetryPolicy(), at=runner.clock(),
        )  # fmt: skip
    shown = flat(batchkit("status", "half").out)
    assert "half interrupted" in shown
    assert "the split of the input was interrupted, nothing was sent" in shown
    assert "the same command begins the split anew; `batchkit clean` deletes what there is" in shown
