"""Memory does not grow with a table, in whatever format it comes and goes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from batchkit.datasets import TableWriter

ROOT = Path(__file__).parents[2]
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string()), ("stars", pa.float64())])
FEW, MANY = 200_000, 2_000_000
#: A growth by this is noise: what allocators keep, and the metadata of a Parquet file's groups.
NOISE_MB = 40

COPY = """
import sys
from pathlib import Path
from batchkit.datasets import TableWriter, open_table
from tests.processes import peak_bytes

table = open_table([sys.argv[1]])
count = 0
with TableWriter(Path(sys.argv[2]), table.schema) as writer:
    for batch in table.batches():
        writer.write(batch)
        count += len(batch)
print(count, peak_bytes() >> 20)
"""


def write_rows(path, count):
    """Write a table of small rows."""
    with TableWriter(path, SCHEMA) as writer:
        for start in range(0, count, 20_000):
            ids = range(start, start + 20_000)
            columns = [list(ids), [f"review {n}: the thing arrived late" for n in ids], [n % 5 + 0.5 for n in ids]]
            writer.write(pa.RecordBatch.from_arrays(list(map(pa.array, columns)), schema=SCHEMA))


def peak_mb(source, target, count):
    """Copy a table in a process of its own; gives the most memory that it had."""
    done = subprocess.run(
        [sys.executable, "-c", COPY, source, target], capture_output=True, text=True, check=True, cwd=ROOT
    )
    copied, peak = map(int, done.stdout.split())
    assert copied == count
    return peak


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("source", "target"),
    [("a.parquet", "b.jsonl"), ("a.feather", "b.csv"), ("a.csv", "b.parquet"), ("a.jsonl", "b.arrow")],
)
def test_ten_times_the_rows_take_no_more_memory(tmp_path, source, target):
    """Two million rows are read and written in what two hundred thousand take."""
    peaks = []
    for count in (FEW, MANY):
        write_rows(tmp_path / source, count)
        peaks.append(peak_mb(tmp_path / source, tmp_path / target, count))
    assert peaks[1] < peaks[0] + NOISE_MB, peaks
