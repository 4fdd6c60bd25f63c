"""The content of exports for every kind of result, and that an export is written whole or not at all."""

from __future__ import annotations

import csv
import errno
import io
import os
import resource
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet as pq
from sqlalchemy import update

from batchkit.errors import SpoolError, UsageError
from batchkit.files import jsonl
from batchkit.models import ShardState
from batchkit.steps import export as export_step
from batchkit.steps import parquet_rows
from batchkit.steps.export import check_target, export
from batchkit.steps.replaced import ReplacedHalves
from batchkit.store import results, shards
from batchkit.store.bulk import bulk_for
from batchkit.store.results import TABLE_COLUMNS
from batchkit.store.rows import AnswerFacts, ResultRow
from batchkit.store.tables import requests as request_rows
from tests.factories import add_shard, add_workload
from tests.workloads import read_lines

FORMATS = (".jsonl", ".csv", ".parquet")
TYPES = {
    "custom_id": pa.string(),
    "status": pa.string(),
    "status_code": pa.int16(),
    "request_id": pa.string(),
    "finish_reason": pa.string(),
    "text": pa.string(),
    "response": pa.string(),
    "error_code": pa.string(),
    "error_message": pa.string(),
    "attempts": pa.int32(),
    "prompt_tokens": pa.int32(),
    "completion_tokens": pa.int32(),
    "total_tokens": pa.int32(),
    "batch_id": pa.string(),
    "model": pa.string(),
    "service_tier": pa.string(),
    "reused_from": pa.string(),
}


@dataclass(frozen=True)
class Case:
    """One stored request; ``text`` is the text of its answer."""

    custom_id: str
    state: str = "succeeded"
    attempts: int = 1
    status_code: int | None = 200
    request_id: str | None = "req_1"
    code: str | None = None
    message: str | None = None
    reason: str | None = "stop"
    tokens: tuple[int | None, int | None, int | None] = (10, 5, 15)
    body: Any = None
    text: str | None = None
    model: str | None = "openai/gpt-oss-20b"
    tier: str | None = "batch"

    @property
    def has_result(self) -> bool:
        """Return whether the request is final and therefore has a result."""
        return self.state in {"succeeded", "failed"}


def chat(content: Any) -> dict[str, Any]:
    """Return a chat completion with this content."""
    return {"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": content}}], "usage": {}}


#: Answers of a provider and what the database keeps of them: NUL in a message is stored as U+FFFD, as are lone surrogates.
CASES = (
    Case("plain", body=chat("An answer"), text="An answer"),
    Case(
        "größe — 漢字 🎈",
        body=chat("très 電池 \u2028\u2029\u0085\ufeff 🎈"),
        text="très 電池 \u2028\u2029\u0085\ufeff 🎈",
    ),
    Case(
        'it\'s "quoted" \\ \t \x01\x1f\x7f',
        body=chat('line\nbreak "quoted" \\ \x01'),
        text='line\nbreak "quoted" \\ \x01',
    ),
    Case("NUL in an answer", body=chat("a\x00b"), text="a\x00b"),
    Case("empty", request_id=None, body=chat(""), text=""),
    Case("no content", body=chat(None), reason="tool_calls", tokens=(7, None, None)),
    Case("content in parts", body=chat([{"type": "thinking", "thinking": "b"}, {"type": "text", "text": "a"}]), text="a"),
    Case("no choices", body={"choices": []}, reason=None),
    Case("odd choices", body={"choices": ["a", 1], "text": "beside"}, text="beside"),
    Case("transcript", body={"text": "  spoken words", "x_groq": {"id": "req"}}, reason=None, text="  spoken words"),
    Case("text as body", body="only text", text="only text", reason=None),
    Case("number as body", body=2**63, reason=None),
    Case("another code", status_code=201, attempts=3, body=chat("created"), text="created"),
    Case("another model", model="größe", tier=None, body=chat("x"), text="x"),
    Case("no code", model=None, status_code=None, request_id=None, body=chat("no code"), text="no code"),
    Case("large", body=chat("größe " * 20_000), text="größe " * 20_000),
    Case(
        "refused",
        "failed",
        status_code=400,
        code="bad \ufffd",
        message="no\ufffd \n",
        body={"error": {"message": "no"}},
        reason=None,
    ),
    Case("refused with an answer", "failed", status_code=422, code="http_422", body=chat("not an answer")),
    Case("refused without a body", "failed", status_code=500, request_id=None, code=None, message="größe", reason=None),
    Case("never ran", "failed", attempts=5, status_code=None, request_id=None, code="missing", message="no line"),
    Case("called off", "cancelled", attempts=1),
    Case("waiting", "pending", attempts=2),
    Case("on its way", "in_flight", attempts=0),
    *(Case(f"row-{number}", attempts=number % 3 + 1, body=chat(f"{number}"), text=f"{number}") for number in range(300)),
)  # fmt: skip
#: The shard, of three, that each case is in; the last shard never became a batch.
OWNERS = [0 if number % 2 else 1 for number in range(len(CASES))]
OWNERS[22] = 2


