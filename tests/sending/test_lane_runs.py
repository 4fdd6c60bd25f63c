"""Workloads on the sync lane, as a user runs them: every request once, whatever dies, and what may have been paid for twice is told."""

import shutil
import signal
import time
from contextlib import closing

import pytest
from sqlalchemy import event

from batchkit.emulator.faults.calls import FlexFull, LoseReply, PlanGate, RateLimit, RefuseCalls, SlowReplies
from batchkit.emulator.faults.replies import StrangeReplies
from batchkit.emulator.scenarios.scenario import RateSection
from batchkit.errors import StoreError
from batchkit.files import jsonl
from batchkit.store.engine import Store, TransactionLimits
from tests.workloads import chat_line, read_lines, write_lines

COUNT = 60
RUN = ("run", "input.jsonl", "--lane", "sync", "--no-prefect", "-o", "out.jsonl")


def write_input(command, count=COUNT, **body):
    """Write different questions, and return their custom_ids."""
    names = [f"r{number}" for number in range(count)]
    lines = (chat_line(name, f"What is {name}?", max_completion_tokens=20, **body) for name in names)
    write_lines(command.folder / "input.jsonl", lines)
    return names


def answered(command):
    """Return the custom_ids of the output whose request succeeded, in their order."""
    return [row["custom_id"] for row in read_lines(command.folder / "out.jsonl") if row["error"] is None]


def status(command, name="input"):
    """Read ``status --json``."""
    return jsonl.loads(command.run("status", name, "--json").stdout)


def totals(command):
    """Return what the emulator executed."""
    return command.emulator.ledger().synchronous


def stop_outside_a_transaction(command, process):
    """Send SIGSTOP at a moment when the process has no open transaction, which would hold up everybody else for minutes."""
    store = Store(command.database_url, limits=TransactionLimits(lock_seconds=0.1))
    event.listen(
        store.engine,
        "connect",
        lambda connection, _: store.is_sqlite and connection.execute("PRAGMA busy_timeout = 100"),
    )
    with closing(store):
        while True:
            process.send_signal(signal.SIGSTOP)
            try:
                with store.write() as connection:
                    connection.exec_driver_sql("UPDATE workloads SET name = name")
                    connection.exec_driver_sql("UPDATE shards SET state = state")
            except StoreError:
                process.send_signal(signal.SIGCONT)
            else:
                return


def test_requests_travel_one_by_one_and_come_back_in_order(start_command):
    """No batch is made, each request is executed once, and the output has the order of the input."""
    command = start_command()
    names = write_input(command, count=250)
    ended = command.run(*RUN)
    assert ended.returncode == 0, ended.stderr
    assert answered(command) == names
    ledger = command.emulator.ledger()
    assert (ledger.synchronous.executed, ledger.synchronous.bought_twice, ledger.totals.batches) == (250, 0, 0)
    found = status(command)
    assert (found["lane"], found["shards"]["merged"], found["in_doubt"]["requests"]) == ("sync", 2, 0)
    assert found["usage"]["total_tokens"] > 0


def test_the_same_command_again_sends_nothing(start_command):
    """A finished workload writes the same output again, and asks nothing."""
    command = start_command()
    names = write_input(command)
    assert command.run(*RUN).returncode == 0
    (command.folder / "out.jsonl").unlink()
    assert command.run(*RUN).returncode == 0
    assert (answered(command), totals(command).executed) == (names, COUNT)


@pytest.mark.parametrize("deaths", [1, 3])
def test_killed_it_buys_at_most_what_it_reports_in_doubt(start_command, deaths):
    """SIGKILL with calls under way: every row has its answer, and no more was bought twice than is reported."""
    command = start_command([SlowReplies(on=("synchronous",), seconds=0.3)])
    names = write_input(command)
    for death in range(1, deaths + 1):
        command.kill_when(lambda least=8 * death: totals(command).executed >= least, *RUN)
    ended = command.run(*RUN)
    assert ended.returncode == 0, ended.stderr
    assert answered(command) == names
    found = status(command)["in_doubt"]
    assert 0 < totals(command).bought_twice <= found["requests"] <= deaths * COUNT
    assert found["tokens"] > 0
    assert f"{found['requests']} requests were in flight when a command stopped" in ended.stdout


def test_interrupted_it_waits_for_its_answers(start_command):
    """Ctrl-C ends with 130 after the calls under way, and nothing is in doubt or bought twice."""
    command = start_command([SlowReplies(on=("synchronous",), seconds=0.3)])
    names = write_input(command)
    process = command.start(*RUN)
    while totals(command).executed < 8:
        assert process.poll() is None
        time.sleep(0.01)  # noqa: TID251 - the condition is polled
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130
    assert "answers on the way; Ctrl-C again gives them up" in told
    assert command.run(*RUN).returncode == 0
    assert answered(command) == names
    assert (totals(command).bought_twice, status(command)["in_doubt"]["requests"]) == (0, 0)


