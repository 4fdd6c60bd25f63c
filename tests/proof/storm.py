"""Storms: two runners work on one workload and are killed at random instants, under randomly drawn faults.

The seed decides everything but the instants. Even seeds are storms on the default provider, odd ones on another one. In a storm with a
deadline requests leave their batches for the sync lane.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchkit.emulator import Scenario
from batchkit.emulator.dialects.providers import DEFAULT_PROVIDER, DIALECTS
from batchkit.emulator.faults import answers, batches, calls, lines
from tests.emulator.dialects import two_models
from tests.proof.harness import LONGEST_COMMAND_SECONDS, SPEED, ProofHarness, take_snapshot
from tests.proof.promises import ExpectedOutcome, Violations, check_promises
from tests.proof.scenarios import OUTPUT
from tests.workloads import audio_line, chat_line, write_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.emulator.faults import Fault
    from tests.proof.harness import DatabaseSnapshot
    from tests.proof.sweep import Backend

REQUESTS = 2_000
_RUNNERS = 2
_MEAN_SECONDS_BETWEEN_DEATHS = 0.5
_OTHERS = tuple(name for name in DIALECTS if name != DEFAULT_PROVIDER)
_SECOND_OUTPUT = "second.jsonl"

#: Without faults that withhold paid answers: those must be bought again.
_DRAWN_FAULTS: tuple[Fault, ...] = (
    calls.LoseReply(on=("batches.create",), how="500", every=3),
    calls.LoseReply(on=("files.create", "batches.create"), times=3),
    batches.ListLag(calls=2),
    calls.ListPages(how="overlap"),
    calls.GatewayErrors(on=("files", "batches.retrieve"), every=5),
    calls.RateLimit(on=("files.create", "batches.create"), retry_after=0.05, wait="50ms", every=4),
    calls.CutDownloads(times=1, per_object=True),
    calls.CutDownloads(times=1, per_object=True, how="close-delimited"),
    calls.FileLag(),
    batches.NoFileAs(value="object"),
    batches.EmptyFiles(),
    batches.SkipStatuses(),
    batches.SparseTimestamps(),
    batches.ExtraFields(),
    batches.UnlistedLines(),
    batches.FailBatches(batches=frozenset({1, 4})),
    batches.FailBatches(batches=frozenset({2}), code="mystery", message="No."),
    batches.LyingCounts(say="null"),
    lines.DropLines(count=3, attempts=1),
    lines.DuplicateLines(count=5, second="error"),
    lines.UnknownLines(count=5),
    answers.RawSeparators(fraction=0.2),
    lines.ZeroStatusLines(fraction=0.05, attempts=1),
    lines.FailLines(fraction=0.1, attempts=1, status=503),
)
#: The emulator's day takes ten seconds, so that what waits for its end is sent one by one before the deadline.
_DEADLINE_SPEED = 8_640.0
_WITHIN = ("--within", "6s", "--small", "0", "--max-expiries", "50")
_WAITS_WITH_DEADLINE = {"BATCHKIT_CANCEL_SECONDS": "0.2"}
#: Without lines that fail for ever, because in the sync lane they would not.
_CONSTANT_WITH_DEADLINE: tuple[Fault, ...] = (batches.ShuffleOutput(), batches.SlowCancel(seconds=1_000))
_CONSTANT_FAULTS: tuple[Fault, ...] = (
    lines.FailLines(fraction=0.03, code="bad_thing"),
    batches.ShuffleOutput(),
)


@dataclass(frozen=True)
class StormPlan:
    """The provider, the faults, the shard size and the number of kills that belong to a seed."""

    seed: int
    provider: str
    faults: tuple[Fault, ...]
    shard_lines: int
    deaths: int
    has_deadline: bool = False

    def __str__(self) -> str:
        drawn = ", ".join(fault.name for fault in self.faults[len(_CONSTANT_FAULTS) :])
        by = ", with a deadline" if self.has_deadline else ""
        return f"seed {self.seed} on {self.provider}{by}: {self.deaths} deaths, shards of {self.shard_lines} lines, {drawn}"


@dataclass(frozen=True)
class StormOutcome:
    """The plan of one storm, the number of runners that were killed, and the violations that were found."""

    plan: StormPlan
    killed: int
    violations: Violations


def draw_plan(seed: int, *, has_deadline: bool = False) -> StormPlan:
    """Draw the plan of a seed."""
    rng = random.Random(seed)  # noqa: S311 - a sample, not a secret
    drawn = tuple(rng.sample(_DRAWN_FAULTS, rng.randint(1, 4)))
    provider = _OTHERS[seed // 2 % len(_OTHERS)] if seed % 2 else DEFAULT_PROVIDER
    # Where nothing expires, requests go missing instead.
    late = lines.DropLines if DIALECTS[provider].never_expires else lines.ExpireLines
    constant = _CONSTANT_WITH_DEADLINE if has_deadline else _CONSTANT_FAULTS
    faults = (*constant, late(fraction=0.2, attempts=1), *drawn)
    return StormPlan(seed, provider, faults, rng.choice((60, 100, 250, 700)), rng.randint(2, 6), has_deadline)


def requests(provider: str, *, has_audio: bool = True) -> list[dict[str, Any]]:
    """Return the workload, on the default provider with recordings; each question occurs once, so that an answer identifies its request."""
    chats = [f"Question {number}: naïve \u2028" for number in range(REQUESTS)]
    if provider == DEFAULT_PROVIDER:
        return [
            audio_line(f"sound-{number}") if has_audio and number % 10 == 7 else chat_line(f"row-{number}", text)
            for number, text in enumerate(chats)
        ]
    models = two_models(provider)
    return [chat_line(f"row-{number}", text, model=models[number % 10 == 7]) for number, text in enumerate(chats)]


def run_storm(seed: int, backend: Backend, *, has_deadline: bool = False) -> StormOutcome:
    """Run the workload through one storm and check the promises."""
    plan = draw_plan(seed, has_deadline=has_deadline)
    asked = requests(plan.provider, has_audio=not has_deadline)
    unfinished = Violations()
    before: list[DatabaseSnapshot] = []
    killed = 0
    with (
        backend.database() as url,
        ProofHarness(
            url,
            Scenario(seed=seed, faults=plan.faults),
            provider=plan.provider,
            speed=_DEADLINE_SPEED if has_deadline else SPEED,
            waits=_WAITS_WITH_DEADLINE if has_deadline else {},
        ) as harness,
    ):
        write_lines(harness.folder / "input.jsonl", asked)
        arguments = (
            "run",
            "input.jsonl",
            "--name",
            "w",
            "--no-prefect",
            "--shard-lines",
            str(plan.shard_lines),
            *(_WITHIN if has_deadline else ()),
            "--output",
        )
        commands = [(*arguments, OUTPUT), (*arguments, _SECOND_OUTPUT)]
        runners = [harness.start(command) for command in commands]
        rng = random.Random(~seed)  # noqa: S311 - a sample, not a secret
        for _ in range(plan.deaths):
            runners[0].join(rng.expovariate(1 / _MEAN_SECONDS_BETWEEN_DEATHS))
            victims = rng.choice(((0,), (1,), (0, 1)))
            for victim in victims:
                runners[victim].kill()
                runners[victim].join()
                killed += runners[victim].exitcode < 0
            if len(victims) == _RUNNERS:
                before.append(take_snapshot(harness))
            for victim in victims:
                runners[victim] = harness.start(commands[victim])
        _wait_for_all(runners, unfinished, harness)
        violations = check_promises(
            harness, ExpectedOutcome(asked, {} if has_deadline else None, None, is_sync=has_deadline), before
        )
        _same_export(violations, harness)
    violations.broken += unfinished.broken
    return StormOutcome(plan, killed, violations)


def _wait_for_all(runners: Sequence[Any], violations: Violations, harness: ProofHarness) -> None:
    deadline = time.monotonic() + LONGEST_COMMAND_SECONDS
    for runner in runners:
        runner.join(max(deadline - time.monotonic(), 0))
        if runner.exitcode is None:
            runner.kill()
            runner.join()
        if runner.exitcode not in {0, 3}:
            violations.add(5, f"a runner ended with {runner.exitcode}: {harness.output()[-3000:]}")


def _same_export(violations: Violations, harness: ProofHarness) -> None:
    first, second = harness.folder / OUTPUT, harness.folder / _SECOND_OUTPUT
    if not first.exists() or not second.exists() or first.read_bytes() != second.read_bytes():
        violations.add(1, "the two runners exported different results")
