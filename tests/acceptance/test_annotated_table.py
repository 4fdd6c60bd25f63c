"""A table of a million rows, annotated: Parquet in, Parquet out, with memory that does not grow with the table.

It takes minutes: ``pytest -m slow tests/acceptance``.
"""

from __future__ import annotations

import time

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from batchkit.emulator.faults import answers, batches
from batchkit.files import jsonl
from tests.acceptance.memory import peak_megabytes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

ROWS = 1_000_000
SMALL = 100_000
FAULTS = [answers.GarbleAnswers(fraction=0.01, attempts=1), batches.ShuffleOutput()]
SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["kind", "unkind"]}, "score": {"type": "integer"}},
    "required": ["label", "score"],
    "additionalProperties": False,
}


def _write_table(path, rows):
    """Write rows with texts that no other table has, so that each of them is sent."""
    with pq.ParquetWriter(path, pa.schema([("id", pa.int64()), ("text", pa.string())])) as writer:
        for start in range(0, rows, 50_000):
            numbers = range(start, min(start + 50_000, rows))
            texts = [
                f"Review {number} of the {path.stem} ones: the kettle is fine, the handle \u2014 h\u00e9las \u2014 is not."
                for number in numbers
            ]
            writer.write_table(pa.table({"id": list(numbers), "text": texts}))


def _annotate(command, name, rows):
    """Annotate a table of ``rows`` rows; return the peak in MB."""
    _write_table(command.folder / f"{name}.parquet", rows)
    (command.folder / "label.json").write_bytes(jsonl.dumps(SCHEMA))
    began = time.monotonic()
    peak, exit_code, said = peak_megabytes(
        command,
        *("annotate", f"{name}.parquet", "--prompt", "Is this review kind? {{ text }}", "--schema", "label.json"),
        *("--model", "openai/gpt-oss-20b", "--output", f"{name}.labelled.parquet"),
    )
    print(f"\n{rows:,} rows: {time.monotonic() - began:.0f} s, peak {peak:.0f} MB\n{said}")  # noqa: T201 - the figures are what this proof is for
    assert exit_code == 0, said
    return peak


def _check(command, name, rows):
    """Check that every row has its own valid answer, in order, and about one in 100 at the second attempt; return all attempts."""
    place = attempts = 0
    with pq.ParquetFile(command.folder / f"{name}.labelled.parquet") as file:
        for batch in file.iter_batches(50_000):
            columns = batch.to_pydict()
            assert columns["id"] == list(range(place, place + len(batch)))
            assert set(columns["status"]) == {"succeeded"}
            assert set(columns["label"]) == {"kind", "unkind"}
            assert None not in columns["score"]
            attempts += sum(columns["attempts"])
            place += len(batch)
    assert place == rows
    assert 1.007 * rows < attempts < 1.013 * rows
    return attempts


def test_a_million_rows_in_and_out(start_command):
    """Each row has its own valid answer, one answer in a hundred was repaired, and ten times the rows take little more memory."""
    command = start_command(FAULTS, speed=20_000)

    small = _annotate(command, "small", SMALL)
    large = _annotate(command, "large", ROWS)

    attempts = _check(command, "small", SMALL) + _check(command, "large", ROWS)
    assert command.emulator.ledger().totals.requests_executed == attempts
    assert large < 1.3 * small
