"""The main use at full size: 100,000 requests, many of which expire, with and without kills.

It takes minutes: ``pytest -m slow tests/acceptance``.
"""

from __future__ import annotations

import pytest

from batchkit.emulator.faults import batches, lines
from batchkit.files import jsonl
from tests.acceptance.memory import peak_megabytes
from tests.acceptance.test_killed import MOMENTS
from tests.workloads import mixed_line, write_mixed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

REQUESTS = 100_000
FAULTS = [
    lines.FailLines(fraction=0.01, code="bad_thing"),
    lines.ExpireLines(fraction=0.3, attempts=1),
    batches.ShuffleOutput(),
]
#: The result of one run, for comparison with the others: both databases must export the same.
SEEN: dict[str, list[tuple[object, ...]]] = {}


def _exported(command):
    """Return the export without the fields that a provider generates again each time (ids, times)."""
    rows: list[tuple[object, ...]] = []
    with (command.folder / "out.jsonl").open("rb") as handle:
        for data in handle:
            line = jsonl.loads(data)
            body = line["response"]["body"]
            answer = body["choices"][0]["message"]["content"] if "choices" in body else body.get("text")
            rows.append((line["custom_id"], line["status"], str(line["error"]), line["attempts"], answer))
    return rows


def _check(command, done):
    assert done.returncode == 3, done.stderr
    rows = _exported(command)
    assert [row[0] for row in rows] == [mixed_line(number)["custom_id"] for number in range(REQUESTS)]
    assert {row[1] for row in rows} == {"succeeded", "failed"}
    assert rows == SEEN.setdefault("rows", rows)
    ledger = command.emulator.ledger()
    keys = [batch.metadata["batchkit_key"] for batch in ledger.batches]
    assert len(set(keys)) == len(keys)
    assert ledger.totals.requests_executed == REQUESTS
    assert ledger.totals.bought_twice == 0
    # Only expired requests had a second attempt; no request had a third.
    assert ledger.totals.requests_carried - REQUESTS == sum(row[3] - 1 for row in rows)


def test_a_hundred_thousand_requests(start_command):
    """Through Prefect, every request has one result in its place, and only expired ones are sent again."""
    command = start_command(FAULTS, speed=20_000)
    write_mixed(command.folder / "input.jsonl", REQUESTS)

    done = command.run("run", "input.jsonl", "--output", "out.jsonl", timeout_seconds=600)

    _check(command, done)


def test_a_hundred_thousand_requests_killed_five_times(start_command):
    """After kills while splitting, uploading, creating, waiting and merging, the export is the same; nothing is bought twice."""
    command = start_command(FAULTS, speed=20_000)
    write_mixed(command.folder / "input.jsonl", REQUESTS)
    run = ("run", "input.jsonl", "--output", "out.jsonl", "--no-prefect")

    for moment in MOMENTS.values():
        command.kill_when(lambda moment=moment: moment(command), *run, timeout_seconds=300)

    _check(command, command.run(*run, timeout_seconds=600))


def _peak_megabytes(command, name, requests):
    """Run a workload under its own name and return the peak memory of the command's own process."""
    write_mixed(command.folder / f"{name}.jsonl", requests)
    peak, exit_code, said = peak_megabytes(command, "run", f"{name}.jsonl", "--output", f"{name}.out.jsonl")
    assert exit_code == 3, said
    return peak


def test_memory_does_not_grow_with_the_workload(start_command):
    """The peak of a run of a million requests is at most 20 % above that of a hundred thousand."""
    command = start_command(FAULTS, speed=20_000)

    small = _peak_megabytes(command, "small", 100_000)
    large = _peak_megabytes(command, "large", 1_000_000)

    print(f"\npeak memory: {small:.0f} MB at 100,000 requests, {large:.0f} MB at 1,000,000")  # noqa: T201 - the figures are what this proof is for
    assert large < 1.2 * small
