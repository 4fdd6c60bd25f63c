"""What ``status`` shows for a workload with a runner, and for one without."""

from __future__ import annotations

import threading
import time

import pytest

from batchkit import formatting
from batchkit.emulator.faults import batches, calls
from batchkit.engine.runtime import Runner
from batchkit.models import RetryPolicy
from batchkit.settings import load_settings
from batchkit.store import workloads
from tests.cli.test_driving import start

RUN = ("--no-prefect", "--shard-lines", "10")


def flat(text):
    """Remove the frame and the line breaks of a panel."""
    return " ".join(text.replace("│", " ").split())


def test_status_shows_why_a_command_stopped(batchkit, open_emulator, source):
    """After an outage the reason is shown until the next drive."""
    emulator = open_emulator(calls.DropConnection(on=("*",)))
    ended = batchkit("run", source, *RUN)
    assert ended.code == 4
    shown = batchkit("status", "input")
    assert "nobody: stopped" in flat(shown.out)
    assert "ago: the provider did not answer as it should for" in flat(shown.out)
    assert "worked on by nobody: stopped" in flat(batchkit("status").out)
    value = batchkit("status", "input", "--json").json
    assert value["stopped_reason"].startswith("the provider did not answer as it should")
    assert (value["not_sent"], value["answered"], value["fetched"], value["runners"]) == (30, 0, 0, [])
    assert value["waiting_for"] == "30 requests to be sent"

    emulator.set_scenario("clean")
    assert batchkit("run", source, *RUN).code == 0
    value = batchkit("status", "input", "--json").json
    assert (value["stopped_at"], value["stopped_reason"], value["waiting_for"]) == (None, None, None)
    assert (value["answered"], value["fetched"], value["not_sent"]) == (30, 30, 0)


@pytest.mark.patient
def test_an_outage_is_two_lines_in_the_log(open_emulator, source):
    """The first line comes when the outage begins, although every try fails and has a note."""
    open_emulator(calls.DropConnection(on=("*",)))
    process = start("run", source, *RUN, BATCHKIT_OUTAGE_SECONDS="3")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    said = [line for line in err.splitlines() if "GET /models" in line and not line.startswith("error:")]
    said = [line for line in said if "downloaded" not in line]
    assert len(said) == 1, err
    assert "tried" in said[0]
    assert "since" in said[0]


def test_status_shows_that_a_command_left_the_batches_at_the_provider(batchkit, open_emulator, source):
    """This is shown after submit, and after a cancel that does not wait."""
    open_emulator(batches.StuckBatches())
    batchkit("submit", source, *RUN)
    assert "ago: everything was submitted" in flat(batchkit("status", "input").out)
    batchkit("cancel", "input")
    value = batchkit("status", "input", "--json").json
    assert value["state"] == "finished" or value["stopped_reason"] == "the command waits for no batch"


def test_an_interrupted_split_shows_what_to_do(batchkit, open_emulator):
    """No runner works on it, and the same command begins it again."""
    open_emulator()
    with Runner(load_settings()) as runner, runner.store.write() as connection:
        workloads.add(
            connection, name="half", source="in.jsonl", directory="half-1", window="24h", max_window="7d", shard_lines=10,
            shard_bytes=1_000, policy=RetryPolicy(), provider="groq", at=runner.clock(),
        )  # fmt: skip
    shown = flat(batchkit("status", "half").out)
    assert "half interrupted" in shown
    assert "the split of the input was interrupted, nothing was sent" in shown
    assert "the same command begins the split anew; `batchkit clean` deletes what there is" in shown


def test_figures_without_a_runner_show_their_age(batchkit, open_emulator, source):
    """After submit the provider is not polled any more, so its later answers are not known here."""
    open_emulator(batches.StuckBatches())
    batchkit("submit", source, *RUN)
    value = batchkit("status", "input", "--json").json
    assert value["created_at"] < value["as_of"] <= value["stopped_at"] < value["read_at"]
    news = f"last news from the provider at {formatting.when(value['as_of'], time.time())}"
    assert f"0 of 30 answered (0 %), 0 downloaded, {news}" in flat(batchkit("status", "input").out)
    assert f"everything was submitted; {news}" in flat(batchkit("status").out)


def test_a_command_that_the_provider_stops_shows_the_state_of_the_work(batchkit, open_emulator, source):
    """Submitted batches continue, and unsent requests wait for the user."""
    refusal = calls.RefuseCalls(
        on=("batches.create",), skip=1, status=400, code="blocked_api_access", message="spend limit"
    )
    open_emulator(refusal, batches.StuckBatches())
    ended = batchkit("run", source, *RUN, "--shard-lines", "10")
    assert ended.code == 4
    assert "input: 0 of 30 answered (0 %), 0 downloaded; " in ended.err
    assert " in flight; " in ended.err
    assert " not sent" in ended.err
    assert "1 batch keeps running at the provider" in ended.err
    assert "status:    batchkit status input" in ended.err
    assert ended.err.index("status:") < ended.err.index("error:")
    assert "error: the provider refused: POST /batches: HTTP 400: spend limit" in ended.err


@pytest.mark.patient
def test_an_outage_has_one_counter(open_emulator, source):
    """The line at its end counts no fewer tries than the line at its beginning."""
    emulator = open_emulator(calls.DropConnection(on=("*",)))
    process = start("run", source, *RUN, BATCHKIT_OUTAGE_SECONDS="60", BATCHKIT_HTTP_ATTEMPTS="3")
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "; tried" in line and "downloaded" not in line:
            break
    threading.Timer(2.0, emulator.set_scenario, ["clean"]).start()
    _, err = process.communicate(timeout=60)
    began, ended = said[-1], next(line for line in err.splitlines() if "the provider answers again after" in line)
    assert int(began.rpartition("; tried ")[2].split()[0]) <= int(ended.rpartition("(")[2].split()[0])
