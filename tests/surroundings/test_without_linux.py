"""On a system without features that only Linux has, such as macOS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batchkit.emulator.faults import calls
from tests.workloads import mixed_line, read_lines, write_mixed

ROOT = Path(__file__).parents[2]
REQUESTS = 300
RUN = ("run", "input.jsonl", "--no-prefect", "--shard-lines", "50", "--output", "out.jsonl")
#: Much longer than the command may take.
LEASE_SECONDS = 600
LEASED = "SELECT count(*) FROM shards WHERE lease_owner IS NOT NULL"


@pytest.fixture
def macos(start_command, tmp_path):
    """Return the command on such a system, with leases longer than any test waits."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        f"from pathlib import Path\nfrom tests.surroundings.without_linux import play\nplay(Path({str(site)!r}))\n"
    )
    # The first upload is never answered: its shard is leased when the command is killed.
    command = start_command([calls.LoseReply(on=("files.create",), how="hang", times=1, hang_seconds=10)])
    command.environment |= {
        "PYTHONPATH": os.pathsep.join((str(site), str(ROOT))),
        "BATCHKIT_LEASE_SECONDS": str(LEASE_SECONDS),
    }
    return command


def test_a_command_that_was_killed_is_resumed_at_once(macos):
    """The owner of the leases is known to be dead on macOS too; each request has one result, and none is bought twice."""
    write_mixed(macos.folder / "input.jsonl", REQUESTS)
    macos.kill_when(lambda: macos.emulator.ledger().calls.get("files.create", 0) > 0, *RUN)
    assert macos.count(LEASED) > 0

    done = macos.run(*RUN)

    assert done.returncode == 0, done.stderr
    assert "sitecustomize" not in done.stderr
    exported = read_lines(macos.folder / "out.jsonl")
    assert [line["custom_id"] for line in exported] == [mixed_line(n)["custom_id"] for n in range(REQUESTS)]
    assert macos.emulator.ledger().totals.bought_twice == 0
