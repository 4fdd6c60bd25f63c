"""Budgets as a user sets them: nothing is sent that does not fit, over both lanes, whatever dies, and the same command tells it again."""

import pytest

from batchkit.emulator.faults.calls import SlowReplies
from batchkit.emulator.faults.lines import ExpireLines
from batchkit.files import jsonl
from batchkit.models import Lane
from batchkit.provider.pricing import pricing_of
from tests.workloads import chat_line, read_lines, write_lines

COUNT = 100
LANES = pytest.mark.parametrize("lane", ["batch", "sync"])
#: Of one request: about 12 tokens of input, and at most 20 of output.
MOST_TOKENS = 60


def run_words(lane, *more):
    """Return the words of the command."""
    return ("run", "input.jsonl", "--lane", lane, "--no-prefect", "-o", "out.jsonl", "--shard-lines", "10", *more)


def write_input(command, count=COUNT, *, most=20):
    """Write different questions, and return their custom_ids."""
    names = [f"r{number}" for number in range(count)]
    lines = (chat_line(name, f"What is {name}?", max_completion_tokens=most) for name in names)
    write_lines(command.folder / "input.jsonl", lines)
    return names


def status(command, name="input"):
    """Read ``status --json``."""
    return jsonl.loads(command.run("status", name, "--json").stdout)


def executed(command):
    """Return how many requests were executed over both lanes."""
    ledger = command.emulator.ledger()
    return ledger.synchronous.executed + ledger.totals.requests_executed


@LANES
def test_a_budget_stops_the_work_and_a_larger_one_resumes_it(start_command, lane):
    """Exit code 6 with what is spent; the same command again sends nothing; a larger budget ends it, each request once."""
    command = start_command()
    names = write_input(command)
    ended = command.run(*run_words(lane, "--max-total-tokens", "1000"))
    assert ended.returncode == 6, ended.stderr
    assert "stopped by the budget: " in ended.stdout
    assert "tokens spent, 0 in flight" in ended.stdout
    assert "raise --max-total-tokens to continue" in ended.stdout
    assert "resume:" not in ended.stdout
    assert "stopped by budget" in command.run("status", "input").stdout
    found = status(command)
    assert found["state"] == "stopped_by_budget"
    cost = found["cost"]
    assert 0 < cost["spent_tokens"] <= 1000
    assert cost["stopped_by_budget"]
    sent = executed(command)
    assert 0 < sent < COUNT
    again = command.run(*run_words(lane, "--max-total-tokens", "1000"))
    assert again.returncode == 6, again.stderr
    assert executed(command) == sent
    ended = command.run(*run_words(lane, "--max-total-tokens", "100000"))
    assert ended.returncode == 0, ended.stderr
    assert [row["custom_id"] for row in read_lines(command.folder / "out.jsonl")] == names
    assert executed(command) == COUNT
    assert not status(command)["cost"]["stopped_by_budget"]


@LANES
def test_a_budget_in_usd_is_kept_to_the_cent(start_command, lane):
    """What is spent is the price of the answers in their lane, and the summary, the JSON and the dry run agree about the rest."""
    command = start_command()
    write_input(command)
    planned = command.run(*run_words(lane, "--max-cost", "0.0002", "--dry-run"))
    assert planned.returncode == 0, planned.stderr
    assert "budget $0.0002: " in planned.stderr
    ended = command.run(*run_words(lane, "--max-cost", "0.0002", "--json"))
    assert ended.returncode == 6, ended.stderr
    found = jsonl.loads(ended.stdout)
    assert (found["exit_code"], found["state"]) == (6, "stopped_by_budget")
    cost, usage = found["cost"], found["usage"]
    pricing = pricing_of("groq", Lane(lane))
    assert cost["spent_usd"] == pytest.approx(
        pricing.price("openai/gpt-oss-20b", usage["prompt_tokens"], usage["completion_tokens"])
    )
    assert 0 < cost["spent_usd"] <= 0.0002
    assert cost["in_flight_usd"] == 0
    assert cost["to_come_usd"] > 0
    assert cost["estimated_usd"] == pytest.approx(cost["spent_usd"] + cost["to_come_usd"])
    assert cost["max_cost_usd"] == 0.0002
    assert found["waiting_for"].startswith("stopped by the budget: $0.000")
    shown = command.run("status", "input", "--exit-code")
    assert shown.returncode == 6
    assert "raise --max-cost to continue" in " ".join(shown.stdout.split())
    # Watching it is no way around.
    assert command.run("watch", "input", "--no-prefect").returncode == 6
    assert command.run("watch", "input", "--no-prefect", "--max-cost", "1").returncode == 0
    assert executed(command) == COUNT