@pytest.fixture
def workload(store):
    """Return a workload of all cases: two shards with batches, whose requests alternate in the input, and one without a batch."""
    with store.write() as connection:
        made = add_workload(connection)
        for owner, state in enumerate((ShardState.SUBMITTED, ShardState.SUBMITTED, ShardState.PLANNED)):
            seqs = [seq for seq in range(len(CASES)) if OWNERS[seq] == owner]
            shard = add_shard(connection, made, seqs=seqs, state=state)
            _settle(connection, shard, seqs)
    return made


def _settle(connection, shard, seqs):
    for seq in seqs:
        case = CASES[seq]
        values = {"custom_id": case.custom_id, "state": case.state, "attempts": case.attempts}
        place = (request_rows.c.workload_id == shard.workload_id, request_rows.c.seq == seq)
        connection.execute(update(request_rows).where(*place).values(values))
    ended = [(seq, CASES[seq]) for seq in seqs if CASES[seq].has_result]
    bulk = bulk_for(connection)
    bulk.add_results(
        [
            ResultRow(
                shard.workload_id,
                seq,
                case.state,
                shard.id,
                case.attempts - 1,
                case.status_code,
                case.request_id,
                case.code,
                case.message,
                AnswerFacts._make((case.reason, *case.tokens, case.model, case.tier)),
            )
            for seq, case in ended
        ]
    )
    bodies = [(seq, jsonl.dumps(case.body).decode()) for seq, case in ended if case.body is not None]
    bulk.add_bodies(shard.id, bodies)


@pytest.fixture
def exported(store, workload, tmp_path):
    """Return a function that exports the cases to a file of the given type."""

    def run(suffix: str) -> Path:
        target: Path = tmp_path / f"out{suffix}"
        assert export(store, workload, target, advance=lambda _rows: None) == len(CASES)
        return target

    return run


def batch_of(store, workload, seq):
    """Return the id of the batch of a case."""
    with store.read() as connection:
        numbered = {shard.number: shard for shard in shards.in_states(connection, workload.id, tuple(ShardState))}
    return numbered[OWNERS[seq] + 1].batch_id


def expected_line(case, batch_id):
    """Return the line for a case as the README describes it."""
    response = None
    if case.has_result and not (case.status_code is None and case.body is None):
        response = {"status_code": case.status_code, "request_id": case.request_id, "body": case.body}
    return {
        "custom_id": case.custom_id,
        "status": case.state,
        "response": response,
        "error": {"code": case.code, "message": case.message} if case.state == "failed" else None,
        "attempts": case.attempts,
        "batch_id": batch_id,
    }


