"""``run``, ``submit``, ``watch``, ``status`` and ``export`` against an emulator."""

from __future__ import annotations

import gzip
import io
import sys
import threading
from pathlib import Path

import pytest
import zstandard
from pyarrow import parquet as pq

from batchkit.cli.app import run_command
from batchkit.emulator.faults import batches, calls, lines
from batchkit.files import jsonl
from batchkit.store import workloads as workload_rows
from batchkit.store.engine import Store
from tests.factories import add_shard, add_workload
from tests.workloads import chat_line, mixed_line, read_lines, write_lines, write_mixed

RUN = ("--no-prefect", "--shard-lines", "10")


def ids(path):
    """Return the custom_ids of a file in order."""
    return [line["custom_id"] for line in read_lines(Path(path))]


def pipe(monkeypatch, data):
    """Put bytes on stdin."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_run_ends_with_one_result_per_line_in_order(batchkit, open_emulator, source):
    """Exit code 0, a summary on stdout, and the results in NAME.results.jsonl in the working directory."""
    open_emulator(batches.ShuffleOutput())
    ended = batchkit("run", source, *RUN)
    assert ended.code == 0, ended.err
    assert "input: all 30 requests succeeded" in ended.out
    assert "results:   input.results.jsonl" in ended.out
    assert ids("input.results.jsonl") == ids(source)
    assert {line["status"] for line in read_lines(Path("input.results.jsonl"))} == {"succeeded"}


def test_a_second_run_sends_nothing_and_writes_the_same_file(batchkit, open_emulator, source):
    """After completion the provider is not called at all."""
    emulator = open_emulator()
    assert batchkit("run", source, *RUN, "--output", "first.jsonl").code == 0
    bought = emulator.ledger().totals
    calls_before = emulator.ledger().calls
    assert batchkit("run", source, *RUN, "--output", "second.jsonl").code == 0
    assert emulator.ledger().totals == bought
    assert emulator.ledger().calls == calls_before
    assert Path("first.jsonl").read_bytes() == Path("second.jsonl").read_bytes()


def test_failed_requests_are_exit_code_3_with_their_reasons(batchkit, open_emulator, source):
    """The run finishes, shows why requests failed, and how to send them again."""
    open_emulator(lines.FailLines(count=1, status=400, code="bad_thing", message="no such thing"))
    ended = batchkit("run", source, *RUN)
    assert ended.code == 3
    assert "failed" in ended.out
    assert "400 bad_thing: no such thing" in ended.out
    assert "batchkit resubmit input --failed" in ended.out


def test_expired_requests_are_sent_again_automatically(batchkit, open_emulator, source):
    """The user does nothing, and every request is executed once."""
    emulator = open_emulator(lines.ExpireLines(fraction=0.5, attempts=1))
    ended = batchkit("run", source, *RUN)
    assert ended.code == 0
    assert "expired without an answer; the requests were sent again" in ended.out
    assert emulator.ledger().totals.bought_twice == 0


def test_the_json_of_a_run_is_the_only_output_on_stdout(batchkit, open_emulator, source):
    """A program reads one object without progress."""
    open_emulator(lines.FailLines(custom_ids=frozenset({"row-0000001"})))
    ended = batchkit("run", source, *RUN, "--json", "--name", "nightly", "--output", "out.csv")
    assert ended.code == 3
    assert ended.err == ""
    assert ended.json["schema_version"] == 1
    assert (ended.json["name"], ended.json["exit_code"], ended.json["output"]) == ("nightly", 3, "out.csv")
    assert ended.json["requests"] == {
        "total": 30,
        "pending": 0,
        "in_flight": 0,
        "succeeded": 29,
        "failed": 1,
        "cancelled": 0,
    }
    assert Path("out.csv").read_text(encoding="utf-8").startswith("custom_id,status,")


def test_progress_goes_to_stderr_and_the_summary_to_stdout(batchkit, open_emulator, source):
    """The results in a pipe are not mixed with progress."""
    open_emulator()
    ended = batchkit("run", source, *RUN)
    assert "input: 0 of 30 answered" in ended.err
    assert "answered (" not in ended.out
    assert "\x1b" not in ended.out + ended.err


@pytest.mark.parametrize("kind", ["zst", "two files", "stdin gz"])
def test_all_kinds_of_input_are_accepted(batchkit, open_emulator, source, monkeypatch, tmp_path, kind):
    """A compressed file, several files and a pipe give the same requests and the same results."""
    open_emulator()
    data = source.read_bytes()
    match kind:
        case "zst":
            words = [tmp_path / "input.jsonl.zst"]
            words[0].write_bytes(zstandard.compress(data))
        case "two files":
            words = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
            whole = data.splitlines(keepends=True)
            words[0].write_bytes(b"".join(whole[:11]))
            words[1].write_bytes(b"".join(whole[11:]))
        case _:
            words = ["-"]
            pipe(monkeypatch, gzip.compress(data))
    ended = batchkit("run", *words, *RUN, "--output", "out.jsonl")
    assert ended.code == 0, ended.err
    assert ids("out.jsonl") == ids(source)


def test_the_name_comes_from_the_first_file(batchkit, open_emulator, tmp_path):
    """Only the suffixes that name the format are dropped."""
    open_emulator()
    source = tmp_path / "reviews.v2.jsonl.gz"
    source.write_bytes(gzip.compress(jsonl.dumps(chat_line("a"))))
    assert batchkit("run", source, *RUN, "--json").json["name"] == "reviews.v2"
    assert Path("reviews.v2.results.jsonl").exists()


def test_piped_input_is_named_by_its_bytes(batchkit, open_emulator, source, monkeypatch):
    """The same bytes resume the workload, other bytes begin another workload, and no copy remains."""
    emulator = open_emulator()
    names = []
    for data in (source.read_bytes(), source.read_bytes(), jsonl.dumps(chat_line("other"))):
        pipe(monkeypatch, data)
        names.append(batchkit("run", "-", *RUN, "--json").json["name"])
    assert names[0] == names[1] != names[2]
    assert emulator.ledger().totals.custom_ids == 31
    assert not list(Path(".batchkit").glob("stdin*"))


def test_stdin_can_be_read_only_once(batchkit, open_emulator):
    """Naming it twice is a usage error."""
    open_emulator()
    ended = batchkit("run", "-", "-")
    assert ended.code == 2
    assert "stdin (-) can be read only once" in ended.err


def test_all_problems_of_a_malformed_input_are_reported_and_nothing_is_sent(batchkit, open_emulator, tmp_path):
    """The first twenty problems are listed with file and line, and all are counted; exit code 2, no call and no workload."""
    emulator = open_emulator()
    bad = write_lines(tmp_path / "bad.jsonl", [chat_line("good"), *[b'{"custom_id": }'] * 30, chat_line("good")])
    ended = batchkit("run", bad, *RUN)
    assert ended.code == 2
    reported = ended.err.splitlines()
    assert reported[0].startswith(f"{bad}:2: ")
    assert reported[20] == "... and 11 more"
    assert "31 problems; nothing was sent" in ended.err
    assert emulator.ledger().calls == {}
    assert batchkit("status").out == "no workloads yet\n"
    assert not Path("bad.results.jsonl").exists()


@pytest.mark.parametrize("name", ["reviews.csv", "reviews.Parquet"])
def test_a_table_is_referred_to_annotate(batchkit, open_emulator, tmp_path, name):
    """The error for rows instead of requests names the verb that makes requests from rows."""
    open_emulator()
    (tmp_path / name).write_text("id,text\n1,Kind words\n")
    ended = batchkit("run", tmp_path / name, *RUN)
    assert ended.code == 2
    assert "`batchkit annotate` makes them from the rows of a table" in ended.err


def test_problems_of_a_pipe_are_reported_for_stdin(batchkit, open_emulator, monkeypatch):
    """The name of the temporary copy would not help the user."""
    open_emulator()
    pipe(monkeypatch, b'{"custom_id": 7}\n')
    ended = batchkit("run", "-", *RUN)
    assert ended.code == 2
    assert ended.err.startswith("-:1: ")


def test_a_missing_file_is_exit_code_2(batchkit, open_emulator):
    """The error has its name."""
    open_emulator()
    ended = batchkit("run", "nowhere.jsonl")
    assert ended.code == 2
    assert "nowhere.jsonl" in ended.err


def test_another_input_under_a_used_name_is_refused(batchkit, open_emulator, source, tmp_path):
    """Its requests would get the answers to other questions."""
    emulator = open_emulator()
    assert batchkit("run", source, *RUN, "--name", "nightly").code == 0
    before = emulator.ledger().totals
    other = write_mixed(tmp_path / "other.jsonl", 5)
    ended = batchkit("run", other, *RUN, "--name", "nightly")
    assert ended.code == 2
    assert "was made of a different input" in ended.err
    assert "--name" in ended.err
    assert emulator.ledger().totals == before


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("out.xlsx", ".xlsx"),
        ("nowhere/out.jsonl", "no such folder"),
        (".", "is a folder"),
        ("out", "the name has no ending"),
        ("SOURCE", "is the input"),
    ],
)
def test_an_impossible_output_is_refused_before_anything_is_sent(batchkit, open_emulator, source, output, words):
    """An error hours later would be too late."""
    emulator = open_emulator()
    ended = batchkit("run", source, *RUN, "--output", source if output == "SOURCE" else output)
    assert ended.code == 2
    assert words in ended.err
    assert emulator.ledger().calls == {}
    assert read_lines(source)


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "\x1b[2J"])
def test_a_name_must_be_printable(batchkit, open_emulator, source, name):
    """A name that moves the cursor would break every list."""
    open_emulator()
    assert batchkit("run", source, *RUN, "--name", name).code == 2


def test_a_name_with_a_slash_makes_a_file_without_it(batchkit, open_emulator, source):
    """The default output stays in the working directory."""
    open_emulator()
    assert batchkit("run", source, *RUN, "--name", "team/nightly").code == 0
    assert Path("team-nightly.results.jsonl").exists()


def test_without_a_key_nothing_happens(batchkit, source):
    """Exit code 2, and a hint about how to get a key or run the demo."""
    ended = batchkit("run", source)
    assert ended.code == 2
    assert "GROQ_API_KEY" in ended.err
    assert "batchkit demo" in ended.err


def test_a_dry_run_shows_the_plan_and_leaves_no_files(batchkit, source):
    """It needs neither key nor database, sends nothing and writes nothing."""
    ended = batchkit("run", source, "--dry-run", "--shard-lines", "10")
    assert ended.code == 0
    assert "nothing was sent" in ended.out
    assert "4 shards of up to 10 requests" in ended.out
    assert "/v1/audio/transcriptions" in ended.out
    assert list(Path().iterdir()) == []
    plan = batchkit("run", source, "--dry-run", "--json").json
    assert (plan["requests"], sum(shard["lines"] for shard in plan["shards"])) == (30, 30)
    assert batchkit("submit", source, "--dry-run").code == 0


def test_a_dry_run_reports_problems_too(batchkit, tmp_path):
    """It checks everything that a run would check."""
    bad = write_lines(tmp_path / "bad.jsonl", [b"nonsense"])
    ended = batchkit("run", bad, "--dry-run")
    assert ended.code == 2
    assert f"{bad}:1: " in ended.err


def test_a_run_out_of_time_is_exit_code_4_and_the_same_command_resumes(batchkit, open_emulator, source):
    """The batches continue at the provider, and nothing is exported before the end."""
    emulator = open_emulator(batches.StuckBatches(batches=frozenset({1})))
    words = ("run", source, *RUN, "--timeout", "0.5")
    ended = batchkit(*words)
    assert ended.code == 4
    assert "without a result here" in ended.out
    assert f"resume:    batchkit run {source} --no-prefect --shard-lines 10 --timeout 0.5" in ended.out
    assert not Path("input.results.jsonl").exists()
    emulator.set_scenario("clean")
    assert batchkit(*words[:-1], "60").code == 0
    assert emulator.ledger().totals.bought_twice == 0


def test_an_unreachable_provider_is_exit_code_4(batchkit, open_emulator, source, monkeypatch):
    """Nothing is lost, and the message says so."""
    open_emulator()
    monkeypatch.setenv("BATCHKIT_BASE_URL", "http://127.0.0.1:9/openai/v1")
    ended = batchkit("run", source, *RUN)
    assert ended.code == 4
    assert "could not be reached" in ended.err
    assert "run the same command again" in ended.err


def test_the_free_plan_is_explained(batchkit, open_emulator, source):
    """The hint for 403 not_available_for_plan says what to do."""
    open_emulator(calls.PlanGate())
    ended = batchkit("run", source, *RUN)
    assert ended.code == 4
    assert "Developer tier" in ended.err


def test_the_key_is_in_no_output(batchkit, open_emulator, source):
    """This holds even with every call logged."""
    open_emulator(calls.PlanGate())
    ended = batchkit("run", source, *RUN, "-v")
    assert "gsk_test" not in ended.out + ended.err


def test_with_verbose_every_call_is_logged(batchkit, open_emulator, source):
    """The calls and the waves are logged on stderr."""
    open_emulator()
    ended = batchkit("run", source, *RUN, "--verbose")
    assert ended.code == 0
    assert "POST /batches -> 200" in ended.err
    assert "merge: " in ended.err


def test_two_runs_of_one_name_share_the_work(open_emulator, source, capfd, monkeypatch):
    """Both run at once in one folder and succeed, and nothing is bought twice."""
    # Typer sets and deletes it while it reads a path; two threads that do so at once meet a missing variable.
    monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "1")
    emulator = open_emulator()
    codes = {}

    def work(target):
        codes[target] = run_command(["run", str(source), *RUN, "--output", target])

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a.jsonl", "b.jsonl")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {"a.jsonl": 0, "b.jsonl": 0}, capfd.readouterr().err
    assert Path("a.jsonl").read_bytes() == Path("b.jsonl").read_bytes()
    assert emulator.ledger().totals.bought_twice == 0
    assert emulator.ledger().totals.requests_executed == 30


def test_submit_returns_when_everything_is_submitted(batchkit, open_emulator, source):
    """The exit code is 0, the batches continue at the provider, and ``watch`` finishes the work."""
    emulator = open_emulator(batches.StuckBatches())
    ended = batchkit("submit", source, *RUN)
    assert ended.code == 0
    assert "input: 4 batches with 30 requests submitted" in ended.out
    assert "batchkit watch input" in ended.out
    assert len(emulator.ledger().batches) == 4
    assert not Path("input.results.jsonl").exists()
    status = batchkit("status", "input", "--json", "--exit-code")
    assert (status.code, status.json["state"], status.json["shards"]["submitted"]) == (4, "running", 4)
    assert batchkit("submit", source, *RUN, "--json").json["exit_code"] == 0


def test_watch_finishes_what_submit_started(batchkit, open_emulator, source):
    """It shows how to get the results, which it does not write itself."""
    open_emulator()
    batchkit("submit", source, *RUN, "--name", "nightly")
    ended = batchkit("watch", "nightly", "--no-prefect")
    assert ended.code == 0
    assert "batchkit export nightly nightly.results.jsonl" in ended.out
    assert batchkit("watch", "nightly", "--json").json["exit_code"] == 0


def test_watch_without_a_name_drives_all_open_workloads(batchkit, open_emulator, tmp_path):
    """Several workloads are driven; the worst exit code counts."""
    open_emulator(lines.FailLines(custom_ids=frozenset({"b-1"})))
    for name in ("a", "b"):
        source = write_lines(tmp_path / f"{name}.jsonl", [chat_line(f"{name}-{number}") for number in range(3)])
        assert batchkit("submit", source, "--no-prefect").code == 0
    ended = batchkit("watch", "--no-prefect")
    assert ended.code == 3
    assert "a          finished" in ended.out
    assert "b          finished" in ended.out
    assert batchkit("watch").out == "no workload is open\n"
    assert batchkit("watch", "--json").json == {"schema_version": 1, "exit_code": 0, "errors": [], "workloads": []}


def test_watch_names_the_workloads_that_failed_and_ends_with_the_worst_exit_code(batchkit, open_emulator, source):
    """A workload that belongs to another key is reported and skipped; the other one is finished anyway."""
    open_emulator(batches.StuckBatches())
    for name in ("foreign", "own"):
        batchkit("submit", source, *RUN, "--name", name)
    store = Store("sqlite:///.batchkit/batchkit.db")
    with store.write() as connection:
        workload = workload_rows.find(connection, "foreign")
        assert workload is not None
        workload_rows.set_values(connection, workload.id, credential="another key's")
    store.close()
    ended = batchkit("watch", "--timeout", "0.5", "--json")
    assert ended.code == 4
    (message,) = ended.json["errors"]
    assert message.startswith("foreign: workload 'foreign' was submitted with another key")
    assert f"error: {message}" in ended.err
    assert [workload["name"] for workload in ended.json["workloads"]] == ["foreign", "own"]


def test_watch_of_several_without_a_key_sends_nothing(batchkit, open_emulator, source, monkeypatch):
    """When every workload ends before anything is sent, the command ends with exit code 2."""
    open_emulator(batches.StuckBatches())
    for name in ("a", "b"):
        batchkit("submit", source, *RUN, "--name", name)
    monkeypatch.delenv("GROQ_API_KEY")
    ended = batchkit("watch", "--no-prefect")
    assert ended.code == 2
    assert ended.err.count("there is no API key") >= 2


def test_watch_without_a_name_takes_the_only_open_one(batchkit, open_emulator, source):
    """It acts as if the workload had been named."""
    open_emulator()
    batchkit("submit", source, *RUN)
    ended = batchkit("watch", "--no-prefect")
    assert ended.code == 0
    assert "input: all 30 requests succeeded" in ended.out


def test_an_input_with_an_interrupted_split_is_not_sent(batchkit, open_emulator):
    """Watching it reports the interrupted split, which needs the input."""
    emulator = open_emulator()
    store = Store("sqlite:///.batchkit/batchkit.db")
    with store.write() as connection:
        workload = add_workload(connection, "half", split=False)
        add_shard(connection, workload)
    store.close()
    ended = batchkit("watch", "half", "--no-prefect")
    assert ended.code == 4
    assert "its split was interrupted" in ended.err
    assert emulator.ledger().calls == {}
    assert batchkit("status", "half", "--json").json["state"] == "interrupted"


def test_the_deadline_applies_to_several_workloads_too(batchkit, open_emulator, source):
    """A workload that is not finished by then is exit code 4."""
    open_emulator(batches.StuckBatches())
    for name in ("a", "b"):
        batchkit("submit", source, *RUN, "--name", name)
    ended = batchkit("watch", "--timeout", "0.5", "--json")
    assert ended.code == 4
    assert [workload["state"] for workload in ended.json["workloads"]] == ["running", "running"]


def test_an_unknown_name_is_exit_code_2(batchkit, open_emulator, source):
    """This holds for every verb that takes a name."""
    open_emulator()
    batchkit("run", source, *RUN)
    for words in (
        ("watch", "nobody"),
        ("status", "nobody"),
        ("export", "nobody", "x.jsonl"),
        ("cancel", "nobody"),
        ("resubmit", "nobody"),
        ("clean", "nobody", "--yes"),
    ):
        ended = batchkit(*words)
        assert ended.code == 2, words
        assert "there is no workload 'nobody'" in ended.err


def test_status_of_a_database_without_workloads_is_no_error(batchkit, monkeypatch):
    """An empty list is a valid answer: exit code 0, and an empty list for programs."""
    monkeypatch.setenv("BATCHKIT_HOME", "empty")
    Path("empty").mkdir()
    Path("empty/batchkit.db").touch()
    assert (batchkit("status").code, batchkit("status").out) == (0, "no workloads yet\n")
    assert batchkit("status", "--json").json == {"schema_version": 1, "workloads": []}


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "--json"),
        ("status", "nightly"),
        ("export", "nightly", "out.jsonl"),
        ("report", "nightly"),
        ("watch",),
        ("cancel", "nightly"),
        ("resubmit", "nightly"),
        ("clean", "nightly", "--yes"),
    ],
)
@pytest.mark.parametrize("where", [(), ("--home", "nowhere"), ("--database-url", "sqlite:///nowhere/batchkit.db")])
def test_a_missing_database_is_reported_and_not_created(batchkit, words, where):
    """A misspelt home is no empty home: exit code 2 with the path, and nothing is created."""
    ended = batchkit(*words, *where)
    assert ended.code == 2
    assert ended.out == ""
    assert f"{'nowhere' if where else '.batchkit'}/batchkit.db does not exist" in ended.err
    assert list(Path().iterdir()) == []


def test_status_shows_the_last_events_on_request(batchkit, open_emulator, source):
    """``--history`` lists the latest events, oldest first, down to the shard."""
    open_emulator()
    batchkit("run", source, "--name", "work", *RUN)
    shown = batchkit("status", "work", "--history", "3").out.splitlines()[-3:]
    assert all(line.startswith("20") for line in shown)
    assert "ended -> merged" in shown[-2]
    assert "succeeded" in shown[-2]
    assert "stopped" in shown[-1]
    assert "finished" in shown[-1]
    assert "ended -> merged" not in batchkit("status", "work").out


def test_status_of_an_older_database_asks_for_the_upgrade(batchkit, open_emulator, source):
    """``status`` does not upgrade; it names the command that does."""
    open_emulator()
    batchkit("run", source, *RUN)
    store = Store("sqlite:///.batchkit/batchkit.db")
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
        connection.exec_driver_sql("ALTER TABLE workloads RENAME COLUMN credential TO credentials")
    store.close()
    ended = batchkit("status")
    assert ended.code == 4
    assert "batchkit db upgrade" in ended.err


def test_export_writes_available_results(batchkit, open_emulator, source):
    """Before the end, requests without a result are pending or in flight, and the summary says so."""
    open_emulator(batches.StuckBatches())
    batchkit("submit", source, *RUN)
    ended = batchkit("export", "input", "now.jsonl")
    assert ended.code == 0
    assert ended.out == "30 lines written to now.jsonl\n"
    assert "30 requests without a final result" in ended.err
    assert ids("now.jsonl") == ids(source)
    assert batchkit("export", "input", "now.txt").code == 2


def test_results_as_a_table(batchkit, open_emulator, source):
    """``run`` writes Parquet as ``export`` does: one row per line, in input order."""
    open_emulator()
    ended = batchkit("run", source, *RUN, "--output", "out.parquet")
    assert ended.code == 0, ended.err
    assert "results:   out.parquet" in ended.out
    table = pq.read_table("out.parquet")
    assert table.column("custom_id").to_pylist() == ids(source)
    assert set(table.column("status").to_pylist()) == {"succeeded"}
    assert all(table.column("text").to_pylist())
    assert batchkit("export", "input", "again.parquet").code == 0
    assert Path("again.parquet").read_bytes() == Path("out.parquet").read_bytes()


def test_flags_override_the_environment(batchkit, open_emulator, source, monkeypatch):
    """--home and --base-url override variables with other values."""
    emulator = open_emulator()
    monkeypatch.setenv("BATCHKIT_HOME", "from-environment")
    monkeypatch.setenv("BATCHKIT_BASE_URL", "http://127.0.0.1:9/openai/v1")
    ended = batchkit("run", source, *RUN, "--home", "from-flag", "--base-url", emulator.base_url)
    assert ended.code == 0
    assert Path("from-flag/batchkit.db").exists()
    assert not Path("from-environment").exists()
    assert "--home from-flag" not in ended.out
    assert "batchkit export" not in ended.out


def test_another_key_is_refused_unless_it_is_accepted(batchkit, open_emulator, source, monkeypatch):
    """A key that does not see the batches would buy everything again."""
    open_emulator(batches.StuckBatches())
    batchkit("submit", source, *RUN)
    monkeypatch.setenv("GROQ_API_KEY", "gsk_other")
    ended = batchkit("watch", "input", "--no-prefect")
    assert ended.code == 2
    assert "--accept-other-key" in ended.err


def test_a_large_mixed_input_is_cut_as_requested(batchkit, open_emulator, tmp_path):
    """The flags for cutting are passed to the split."""
    emulator = open_emulator()
    source = write_lines(tmp_path / "input.jsonl", (mixed_line(number) for number in range(100)))
    ended = batchkit("run", source, "--no-prefect", "--shard-bytes", "5000", "--window", "48h", "--json")
    assert ended.code == 0
    assert ended.json["window"] == "48h"
    assert {batch.window for batch in emulator.ledger().batches} == {"48h"}
    assert all(upload.bytes <= 5_000 for upload in emulator.ledger().uploads)
