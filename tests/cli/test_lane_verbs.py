"""The sync lane under the other verbs: tables, evaluations, dry runs, and what stays as it is."""

import csv
from pathlib import Path

import pytest

from batchkit.files import jsonl
from tests.workloads import chat_line, write_lines

MODEL = "openai/gpt-oss-20b"


@pytest.fixture
def emulator(open_emulator):
    """Start an emulator without faults."""
    return open_emulator()


def write_mails(count=12):
    """Write a table."""
    rows = [f"{number},mail number {number}" for number in range(count)]
    Path("mails.csv").write_text("\n".join(["number,text", *rows, ""]))


ASK = (
    *("annotate", "mails.csv", "--key", "number", "--prompt", "Angry? {{ text }}", "--choices", "yes,no"),
    *("-m", MODEL, "--no-prefect"),
)


def test_a_table_is_annotated_one_by_one_at_the_ordinary_price(batchkit, emulator):
    """Its rows come back with their answers, and cost twice what a batch costs; the dry run says both before."""
    write_mails()
    planned = {
        lane: jsonl.loads(batchkit(*ASK, "--lane", lane, "--dry-run", "--json").out) for lane in ("batch", "sync")
    }
    ended = batchkit(*ASK, "--lane", "sync", "-o", "out.csv")
    assert ended.code == 0, ended.err
    assert "ordinary prices" in ended.out
    with Path("out.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["number"] for row in rows] == [str(number) for number in range(12)]
    assert {row["answer"] for row in rows} <= {"yes", "no"}
    assert emulator.ledger().synchronous.executed == 12
    least = {lane: found["models"][MODEL]["cost_usd_at_least"] for lane, found in planned.items()}
    assert least["sync"] == pytest.approx(2 * least["batch"])


def test_answers_of_both_lanes_are_reused(batchkit, emulator):
    """A question that was answered in a batch is not bought again one by one, nor the other way round."""
    write_mails(6)
    assert batchkit(*ASK, "-o", "first.csv").code == 0
    write_mails(9)
    assert batchkit(*ASK, "--lane", "sync", "--name", "second", "-o", "second.csv").code == 0
    assert emulator.ledger().synchronous.executed == 3
    write_mails(10)
    assert batchkit(*ASK, "--name", "third", "-o", "third.csv").code == 0
    assert emulator.ledger().totals.requests_executed == 6 + 1


def test_an_evaluation_need_not_wait_for_a_queue(batchkit, emulator):
    """A suite runs one by one and has its verdict; its second run is compared with it."""
    rows = [f"question {number},answer {number}" for number in range(8)]
    Path("rows.csv").write_text("\n".join(["question,expected", *rows, ""]))
    Path("suite.yaml").write_text(
        "name: quick\ndataset: rows.csv\nprompt: '{{ question }}'\nexpected: expected\n"
        f"models: [{MODEL}]\nscorers: [exact]\n"
    )
    for _ in range(2):
        ended = batchkit("eval", "suite.yaml", "--lane", "sync", "--no-prefect")
        assert ended.code == 0, ended.err
    assert emulator.ledger().totals.batches == 0
    assert emulator.ledger().synchronous.executed == 16


def test_the_plan_says_the_lane(batchkit, emulator):
    """``--dry-run`` shows single calls without a window, and how they are cut."""
    write_lines(Path("input.jsonl"), (chat_line(f"r{number}") for number in range(450)))
    shown = batchkit("run", "input.jsonl", "--lane", "sync", "--dry-run").out
    assert "single calls, at the ordinary price" in shown
    assert "3 shards of up to 200 requests" in shown
    assert "window" not in shown
    machine = jsonl.loads(batchkit("run", "input.jsonl", "--lane", "sync", "--dry-run", "--json").out)
    assert machine["lane"] == "sync"
    assert emulator.ledger().synchronous.executed == 0


def test_a_finished_workload_is_reported_exported_and_cleaned(batchkit, emulator):
    """The page, the table and the deletion need no batch."""
    write_mails()
    assert batchkit(*ASK, "--lane", "sync", "-o", "out.csv").code == 0
    name = jsonl.loads(batchkit("status", "--json").out)["workloads"][0]["name"]
    assert batchkit("report", name, "-o", "page.html").code == 0
    assert "mail number 3" in Path("page.html").read_text()
    assert batchkit("export", name, "again.parquet").code == 0
    assert batchkit("clean", name, "--yes").code == 0
    assert not list(Path(".batchkit/spool").glob("*"))
    assert emulator.ledger().totals.batches == 0