def test_lines_are_in_the_providers_shape_and_input_order(store, workload, exported):
    """Each request has one line, byte for byte as a JSON writer would write it, with the body as it was answered."""
    lines = exported(".jsonl").read_bytes().split(b"\n")

    assert lines.pop() == b""
    for seq, (case, line) in enumerate(zip(CASES, lines, strict=True)):
        assert line == jsonl.dumps(expected_line(case, batch_of(store, workload, seq))), case.custom_id


def test_a_table_holds_what_the_lines_hold(exported):
    """The Parquet file holds the same data as the JSONL file, row by row, in typed columns."""
    lines = read_lines(exported(".jsonl"))
    table = pq.read_table(exported(".parquet"))

    assert dict(zip(table.column_names, table.schema.types, strict=True)) == TYPES
    assert list(TYPES) == table.column_names
    for case, line, row in zip(CASES, lines, table.to_pylist(), strict=True):
        response, error = line["response"] or {}, line["error"] or {}
        prompt, completion, total = case.tokens if case.has_result else (None, None, None)
        body = response.get("body")
        assert row == {
            "custom_id": line["custom_id"],
            "status": line["status"],
            "status_code": response.get("status_code"),
            "request_id": response.get("request_id"),
            "finish_reason": case.reason if case.has_result else None,
            "text": case.text,
            "response": None if body is None else jsonl.dumps(body).decode(),
            "error_code": error.get("code"),
            "error_message": error.get("message"),
            "attempts": line["attempts"],
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": total,
            "batch_id": line["batch_id"],
            "model": case.model if case.has_result else None,
            "service_tier": case.tier if case.has_result else None,
            "reused_from": None,
        }


def test_csv_cells_are_the_texts(exported):
    """Only a success has a text cell, with any text it holds; model, tier and finish reason have separate cells."""
    with exported(".csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["custom_id"], row["status"], row["answer"]) for row in rows] == [
        (case.custom_id, case.state, case.text or "") for case in CASES
    ]
    told = [(case.reason, *case.tokens, case.model, case.tier) if case.has_result else () for case in CASES]
    assert [[row[name] for name in AnswerFacts._fields] for row in rows] == [
        ["" if fact is None else str(fact) for fact in facts or [None] * len(AnswerFacts._fields)] for facts in told
    ]


def test_an_empty_table_is_a_table(store, tmp_path):
    """A workload without requests gives a file with columns and no rows."""
    with store.write() as connection:
        made = add_workload(connection)
    assert export(store, made, tmp_path / "out.parquet", advance=lambda _rows: None) == 0
    assert pq.read_table(tmp_path / "out.parquet").schema.names == list(TYPES)


def test_a_table_is_written_in_groups(exported, monkeypatch):
    """Rows are written in compressed groups, limited by number or by bytes; every row is written once."""
    monkeypatch.setattr(results, "_BLOCKS_PER_TABLE_PART", 1)
    monkeypatch.setattr(parquet_rows, "_GROUP_ROWS", 100)
    by_rows = pq.ParquetFile(exported(".parquet"))
    monkeypatch.setattr(parquet_rows, "_GROUP_BYTES", 100_000)
    by_bytes = pq.ParquetFile(exported(".parquet"))

    def sizes(file):
        return [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]

    assert sizes(by_rows) == [112, 112, 99]
    assert sizes(by_bytes)[0] < 100
    assert by_rows.read().column("custom_id").to_pylist() == [case.custom_id for case in CASES]
    assert by_bytes.read().equals(by_rows.read())
    assert by_rows.metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize("suffix", FORMATS)
