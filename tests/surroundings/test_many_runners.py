"""Many commands on one workload at once share the work, and each of them ends as if it had been alone."""

from __future__ import annotations

import pytest

from batchkit.emulator.faults import lines
from tests.surroundings.proofs import assert_bought_once, assert_complete
from tests.workloads import read_lines, write_mixed

REQUESTS = 600


@pytest.mark.slow
@pytest.mark.parametrize("commands", [4, 8])
def test_many_commands_share_a_workload(start_command, commands):
    """All end with exit code 0 and the same results, each request is executed once, and no shard becomes two batches."""
    command = start_command([lines.ExpireLines(fraction=0.3, attempts=1)])
    write_mixed(command.folder / "input.jsonl", REQUESTS)
    words = ("run", "input.jsonl", "--no-prefect", "--shard-lines", "20", "--output")

    processes = [command.start(*words, f"out-{number}.jsonl") for number in range(commands)]
    ends = [process.communicate(timeout=100) for process in processes]

    for process, (_, err) in zip(processes, ends, strict=True):
        assert process.returncode == 0, err
    assert_bought_once(command.emulator, REQUESTS)
    for number in range(commands):
        assert_complete(read_lines(command.folder / f"out-{number}.jsonl"), REQUESTS)