def test_a_lost_machine_leaves_its_whole_shard_in_doubt(start_command):
    """Without the journal nobody knows what was sent: the whole shard is reported, and sent again."""
    command = start_command([SlowReplies(on=("synchronous",), seconds=0.3)])
    names = write_input(command)
    command.kill_when(lambda: totals(command).executed >= 8, *RUN)
    for folder in (command.folder / ".batchkit" / "spool").glob("*/sent"):
        shutil.rmtree(folder)
    ended = command.run(*RUN)
    assert ended.returncode == 0, ended.stderr
    assert answered(command) == names
    assert status(command)["in_doubt"]["requests"] == COUNT
    assert "when another machine stopped" in ended.stderr


def test_a_process_that_wakes_after_it_was_replaced_changes_nothing(start_command):
    """Stopped for longer than its lease, it finds its shard taken over: it sends nothing more, and no answer is replaced."""
    command = start_command([SlowReplies(on=("synchronous",), seconds=0.3)])
    command.environment["BATCHKIT_LEASE_SECONDS"] = "1"
    names = write_input(command)
    stopped = command.start(*RUN)
    while totals(command).executed < 8:
        assert stopped.poll() is None
        time.sleep(0.01)  # noqa: TID251 - the condition is polled
    stop_outside_a_transaction(command, stopped)
    time.sleep(1.2)  # noqa: TID251 - the lease of a stopped process runs out in real time
    ended = command.run(*RUN)
    executed = totals(command).executed
    stopped.send_signal(signal.SIGCONT)
    stopped.communicate()
    assert ended.returncode == stopped.returncode == 0, ended.stderr
    assert answered(command) == names
    assert totals(command).executed == executed
    assert totals(command).bought_twice <= status(command)["in_doubt"]["requests"]
    assert command.count("SELECT count(*) FROM results WHERE state = 'succeeded'") == COUNT


def test_lost_replies_are_in_doubt_and_sent_again(start_command):
    """A connection that breaks after the execution costs one more call, which is told."""
    command = start_command([LoseReply(on=("synchronous",), times=3, how="reset")])
    names = write_input(command)
    ended = command.run(*RUN)
    assert ended.returncode == 0, ended.stderr
    assert answered(command) == names
    assert (status(command)["in_doubt"]["requests"], totals(command).bought_twice) == (3, 3)


def test_on_doubt_fail_sends_nothing_twice(start_command):
    """Whoever would rather miss an answer than pay twice gets exit code 3, and the reason in the output."""
    command = start_command([LoseReply(on=("synchronous",), times=3, how="close")])
    write_input(command)
    ended = command.run(*RUN, "--on-doubt", "fail")
    assert ended.returncode == 3
    assert len(answered(command)) == COUNT - 3
    codes = {row["error"]["code"] for row in read_lines(command.folder / "out.jsonl") if row["error"]}
    assert (codes, totals(command).bought_twice) == ({"batchkit_no_answer"}, 0)


def test_an_answer_that_is_no_json_is_no_answer(start_command):
    """What a gateway says instead of an answer is never stored as one; the request is sent again."""
    command = start_command([StrangeReplies(times=4, how="text")])
    names = write_input(command)
    assert command.run(*RUN).returncode == 0
    assert answered(command) == names


def test_refusals_for_now_cost_no_attempt(start_command):
    """After a 429 the request waits and is sent again: it fails no attempt, and nothing is reported."""
    command = start_command([RateLimit(on=("synchronous",), times=20, retry_after="0.05")])
    names = write_input(command)
    ended = command.run(*RUN, "--max-attempts", "1")
    assert ended.returncode == 0, ended.stderr
    assert answered(command) == names
    assert command.count("SELECT count(*) FROM attempts") == 0


def test_server_errors_have_three_turns_and_then_an_attempt(start_command):
    """A request that meets errors only fails with the last one; the others succeed."""
    command = start_command([RefuseCalls(on=("synchronous",), times=4, status=500)])
    write_input(command, count=1)
    ended = command.run(*RUN, "--max-attempts", "1")
    assert ended.returncode == 3
    assert command.count("SELECT count(*) FROM attempts WHERE kind = 'transient'") == 1


