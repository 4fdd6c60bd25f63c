"""Splitting takes the whole input or nothing, and the same input only once."""

from __future__ import annotations

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select, text

from batchkit.errors import InputInvalid, WorkloadConflict
from batchkit.files import jsonl
from batchkit.models import ShardState
from batchkit.steps.split import SplitOptions
from batchkit.store import shards as shard_rows
from batchkit.store import tables
from batchkit.store import workloads as workload_rows
from tests.workloads import chat_line, mixed_line, write_lines, write_mixed


def _malformed(path):
    """Write a file with five problems in a hundred lines."""
    rows: list[Any] = [chat_line(f"row-{number}") for number in range(1, 101)]
    rows[16] = b'{"custom_id": "row-17", "method": '
    rows[39]["custom_id"] = "row-12"
    rows[89]["custom_id"] = "row-12"
    del rows[94]["body"]
    rows[98]["body"]["stream"] = True
    return write_lines(path, rows)


def test_all_problems_are_reported_together_with_their_lines(open_harness, tmp_path):
    """Broken JSON, repeated ids, a missing body and a stream are reported by line together, and nothing is sent or kept."""
    harness = open_harness()

    with pytest.raises(InputInvalid) as raised:
        harness.split(_malformed(tmp_path / "bad.jsonl"))

    assert raised.value.count == 5
    assert [problem.line for problem in raised.value.problems] == [17, 40, 90, 95, 99]
    assert "row-12" in raised.value.problems[1].reason
    assert "bad.jsonl:12" in raised.value.problems[1].reason
    assert harness.emulator.ledger().calls == {}
    assert harness.runner.all_workloads() == []
    assert [path for path in harness.runner.spool.root.rglob("*") if path.is_file()] == []


def test_only_the_first_twenty_problems_are_listed_and_all_are_counted(open_harness, tmp_path):
    """A file with many errors reports twenty of them and their total number."""
    harness = open_harness()
    source = write_lines(tmp_path / "bad.jsonl", [b"nonsense"] * 1_000)

    with pytest.raises(InputInvalid) as raised:
        harness.split(source)

    assert raised.value.count == 1_000
    assert [problem.line for problem in raised.value.problems] == list(range(1, 21))


def test_repeated_ids_late_in_the_file_are_listed_by_their_place(open_harness, tmp_path):
    """Repeated ids are found however far apart they are, and are listed with the other problems in line order."""
    harness = open_harness()
    rows: list[Any] = [chat_line(f"row-{number}") for number in range(3_000)]
    rows[2_999]["custom_id"] = "row-0"
    rows.append(b"[]")
    source = write_lines(tmp_path / "bad.jsonl", rows)

    with pytest.raises(InputInvalid) as raised:
        harness.split(source)

    assert [problem.line for problem in raised.value.problems] == [3_000, 3_001]


def test_an_empty_input_is_refused(open_harness, tmp_path):
    """An empty file has no requests, and the error says so."""
    with pytest.raises(InputInvalid, match="1 problem"):
        open_harness().split(write_lines(tmp_path / "empty.jsonl", []))


#: The text between the requests of a file that people or other programs have written.
BLANKS = [b"", b"   ", b"\t", b"\r"]


@pytest.mark.parametrize("is_plain", [True, False], ids=["plain", "mixed"])
def test_blank_lines_are_skipped_everywhere(open_harness, tmp_path, is_plain):
    """They are first, last, between requests, whole blocks, and with carriage returns: the requests are as without them."""
    requests = [chat_line(f"row-{number}") if is_plain else mixed_line(number) for number in range(6)]
    lines = [jsonl.dumps(request) for request in requests]
    source = tmp_path / "gaps.jsonl"
    content = [*BLANKS, lines[0], b"", *lines[1:3], *BLANKS * 80_000, *lines[3:], *BLANKS]
    source.write_bytes(b"\r\n".join(content) + b"\n ")
    harness = open_harness()
    said: list[int] = []

    plan = harness.runner.plan([source], SplitOptions(), advance=lambda _lines: None)
    workload = harness.runner.split([source], name="gaps", options=SplitOptions(shard_lines=6), blanks=said.append)

    blank = len(content) - len(lines) + 1
    assert (plan.requests, plan.blank_lines) == (6, blank)
    assert (workload.request_count, said) == (6, [blank])
    with harness.runner.store.read() as connection:
        shards = shard_rows.in_states(connection, workload.id, tuple(ShardState))
    sent = [harness.runner.spool.path(shard.path).read_bytes().splitlines() for shard in shards]
    assert sorted(line for shard in sent for line in shard) == sorted(lines)
    assert harness.runner.split([source], name="gaps", options=SplitOptions(), blanks=said.append).id == workload.id
    assert len(said) == 1