def test_progress_adds_up(store, workload, tmp_path, suffix, monkeypatch):
    """Progress reports count every row once, in steps."""
    monkeypatch.setattr(export_step, "_ROWS_PER_ADVANCE", 50)
    told: list[int] = []
    export(store, workload, tmp_path / f"out{suffix}", advance=told.append)
    assert sum(told) == len(CASES)
    assert suffix == ".parquet" or len(told) > 5


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_new_file_has_the_usual_rights_and_a_replaced_one_keeps_its_own(exported, suffix):
    """A new file gets the umask's permissions, and a replaced file keeps its own."""
    before = os.umask(0o027)
    try:
        target = exported(suffix)
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
        target.chmod(0o604)
        assert stat.S_IMODE(exported(suffix).stat().st_mode) == 0o604
    finally:
        os.umask(before)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_death_before_the_rename_leaves_the_old_file(exported, suffix, monkeypatch):
    """The old file stays whole until the new one is complete, and no partial file is left."""
    target = exported(suffix)
    target.write_bytes(b"as it was")

    def die(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        exported(suffix)
    assert target.read_bytes() == b"as it was"
    assert not list(target.parent.glob("*.part"))
    assert not list(target.parent.glob(".*.part"))


@pytest.mark.parametrize("name", ["posix_fadvise", "POSIX_FADV_DONTNEED"])
def test_a_system_that_takes_no_advice_gets_the_same_file(exported, monkeypatch, name):
    """Where early writeback cannot be requested, as on macOS, the final sync writes everything."""
    monkeypatch.setattr(export_step, "_ROWS_PER_ADVANCE", 1)
    monkeypatch.setattr(export_step, "_WRITE_BACK_BYTES", 1)
    expected = exported(".csv").read_bytes()
    monkeypatch.delattr(os, name, raising=False)
    assert exported(".csv").read_bytes() == expected


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_full_disk_is_reported_and_leaves_the_old_file(exported, suffix):
    """Wherever the disk fills up, the error says what to do, and the old file stays."""
    target = exported(suffix)
    whole = target.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in (1, len(whole) // 2, len(whole) - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            with pytest.raises(SpoolError, match="File too large") as caught:
                exported(suffix)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "make room" in str(caught.value.hint)
        assert target.read_bytes() == whole


def test_a_group_that_was_refused_is_reported_although_later_ones_fit(monkeypatch):
    """When space returns while a table is written, the table is still incomplete: the first error is raised."""
    monkeypatch.setattr(parquet_rows, "_GROUP_ROWS", 10)

    class FullOnce(io.BytesIO):
        refusals = 0

        def write(self, data):
            if self.tell() > 2_000 and not self.refusals:
                self.refusals += 1
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    rows = [(f"row-{seq}", None, 0, *[None] * (len(TABLE_COLUMNS) - 3)) for seq in range(300)]
    parts = [list(zip(*rows[start : start + 10], strict=True)) for start in range(0, 300, 10)]
    with pytest.raises(OSError, match="No space left"):
        list(parquet_rows.write(parts, {}, FullOnce(), replaced=ReplacedHalves()))


def test_without_the_extra_a_table_is_refused_before_anything_is_sent(tmp_path, monkeypatch):
    """Without pyarrow, the error names the command that installs it; other file types need nothing."""
    monkeypatch.setattr(export_step, "find_spec", lambda name: None if name == "pyarrow" else object())
    with pytest.raises(UsageError, match="pyarrow, which writes Parquet, is not installed") as caught:
        check_target(tmp_path / "out.parquet")
    assert caught.value.hint == "pip install 'groq-batchkit[parquet]'"
    check_target(tmp_path / "out.jsonl")


@pytest.mark.parametrize("name", ["out", "out.xlsx", "out.parquet.gz"])
def test_another_type_is_refused_with_those_there_are(name):
    """The hint names every file type that can be written."""
    with pytest.raises(UsageError, match=r"no format ends in|the name has no ending") as caught:
        check_target(Path(name))
    assert caught.value.hint == "name a file that ends in .jsonl, .csv or .parquet"


def test_pyarrow_is_loaded_only_to_write_parquet():
    """Importing pyarrow costs half a second and memory, so only a Parquet export does it."""
    script = (
        "import sys, batchkit.cli.app, batchkit.engine.runtime, batchkit.steps.export as e; from pathlib import Path;"
        "e.check_target(Path('a.jsonl')); e.check_target(Path('a.parquet')); print('pyarrow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"
