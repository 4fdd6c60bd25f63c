"""No question is bought twice, as a user sees it: over a table that grows, in the dry run, the summary, the status and the outputs."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from pyarrow import parquet as pq

from batchkit.files import jsonl
from tests.workloads import chat_line, read_lines

MODEL = "openai/gpt-oss-20b"
ASK = (
    *("annotate", "mails.csv", "--key", "number", "--prompt", "Angry? {{ text }}", "--choices", "yes,no"),
    *("-m", MODEL, "--no-prefect"),
)


def write_mails(texts, *, ends="\n"):
    """Write the table; its line ends do not belong to what is asked."""
    rows = [f"{number},{text}" for number, text in enumerate(texts, 1)]
    Path("mails.csv").write_text(ends.join(["number,text", *rows, ""]), newline="")


def rows_of(path):
    """Read a CSV file."""
    with Path(path).open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def bought(emulator):
    """Return how many requests the provider executed."""
    return emulator.ledger(with_executions=False).totals.requests_executed


@pytest.fixture
def emulator(open_emulator):
    """Start an emulator without faults."""
    return open_emulator()


def test_a_table_that_grows_buys_its_new_rows_only(batchkit, emulator):
    """A pilot, the whole, the whole with two rows more, and the same with other line ends: each text is bought once."""
    texts = [f"mail {number % 9}" for number in range(30)]
    write_mails(texts)
    assert batchkit(*ASK, "--limit", 5, "-o", "pilot.csv").code == 0
    assert bought(emulator) == 5
    ended = batchkit(*ASK, "-o", "whole.csv")
    assert "18 have an answer in this database, 8 ask the same as another: 4 of 30 requests are sent" in ended.out
    assert bought(emulator) == 9
    write_mails([*texts, "a new one", "a new one"])
    ended = batchkit(*ASK, "-o", "grown.parquet")
    assert ended.code == 0
    assert "30 have an answer in this database, 1 asks the same as another: 1 of 32 requests is sent" in ended.out
    write_mails([*texts, "a new one", "a new one"], ends="\r\n")
    assert batchkit(*ASK, "-o", "again.csv").code == 0
    assert bought(emulator) == 10

    grown = pq.read_table("grown.parquet").to_pylist()
    assert [row["text"] for row in grown] == [*texts, "a new one", "a new one"]
    said: dict[str, str] = {}
    for row in grown:
        assert said.setdefault(row["text"], row["answer"]) == row["answer"]
    assert [row["reused_from"] is None for row in grown] == [False] * 30 + [True, False]
    assert [(row["attempts"], row["cost_usd"], row["prompt_tokens"]) for row in grown[:30]] == [(0, 0.0, 0)] * 30
    assert grown[30]["attempts"] == 1
    assert grown[30]["cost_usd"] > 0
    assert re.fullmatch(r"mails-\w+/31:gpt-oss-20b:1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", grown[31]["reused_from"])


def test_the_dry_run_knows_what_would_be_sent_and_what_that_costs(batchkit, emulator):
    """Its figures are those of the run that follows; nothing is stored or sent by it."""
    write_mails(["a", "b", "a"])
    shown = batchkit(*ASK, "--dry-run")
    assert "1 asks the same as another: 2 of 3 requests are sent" in shown.out
    assert batchkit(*ASK, "-o", "out.csv").code == 0
    write_mails(["a", "b", "a", "c", "d", "c"])
    planned = batchkit(*ASK, "--dry-run", "--json").json
    assert (planned["requests"], planned["reused"], planned["repeated"]) == (6, 3, 1)
    assert planned["estimate"]["models"][MODEL]["requests"] == 2
    workload = batchkit(*ASK, "-o", "out.csv", "--json").json
    assert (workload["reused"], workload["repeated"], workload["reuse"]) == (3, 1, "on")
    assert bought(emulator) == 4


def test_without_reuse_everything_is_sent(batchkit, emulator):
    """The option is stored with the workload: the same command resumes it, and another choice is refused by name."""
    write_mails(["a", "a"])
    assert batchkit(*ASK, "--no-reuse", "-o", "out.csv").code == 0
    assert bought(emulator) == 2
    assert [row["reused_from"] for row in rows_of("out.csv")] == ["", ""]
    assert batchkit(*ASK, "-o", "out.csv").code == 0
    refused = batchkit(*ASK, "--reuse", "-o", "out.csv")
    assert refused.code == 2
    assert "was prepared with --no-reuse" in refused.err
    assert "leave out --reuse, or choose another --name" in refused.err
    contradiction = batchkit(*ASK, "--no-reuse", "--reuse-urls")
    assert contradiction.code == 2
    assert "--no-reuse and --reuse-urls contradict each other" in contradiction.err
    assert bought(emulator) == 2


def test_samples_of_a_row_are_draws_of_their_own(batchkit, emulator):
    """Two rows with one text and three samples each: three draws are bought, and the first sample of one is that of the other."""
    write_mails(["a", "a"])
    assert batchkit(*ASK, "--samples", 3, "-o", "out.jsonl").code == 0
    assert bought(emulator) == 3
    first, second = read_lines(Path("out.jsonl"))
    assert [answer["reused_from"] is None for answer in first["answers"]] == [True, True, True]
    origins = [answer["reused_from"].partition("/")[2].partition(" ")[0] for answer in second["answers"]]
    assert origins == [answer["custom_id"] for answer in first["answers"]]
    assert second["reused_from"].count("; ") == 2


def test_a_run_of_requests_reuses_when_asked(batchkit, emulator):
    """Its plan says so, and lines of the output name the answered request; other lines are as always."""
    requests = [chat_line(f"row-{number}", f"question {number % 2}") for number in range(5)]
    Path("in.jsonl").write_bytes(b"".join(jsonl.dumps(request) + b"\n" for request in requests))
    plan = batchkit("run", "in.jsonl", "--reuse", "--dry-run")
    assert "3 ask the same as another: 2 of 5 requests are sent" in plan.out
    assert batchkit("run", "in.jsonl", "--reuse", "--no-prefect").code == 0
    assert bought(emulator) == 2
    lines = read_lines(Path("in.results.jsonl"))
    assert [line["custom_id"] for line in lines] == [f"row-{number}" for number in range(5)]
    assert ["reused_from" in line for line in lines] == [False, False, True, True, True]
    assert lines[4]["response"] == lines[0]["response"]
    assert batchkit("export", "in", "in.csv").code == 0
    assert rows_of("in.csv")[2]["reused_from"].startswith("in/row-0 ")
    planned = batchkit("run", "in.jsonl", "--name", "other", "--reuse", "--dry-run", "--json").json
    assert (planned["requests"], planned["reused"], planned["repeated"]) == (5, 5, 0)
    assert planned["shards"] == []


def test_a_workload_that_sends_nothing_is_shown_as_finished_at_once(batchkit, emulator):
    """The status, the report and the summary say why; no time passes for it."""
    write_mails(["a", "b"])
    assert batchkit(*ASK, "-o", "out.csv").code == 0
    assert batchkit(*ASK, "--name", "again", "-o", "again.csv").code == 0
    shown = batchkit("status", "again")
    assert "2 have an answer in this database: 0 of 2 requests are sent" in " ".join(shown.out.split())
    assert re.search(r"again\s+finished\s+0 s", shown.out)
    status = batchkit("status", "again", "--json").json
    assert (status["reused"], status["usage"]["total_tokens"], status["following"]) == (2, 0, 0)
    assert batchkit("report", "again", "--output", "again.html").code == 0
    page = Path("again.html").read_text(encoding="utf-8")
    assert "answered by other requests" in page
    assert page.count("answer of another request") == 2
    assert bought(emulator) == 2