def test_problems_have_the_line_numbers_of_the_file_despite_blank_lines(open_harness, tmp_path):
    """The problems are broken lines, also far behind in a file, and a repeated id whose second occurrence is in another file."""
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write_lines(first, [b"", chat_line("a"), b"  ", b"nonsense"])
    write_lines(second, [b"\t", b"", chat_line("b"), chat_line("a"), b""])
    third = tmp_path / "c.jsonl"
    write_lines(third, [b" " * 700_000, b" " * 700_000, b"nonsense"])
    paths = [first, second, third]
    harness = open_harness()
    for refuse in (
        lambda: harness.runner.split(paths, name="x", options=SplitOptions()),
        lambda: harness.runner.plan(paths, SplitOptions(), advance=lambda _lines: None),
    ):
        with pytest.raises(InputInvalid) as raised:
            refuse()
        places = [(problem.source, problem.line) for problem in raised.value.problems]
        assert places == [(str(first), 4), (str(second), 4), (str(third), 3)]
        assert f"{first}:2" in raised.value.problems[1].reason


def test_a_request_far_behind_in_its_line_is_not_taken_for_a_blank_line(open_harness, tmp_path):
    """Of a line that is too long, only the beginning is read."""
    source = write_lines(tmp_path / "far.jsonl", [chat_line("a"), b" " * 5_000 + jsonl.dumps(chat_line("b"))])
    harness = open_harness()
    options = SplitOptions(shard_bytes=4_000)
    for refuse in (
        lambda: harness.runner.split([source], name="x", options=options),
        lambda: harness.runner.plan([source], options, advance=lambda _lines: None),
    ):
        with pytest.raises(InputInvalid, match="1 problem") as raised:
            refuse()
        assert "longer than a shard file may be" in raised.value.problems[0].reason


def test_an_input_of_blank_lines_is_refused(open_harness, tmp_path):
    """It has no request, and the error says so."""
    with pytest.raises(InputInvalid, match="1 problem") as raised:
        open_harness().split(write_lines(tmp_path / "blank.jsonl", [b"", b" "]))
    assert "only blank lines" in raised.value.problems[0].reason


def test_a_shard_holds_one_endpoint_in_input_order_byte_for_byte(open_harness, tmp_path):
    """Shard files are the exact bytes of the input, cut by endpoint, within the line limit."""
    harness = open_harness()
    source = write_mixed(tmp_path / "input.jsonl", 100)

    workload = harness.split(source, shard_lines=30)

    with harness.runner.store.read() as connection:
        planned = shard_rows.in_states(connection, workload.id, tuple(ShardState))
    files = [harness.runner.spool.path(shard.path).read_bytes() for shard in planned]
    assert workload.request_count == 100
    assert sorted(line for data in files for line in data.splitlines()) == sorted(source.read_bytes().splitlines())
    assert max(shard.line_count for shard in planned) == 30
    assert {shard.endpoint for shard in planned} == {"/v1/chat/completions", "/v1/audio/transcriptions"}
    for shard, data in zip(planned, files, strict=True):
        assert data.count(b'"/v1/audio/') in {0, shard.line_count}
        assert len(data) == shard.byte_count


def test_a_shard_never_passes_its_byte_limit(open_harness, tmp_path):
    """Shards are cut by the byte limit as well as by the line limit."""
    harness = open_harness()
    source = write_lines(tmp_path / "input.jsonl", [chat_line(f"row-{number}", "x" * 500) for number in range(50)])

    workload = harness.split(source, shard_bytes=5_000)

    with harness.runner.store.read() as connection:
        sizes = connection.execute(
            select(tables.shards.c.byte_count).where(tables.shards.c.workload_id == workload.id)
        ).scalars()
        assert max(sizes) <= 5_000