def test_a_shard_is_cut_to_what_is_left(start_command):
    """One batch of all requests would not fit: as many as fit travel in one of their own."""
    command = start_command()
    write_input(command)
    ended = command.run("run", "input.jsonl", "--no-prefect", "--max-total-tokens", "1500")
    assert ended.returncode == 6, ended.stderr
    assert "of its 100 requests; it is cut smaller" in ended.stderr
    found = status(command)
    assert 1000 < found["cost"]["spent_tokens"] <= 1500
    assert found["shards"]["withdrawn"] >= 1
    assert executed(command) < COUNT


@LANES
def test_a_budget_without_room_for_one_request_is_refused(start_command, lane):
    """Exit code 2 before anything is sent, in a dry run too; a larger budget then runs it."""
    command = start_command()
    write_input(command, 5)
    for words in (("--dry-run",), ()):
        ended = command.run(*run_words(lane, "--max-total-tokens", "20", *words))
        assert ended.returncode == 2, ended.stderr
        assert "too small for the first request" in ended.stderr
        assert executed(command) == 0
    assert command.emulator.ledger().totals.batches == 0
    assert command.run(*run_words(lane, "--max-total-tokens", "10000")).returncode == 0


@pytest.mark.parametrize("words", [("--dry-run",), ()])
def test_without_a_price_the_other_limit_is_named(start_command, words):
    """A model without a known price cannot have a budget in USD; one in tokens it can."""
    command = start_command()
    lines = [chat_line("a", model="llama-guard-nobody-prices")]
    write_lines(command.folder / "input.jsonl", lines)
    ended = command.run("run", "input.jsonl", "--no-prefect", "--max-cost", "5", *words)
    assert ended.returncode == 2
    assert "the price of llama-guard-nobody-prices is not known" in ended.stderr
    assert "--max-total-tokens" in ended.stderr
    assert "[provider.profile.token_prices]" in ended.stderr


@LANES
def test_two_processes_share_one_budget(start_command, lane):
    """Two commands at once on one database reserve together no more than the budget, and both end with 6."""
    command = start_command([SlowReplies(on=("synchronous",), seconds=0.05)])
    write_input(command)
    words = run_words(lane, "--max-total-tokens", "1500")
    both = [command.start(*words) for _ in range(2)]
    for process in both:
        _, told = process.communicate()
        assert process.returncode == 6, told
    cost = status(command)["cost"]
    assert 1000 < cost["spent_tokens"] <= 1500
    assert command.count("SELECT count(*) FROM shards WHERE state NOT IN ('planned', 'merged', 'withdrawn')") == 0


@LANES
def test_killed_at_any_point_nothing_is_reserved_twice_or_for_ever(start_command, lane):
    """SIGKILL after the reservation, after the first answers, and after a merge: the budget is used up, and kept."""
    command = start_command([SlowReplies(on=("synchronous",), seconds=0.1)])
    command.environment["BATCHKIT_LEASE_SECONDS"] = "1"
    names = write_input(command)
    words = run_words(lane, "--max-total-tokens", "1500")
    for query in (
        "SELECT count(*) FROM shards WHERE estimated_tokens IS NOT NULL",
        "SELECT count(*) FROM shards WHERE state IN ('submitted', 'sending', 'ended')",
        "SELECT count(*) FROM shards WHERE state = 'merged'",
    ):
        command.kill_when(lambda query=query: command.count(query) > 0, *words)
    ended = command.run(*words)
    assert ended.returncode == 6, ended.stderr
    found = status(command)
    doubts = found["in_doubt"]["requests"]
    assert 1000 < found["cost"]["spent_tokens"] <= 1500 + doubts * MOST_TOKENS
    assert command.emulator.ledger().synchronous.bought_twice <= doubts
    ended = command.run(*run_words(lane, "--max-total-tokens", "1000000"))
    assert ended.returncode == 0, ended.stderr
    assert [row["custom_id"] for row in read_lines(command.folder / "out.jsonl")] == names


def test_what_expires_is_released_and_reserved_again(start_command):
    """Requests that expired cost nothing, and are sent again within the same budget."""
    command = start_command([ExpireLines(count=4, attempts=1)])
    names = write_input(command, 40)
    words = run_words("batch", "--max-total-tokens", "100000")
    ended = command.run(*words)
    assert ended.returncode == 0, ended.stderr
    found = status(command)
    assert found["expired_attempts"] > 0
    assert found["cost"]["spent_tokens"] == found["usage"]["total_tokens"]
    assert [row["custom_id"] for row in read_lines(command.folder / "out.jsonl")] == names
