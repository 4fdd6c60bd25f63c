"""A hundred thousand requests on each of the other emulated providers, many of which expire, in memory that does not grow with them.

It takes minutes: ``pytest -m slow tests/acceptance``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batchkit.emulator.dialects.providers import DEFAULT_PROVIDER, DIALECTS
from batchkit.emulator.faults import batches, lines
from batchkit.files import jsonl
from tests.acceptance.memory import peak_megabytes
from tests.emulator.dialects import two_models
from tests.workloads import chat_line, write_lines

if TYPE_CHECKING:
    from tests.commands import Command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

SMALL = 20_000
REQUESTS = 100_000


def _run(command: Command, name: str, count: int) -> float:
    """Run a workload in a process of its own, check each line of its export, and return the peak memory in MB."""
    models = two_models(command.emulator.dialect.name)
    asked = [(f"{name}-{number}", f"Question {number} of {name}?", models[number % 8 == 7]) for number in range(count)]
    requests = (chat_line(custom_id, text, model=model) for custom_id, text, model in asked)
    write_lines(command.folder / f"{name}.jsonl", requests)
    out = command.folder / f"{name}.out.jsonl"
    peak, code, said = peak_megabytes(
        command, "run", f"{name}.jsonl", "--no-prefect", "--shard-lines", "5000", "--output", out.name
    )
    assert code == 3, said
    succeeded = attempts = 0
    with out.open("rb") as handle:
        for (custom_id, text, model), data in zip(asked, handle, strict=True):
            line = jsonl.loads(data)
            assert line["custom_id"] == custom_id
            attempts += line["attempts"]
            if line["status"] == "succeeded":
                succeeded += 1
                body = line["response"]["body"]
                assert (body["model"], text in body["choices"][0]["message"]["content"]) == (model, True)
            else:
                assert line["error"]["code"] == "bad_thing"
    assert 0.98 * count < succeeded < count
    assert 1.25 * count < attempts < 1.35 * count
    return peak


@pytest.mark.parametrize("provider", [name for name in DIALECTS if name != DEFAULT_PROVIDER])
def test_a_hundred_thousand_requests_on_every_provider(start_command, provider):
    """Each request has its own answer in its place, nothing is bought twice, and five times the requests take the same memory."""
    late = lines.DropLines if DIALECTS[provider].never_expires else lines.ExpireLines
    faults = [
        lines.FailLines(fraction=0.01, code="bad_thing"),
        late(fraction=0.3, attempts=1),
        batches.ShuffleOutput(),
    ]
    command = start_command(faults, speed=20_000, provider=provider)

    small, large = _run(command, "small", SMALL), _run(command, "large", REQUESTS)

    print(f"\n{provider}: {small:.0f} MB at {SMALL:,} requests, {large:.0f} MB at {REQUESTS:,}")  # noqa: T201 - the figures are what this proof is for
    totals = command.emulator.ledger().totals
    assert (totals.custom_ids, totals.bought_twice) == (SMALL + REQUESTS, 0)
    assert large < 1.2 * small
