"""``adopt``: what it prints, what it lists, files without a key, and what ``resubmit`` and ``clean`` do with what was adopted."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchkit.emulator.faults import batches, lines
from tests.foreign import ForeignClient, ids, rows
from tests.workloads import read_lines, write_lines

EXPIRE = lines.ExpireLines(custom_ids=ids((3, 4)), attempts=1)
REFUSE = lines.FailLines(custom_ids=ids((1,)), code="bad_thing")


@pytest.fixture
def client(open_emulator):
    """Return another client on an emulator where two of its requests expire and one is refused."""
    with ForeignClient(open_emulator(EXPIRE, REFUSE)) as made:
        yield made


def test_adopt_shows_what_is_missing_and_its_price_and_resubmit_sends_it(batchkit, client):
    """Two answers, a refusal and two expired requests: the price of the two, then the commands that send and export them."""
    batch = client.create(rows(range(5)))

    adopted = batchkit("adopt", batch["id"], "--name", "theirs")

    assert adopted.code == 3
    assert "theirs: 1 batch with 5 requests adopted" in adopted.out
    assert "2 answered, 2 expired, 1 failed, 0 missing" in adopted.out
    assert "2 requests can be:" in adopted.out
    assert "openai/gpt-oss-20b: about 22 tokens in, at most 100 out; " in adopted.out
    assert "batchkit resubmit theirs" in adopted.out
    assert client.has_file(batch["input_file_id"])
    told = batchkit("adopt", batch["id"], "--name", "theirs", "--json").json
    assert told["counts"] == {"answered": 2, "expired": 2, "failed": 1, "missing": 0, "cancelled": 0, "running": 0}
    assert (told["unsent"], told["batches"], told["estimate"]["cost_usd_at_least"] > 0) == (2, [batch["id"]], True)
    status = " ".join(batchkit("status", "theirs").out.split())
    assert f"adopted from batch {batch['id']}; nothing is sent again before" in status
    assert batchkit("watch", "theirs", "--no-prefect").code == 3
    assert batchkit("resubmit", "theirs", "--no-prefect").code == 3
    assert batchkit("export", "theirs", "out.jsonl").code == 0
    exported = [(line["custom_id"], line["status"]) for line in read_lines(Path("out.jsonl"))]
    assert exported == [(f"row-{n}", "failed" if n == 1 else "succeeded") for n in range(5)]


def test_a_workload_with_refused_requests_alone_is_told_the_flag_that_sends_them(batchkit, open_emulator):
    """Everywhere: after the adoption, in its status, and when it is watched; what cannot be sent at all gets no command."""
    with ForeignClient(open_emulator(REFUSE)) as client:
        batch = client.create(rows(range(2)))
        lost = client.create(rows(range(2)))
        client.delete(lost["input_file_id"])
        adopted = batchkit("adopt", batch["id"], "--name", "theirs")
        assert adopted.code == 3
        assert "1 request that failed can be, most likely to fail again" in adopted.out
        for shown in (adopted, batchkit("watch", "theirs", "--no-prefect")):
            assert "batchkit resubmit theirs --failed" in shown.out
        status = " ".join(batchkit("status", "theirs").out.replace("│", "").split())
        assert "nothing is sent again before `batchkit resubmit --failed`" in status
        batchkit("adopt", lost["id"], "--name", "lost")
        assert "resubmit" not in batchkit("watch", "lost", "--no-prefect").out
        assert "resubmit" not in batchkit("status", "lost").out


def test_the_list_shows_what_there_is_to_adopt(batchkit, client):
    """Counts, the day on which answers vanish, metadata, and which workload holds a batch; with filters."""
    mine = client.create(rows(range(5)), metadata={"suite": "mmlu"})
    other = client.create(rows((0, 2)))
    batchkit("adopt", mine["id"], "--name", "theirs")

    listed = batchkit("adopt", "--list", "--json").json["batches"]

    assert [entry["id"] for entry in listed] == [other["id"], mine["id"]]
    entry = listed[1]
    assert (entry["status"], entry["total"], entry["completed"], entry["workload"]) == ("expired", 5, 2, "theirs")
    assert entry["vanishes_at"] == mine["created_at"] + 30 * 86_400
    shown = batchkit("adopt", "--list", "--metadata", "suite=mmlu", "--expired", "--since", "52w").out
    assert "suite=mmlu" in shown
    assert other["id"][:20] not in "".join(shown.split())
    assert "no such batch" in batchkit("adopt", "--list", "--metadata", "suite=none").out


def test_the_list_says_when_it_is_not_known_how_long_results_are_kept(batchkit, open_emulator, monkeypatch):
    """Nothing is shown as a date then."""
    emulator = open_emulator()
    with ForeignClient(emulator) as client:
        client.create(rows(range(2)))
    monkeypatch.setenv("BATCHKIT_API_KEY", emulator.api_key)
    unknown = batchkit("adopt", "--list", "--provider", "custom", "--base-url", emulator.base_url)
    assert (unknown.code, "deleted there" in unknown.out) == (0, False)
    assert "how long the custom provider keeps results is not known" in unknown.err
    known = batchkit("adopt", "--list")
    assert ("deleted there" in known.out, "is not known" in known.err) == (True, False)


def test_downloaded_files_are_merged_without_a_key(batchkit, client, monkeypatch):
    """Files of answers and of requests need no provider; with a key the missing ones are sent later, once."""
    batch = client.create(rows(range(5)))
    Path("answers.jsonl").write_bytes(client.content(batch["output_file_id"]))
    Path("errors.jsonl").write_bytes(client.content(batch["error_file_id"]))
    write_lines(Path("sent.jsonl"), rows(range(6)))
    with monkeypatch.context() as patch:
        patch.delenv("GROQ_API_KEY")
        files = ("--outputs", "answers.jsonl", "--errors", "errors.jsonl", "--requests", "sent.jsonl")

        adopted = batchkit("adopt", *files, "--name", "theirs")

        assert adopted.code == 3, adopted.err
        assert "2 answered, 2 expired, 1 failed, 1 missing" in adopted.out
        assert batchkit("adopt", *files, "--name", "theirs").code == 3
        again = batchkit("adopt", *files, "--name", "again")
        assert (again.code, "belongs to workload 'theirs' already" in again.err) == (2, True)
    assert batchkit("resubmit", "theirs", "--no-prefect").code == 3
    assert batchkit("status", "theirs", "--json").json["requests"]["succeeded"] == 5


def test_clean_leaves_the_files_of_others_alone(batchkit, client, monkeypatch):
    """The files of an adopted batch stay at the provider, and no key is needed; with --with-adopted they are deleted."""
    batch = client.create(rows((0, 2)))
    with monkeypatch.context() as patch:
        batchkit("adopt", batch["id"], "--name", "theirs")
        patch.delenv("GROQ_API_KEY")
        assert batchkit("clean", "theirs", "--yes").code == 0
    assert client.has_file(batch["input_file_id"])
    assert client.has_file(batch["output_file_id"])
    batchkit("adopt", batch["id"], "--name", "theirs")
    assert batchkit("clean", "theirs", "--yes", "--with-adopted").code == 0
    assert not client.has_file(batch["input_file_id"])


def test_a_batch_that_still_runs_is_adopted_and_can_be_watched(batchkit, open_emulator):
    """Exit code 0: nothing is missing yet, and the next command is `watch`."""
    with ForeignClient(open_emulator(batches.StuckBatches())) as client:
        batch = client.create(rows(range(3)), waits=False)

        adopted = batchkit("adopt", batch["id"])

        assert adopted.code == 0
        assert "3 still running" in adopted.out
        assert f"batchkit watch {batch['id']}" in adopted.out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "give either the ids of batches or files of answers"),
        (("batch_1", "--outputs", "a.jsonl"), "give either the ids of batches or files of answers"),
        (("--list", "batch_1"), "--list adopts nothing"),
        (("batch_1", "--since", "7d"), "belong to --list"),
        (("--list", "--since", "soon"), "'soon' is no span of time"),
        (("--list", "--metadata", "suite"), "'suite' is not KEY=VALUE"),
        (("--outputs", "a.jsonl"), "there is no such file"),
        (("batch_1",), "batch batch_1"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_stored(batchkit, open_emulator, words, reason):
    """Exit code 2, and a sentence that says what to write."""
    open_emulator()
    ended = batchkit("adopt", *words)
    assert (ended.code, reason in ended.err) == (2, True), ended.err
    assert batchkit("status", "--json").json["workloads"] == []
