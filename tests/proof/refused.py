"""The provider refuses the account at one kind of call, is put right after the command has ended, and the same command is given again."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from batchkit.emulator import Scenario
from batchkit.emulator.faults import batches, calls, lines
from tests.proof import stories
from tests.proof.promises import Verdict, judge
from tests.proof.sweep import ideal_of, stage_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.emulator.faults import Fault
    from tests.proof.stage import Stage
    from tests.proof.stories import Story
    from tests.proof.sweep import Backend

#: By status, and whether the code says what it is or only the words.
_REFUSALS: tuple[dict[str, Any], ...] = (
    {
        "status": 400,
        "code": "blocked_api_access",
        "message": "Organization has been blocked from API access: it has reached its spend limit.",
    },
    {"status": 401, "code": "invalid_api_key", "message": "Invalid API Key"},
    {"status": 402, "code": None, "message": "Payment required."},
    {"status": 403, "code": "not_available_for_plan", "message": "The Batch API is not available for your plan."},
)
#: So many calls may be on their way when the first of them is refused.
_MOST_REFUSED_CALLS = 16
_NOT_FINISHED = 4
_SHORTEST_HINT = re.compile(r"^hint: \S+ ", re.MULTILINE)


@dataclass(frozen=True)
class Refused:
    """Which story is refused at which calls (None: within output lines), after how many that were let pass.

    ``beside`` makes the calls happen. One that ``may_pass`` is of no consequence to the outcome, so that the command may also end as if
    nothing had been refused.
    """

    story: Story
    operation: str | None
    refusal: dict[str, Any]
    skip: int = 0
    beside: tuple[Fault, ...] = ()
    may_pass: bool = False

    def __str__(self) -> str:
        where = "in an output line" if self.operation is None else f"at {self.operation}, {self.skip} let pass"
        return f"{self.story.name}, {self.refusal['status']} {where}"

    @property
    def fault(self) -> Fault:
        """The fault that refuses."""
        if self.operation is None:
            return lines.FailLines(custom_ids=frozenset({"row-3", "row-5"}), **self.refusal)
        return calls.RefuseCalls(on=(self.operation,), skip=self.skip, type="invalid_request_error", **self.refusal)


@dataclass(frozen=True)
class RefusedOutcome:
    """How one play went."""

    refused: Refused
    verdict: Verdict


def every_refusal() -> list[Refused]:
    """Every kind of refusal at every kind of call that the commands make."""
    return [refused for refusal in _REFUSALS for refused in _places(refusal)]


def _places(refusal: dict[str, Any]) -> Iterator[Refused]:
    run, verbs = stories.RUN, stories.CANCELLED
    # A request that was refused within a line is executed once more.
    resent = replace(run, rides=None)
    # Only the size of a file is read there, and its content may be readable all the same.
    size = {"may_pass": refusal["status"] == 403}
    for operation, skips, more in (
        ("models.list", (0,), {}),
        ("files.create", (0, 1), {}),
        ("batches.create", (0, 1), {}),
        ("batches.list", (0, 1, 2), {}),
        ("batches.list", (1,), {"beside": (calls.LoseReply(on=("batches.create",)),)}),
        ("batches.retrieve", (0,), {"beside": (batches.AbsentBatches(),)}),
        ("files.retrieve", (0, 1), size),
        ("files.content", (0, 1), {}),
        (None, (0,), {}),
    ):
        for skip in skips:
            yield Refused(run if operation else resent, operation, refusal, skip, **more)
    for operation, skip in (
        ("batches.cancel", 0),
        ("batches.cancel", 1),
        ("files.list", 0),
        ("files.delete", 0),
        ("files.delete", 2),
    ):
        yield Refused(verbs, operation, refusal, skip)


def play_refused(refused: Refused, backend: Backend) -> RefusedOutcome:
    """Play a story until the refusal ends a command; then put the provider right, give the same command again, and judge."""
    found = Verdict()
    story = refused.story
    is_met = False
    faults = (*story.faults, *refused.beside)
    with backend.database() as url, stage_of(story, url) as stage:
        stage.change(Scenario(faults=(*faults, refused.fault)))
        story.prepare(stage.folder)
        for command in story.commands:
            code = stage.play(command.words)
            if code not in command.codes and not is_met:
                is_met = True
                _check_end(found, stage, refused, code)
                stage.change(Scenario(faults=faults))
                code = stage.play(command.words)
            if code not in command.codes:
                found.breach(5, f"{' '.join(command.words)} ended with {code}: {stage.output()[-2000:]}")
        if not is_met and not refused.may_pass:
            found.breach(8, "no command was refused")
        ideal = ideal_of(story)
        verdict = judge(stage, ideal, [])
    verdict.broken += found.broken
    return RefusedOutcome(refused, verdict)


def _check_end(found: Verdict, stage: Stage, refused: Refused, code: int | None) -> None:
    if code != _NOT_FINISHED:
        found.breach(8, f"the refused command ended with {code}: {stage.output()[-2000:]}")
    if not _SHORTEST_HINT.search(stage.output()):
        found.breach(8, f"nothing says what to do: {stage.output()[-2000:]}")
    if refused.operation is not None:
        made = stage.ledger().calls.get(refused.operation, 0) - refused.skip
        if not 0 < made <= _MOST_REFUSED_CALLS:
            found.breach(8, f"{made} calls of {refused.operation} were refused")
    with stage.database() as store:
        if store is None:
            found.breach(5, "there is no database")
            return
        with store.read() as connection:
            rows = connection.exec_driver_sql("SELECT custom_id FROM requests WHERE state = 'failed'").all()
    failed = {row.custom_id for row in rows} - set(refused.story.failing)
    found.lost += len(failed)
    if failed:
        found.breach(1, f"failed by the refusal: {sorted(failed)}")
