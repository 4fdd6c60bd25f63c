"""``kill -9`` while a table becomes a workload, and the same command again."""

from __future__ import annotations

import pytest
from pyarrow import parquet as pq

ROWS = 30_000


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["rendering", "splitting", "submitted"])
def test_the_same_command_resumes_wherever_it_was_killed(start_command, moment):
    """Every row is there once with its own answer, and the scratch folder is empty again."""
    command = start_command()
    lines = (f"k{number},text {number}" for number in range(ROWS))
    (command.folder / "big.csv").write_text("\n".join(["id,text", *lines, ""]))
    scratch = command.folder / ".batchkit" / "scratch"
    words = (
        *("annotate", "big.csv", "--prompt", "Say {{ text }}", "--key", "id", "--no-prefect"),
        *("--model", "openai/gpt-oss-20b", "--output", "out.parquet"),
    )

    def is_there():
        match moment:
            case "rendering":
                return any(path.stat().st_size for path in scratch.rglob("requests.jsonl"))
            case "splitting":
                return command.count("SELECT count(*) FROM workloads") > 0
            case _:
                return command.count("SELECT count(*) FROM shards WHERE state = 'submitted'") > 0

    command.kill_when(is_there, *words)
    ended = command.run(*words)
    assert ended.returncode == 0, ended.stderr
    table = pq.read_table(command.folder / "out.parquet")
    assert table.column("id").to_pylist() == [f"k{number}" for number in range(ROWS)]
    assert table.column("answer").to_pylist() == [f"Echo: Say text {number}" for number in range(ROWS)]
    assert command.emulator.ledger().totals.bought_twice == 0
    assert command.emulator.ledger().totals.custom_ids == ROWS
    assert list(scratch.iterdir()) == []