def test_a_refused_account_stops_it_and_the_same_command_resumes(start_command):
    """A 401 in the middle ends with exit code 4 and whose word it is; answers so far are kept, and nothing is bought twice."""
    command = start_command([RefuseCalls(on=("synchronous",), skip=20, times=30, status=401)])
    names = write_input(command)
    ended = command.run(*RUN)
    assert ended.returncode == 4
    assert "401" in ended.stderr
    assert totals(command).executed == 20
    codes = [command.run(*RUN).returncode for _ in range(5)]
    assert codes[-1] == 0
    assert answered(command) == names
    assert (totals(command).bought_twice, status(command)["in_doubt"]["requests"]) == (0, 0)


def test_a_request_over_the_whole_limit_fails_with_the_remedy(start_command):
    """Waiting never helps it, so it fails at once and says by how much it has to shrink."""
    command = start_command(rates=RateSection(tokens_per_minute=500))
    write_lines(command.folder / "input.jsonl", [chat_line("large", max_completion_tokens=5_000)])
    ended = command.run(*RUN)
    assert ended.returncode == 3
    assert "lower its max_completion_tokens" in read_lines(command.folder / "out.jsonl")[0]["error"]["message"]


@pytest.mark.parametrize(("tiers", "served"), [("flex,on_demand", "on_demand"), ("on_demand", "on_demand")])
def test_a_tier_without_room_is_left_for_the_next_one(start_command, tiers, served):
    """Requests that the flex tier keeps refusing are served by the next tier that the user allows, each once."""
    command = start_command([FlexFull()])
    names = write_input(command, count=3)
    ended = command.run(*RUN, "--tier", tiers)
    assert ended.returncode == 0, ended.stderr
    assert answered(command) == names
    assert {spent.service_tier for spent in totals(command).spent} == {served}
    assert (totals(command).executed, totals(command).bought_twice) == (3, 0)


def test_cancelled_it_keeps_its_answers(start_command):
    """``cancel`` from another terminal: what is answered stays, the rest is cancelled, and nothing more is sent."""
    command = start_command([SlowReplies(on=("synchronous",), seconds=0.5)])
    write_input(command, count=400)
    process = command.start(*RUN, "--rpm", "600")
    while totals(command).executed < 4:
        assert process.poll() is None
        time.sleep(0.01)  # noqa: TID251 - the condition is polled
    assert command.run("cancel", "input").returncode in {0, 3}
    process.communicate()
    requests = status(command)["requests"]
    assert requests["succeeded"] == totals(command).executed > 0
    assert requests["succeeded"] + requests["cancelled"] == 400


@pytest.mark.parametrize(("count", "is_sync"), [(30, True), (31, False)])
def test_auto_sends_small_inputs_one_by_one(start_command, count, is_sync):
    """Up to ``--small`` requests are single calls; one more makes a batch."""
    command = start_command()
    names = write_input(command, count=count)
    ended = command.run("run", "input.jsonl", "--lane", "auto", "--small", "30", "--no-prefect", "-o", "out.jsonl")
    assert ended.returncode == 0, ended.stderr
    assert answered(command) == names
    assert (totals(command).executed, command.emulator.ledger().totals.batches) == ((count, 0) if is_sync else (0, 1))


def test_auto_leaves_batches_that_the_plan_does_not_have(start_command):
    """A 403 for batches moves what is not sent, after saying so; under ``batch`` it stops."""
    command = start_command([PlanGate()])
    names = write_input(command)
    assert command.run("run", "input.jsonl", "--name", "strict", "--no-prefect").returncode == 4
    ended = command.run("run", "input.jsonl", "--lane", "auto", "--small", "0", "--no-prefect", "-o", "out.jsonl")
    assert ended.returncode == 0, ended.stderr
    assert f"{COUNT} requests not sent yet will be sent one by one" in ended.stderr
    assert answered(command) == names


def test_another_lane_under_a_used_name_is_refused(start_command):
    """The lane is stored with the workload; leaving it out resumes."""
    command = start_command()
    write_input(command)
    assert command.run(*RUN).returncode == 0
    ended = command.run("run", "input.jsonl", "--lane", "batch", "--no-prefect")
    assert ended.returncode == 2
    assert "begun with --lane sync" in ended.stderr
    assert command.run("run", "input.jsonl", "--no-prefect").returncode == 0


@pytest.mark.parametrize("flags", [("--lane", "fast"), ("--on-doubt", "maybe")])
def test_choices_that_do_not_exist_are_refused(start_command, flags):
    """Exit code 2 with the choices, before anything is sent."""
    command = start_command()
    write_input(command)
    ended = command.run("run", "input.jsonl", *flags)
    assert ended.returncode == 2
    assert "batch" in ended.stderr or "resend" in ended.stderr