def test_the_same_input_again_is_the_same_workload(open_harness, tmp_path):
    """Splitting again changes nothing, even when the same lines come compressed."""
    harness = open_harness()
    source = write_mixed(tmp_path / "input.jsonl", 50)
    compressed = tmp_path / "input.jsonl.gz"
    compressed.write_bytes(gzip.compress(source.read_bytes()))

    first = harness.split(source)
    again = harness.split(compressed)

    assert first == again
    with harness.runner.store.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.requests)).scalar_one() == 50


def test_another_input_under_a_used_name_is_refused(open_harness, tmp_path):
    """A changed input would put other answers under the name, so it is refused and nothing changes."""
    harness = open_harness()
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 50))

    with pytest.raises(WorkloadConflict, match="different input"):
        harness.split(write_mixed(tmp_path / "input.jsonl", 51))

    assert harness.runner.progress(workload.id).counts.total == 50


def test_an_interrupted_split_is_repeated(open_harness, tmp_path, monkeypatch):
    """The remains of a split that died half-way are replaced, with the options of the new call."""
    harness = open_harness()
    source = write_mixed(tmp_path / "input.jsonl", 50)
    monkeypatch.setattr("batchkit.steps.unfinished.abandon", lambda *_: None)
    monkeypatch.setattr("batchkit.store.workloads.finish_split", _power_cut)
    with pytest.raises(_PowerCutError):
        harness.split(source, shard_lines=10)
    monkeypatch.undo()

    workload = harness.split(source, shard_lines=25)

    assert workload.request_count == 50
    assert workload.shard_lines == 25
    with harness.runner.store.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.requests)).scalar_one() == 50
    assert len(list(harness.runner.spool.root.glob("*"))) == 1


class _PowerCutError(BaseException):
    pass


def _power_cut(*_args, **_kwargs):
    raise _PowerCutError


def test_a_plan_says_what_a_split_would_do_and_keeps_nothing(open_harness, tmp_path):
    """A dry run counts shards, endpoints, models and tokens, and neither stores nor sends."""
    harness = open_harness()
    source = write_mixed(tmp_path / "input.jsonl", 100)

    plan = harness.runner.plan([source], SplitOptions(shard_lines=30), advance=lambda _lines: None)

    assert plan.requests == 100
    assert plan.endpoints == {"/v1/chat/completions": 90, "/v1/audio/transcriptions": 10}
    assert sum(lines for _, lines, _ in plan.shards) == 100
    assert sum(size for _, _, size in plan.shards) == plan.bytes == source.stat().st_size
    assert plan.models["whisper-large-v3"] == 10
    assert plan.prompt_tokens > 0
    assert harness.runner.all_workloads() == []


def test_several_files_are_one_input(open_harness, tmp_path):
    """Several files are read one after another as one workload."""
    harness = open_harness()
    parts = [
        write_lines(
            tmp_path / f"part-{part}.jsonl", [mixed_line(number) for number in range(part * 30, part * 30 + 30)]
        )
        for part in range(2)
    ]

    workload = harness.runner.split(parts, name="work", options=SplitOptions())

    assert workload.request_count == 60


def test_a_split_that_is_finished_while_another_runner_waits_to_take_it_over_is_kept(open_harness, tmp_path):
    """A runner that waited for the row of an unfinished split reads it again: a split that is complete by then is not repeated."""
    harness = open_harness()
    source = write_mixed(tmp_path / "input.jsonl", 20)
    workload = harness.split(source)
    with harness.runner.store.write() as connection:
        workload_rows.set_values(
            connection, workload.id, input_sha256=None, request_count=None, lease_owner="slow", lease_until=1.0
        )
    other = harness.open_runner()

    with ThreadPoolExecutor(1) as pool, harness.runner.store.write() as connection:
        digest = str(workload.input_sha256)
        workload_rows.finish_split(connection, workload.id, sha256=digest, request_count=20, at=0.0)
        workload_rows.release_lease(connection, "slow")
        second = pool.submit(other.split, [source], name="work", options=SplitOptions())
        _wait_for_a_lock(harness.runner.store)
    found = second.result()

    assert found == workload


def _wait_for_a_lock(store):
    """Wait until another connection waits for a row; SQLite's writers wait in their own process, which cannot be observed."""
    if store.is_sqlite:
        return
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    for _ in range(1_000):
        with store.read() as connection:
            if connection.execute(query).scalar_one():
                return
        threading.Event().wait(0.01)
    raise AssertionError("nobody waits for the row")
