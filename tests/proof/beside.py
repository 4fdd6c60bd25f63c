"""Drives beside a split: the splitter is stopped at each of its points, others try to work on what it is splitting, then it continues."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.proof.child import is_stopped, wait_until
from tests.proof.promises import Verdict, judge
from tests.proof.sweep import ideal_of, stage_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.proof.points import Point
    from tests.proof.stage import Stage
    from tests.proof.stories import Story
    from tests.proof.sweep import Backend, Measured

#: Who tries: the commands, and the function of the package.
BESIDE = (
    ("watch", "w", "--no-prefect"),
    ("cancel", "w"),
    ("resubmit", "w", "--no-prefect"),
    ("python", "watch", "w"),
)
#: Not split whole, or not there yet.
_REFUSED = {2, 4}
_LONGEST_COMMAND_SECONDS = 60.0
#: A splitter that is stopped in the middle of a transaction holds its locks: whoever waits for them is ended before it continues.
_LONGEST_TRY_SECONDS = 4.0
#: From here on everybody may drive.
_WHOLE = "commit in steps/split.split, after"


@dataclass(frozen=True)
class Beside:
    """How one play went: where the splitter was stopped, and what was found in the end."""

    story: str
    point: Point
    verdict: Verdict


def points_of_the_split(usual: Measured) -> list[Point]:
    """Return the points of a story's first command at which its input is not split whole."""
    points = [point for index, point in usual.points if index == 0]
    labels = [point.label for point in points]
    return points[: labels.index(_WHOLE)]


def drive_beside(story: Story, backend: Backend, point: Point) -> Beside:
    """Stop the first command of a story at a point of its split, and let others try to drive; then let it end, and judge."""
    found = Verdict()
    (command,) = story.commands
    with backend.database() as url, stage_of(story, url) as stage:
        story.prepare(stage.folder)
        splitter = stage.start_to_stop(command.words, point)
        if not wait_until(
            lambda: splitter.exitcode is not None or is_stopped(splitter), within_seconds=_LONGEST_COMMAND_SECONDS
        ):
            found.breach(5, "the splitter came neither to its point nor to its end")
        for words, code in _try_all(stage):
            if code is not None and code not in _REFUSED:
                found.breach(4, f"{' '.join(words)} ended with {code}: {stage.output()[-2000:]}")
        calls = stage.ledger().calls
        if calls and splitter.exitcode is None:
            found.breach(4, f"sent while the input was being split: {dict(calls)}")
        if splitter.exitcode is None:
            os.kill(splitter.pid, signal.SIGCONT)
        splitter.join(_LONGEST_COMMAND_SECONDS)
        if splitter.exitcode not in command.codes:
            splitter.kill()
            found.breach(5, f"the splitter ended with {splitter.exitcode}: {stage.output()[-2000:]}")
        verdict = judge(stage, ideal_of(story), [])
    verdict.broken += found.broken
    return Beside(story.name, point, verdict)


def _try_all(stage: Stage) -> list[tuple[Sequence[str], int | None]]:
    """Let all try at the same time; returns their exit codes, None for those that wait for a lock."""
    tries = [(words, stage.start(words)) for words in BESIDE]
    wait_until(lambda: all(process.exitcode is not None for _, process in tries), within_seconds=_LONGEST_TRY_SECONDS)
    codes: list[tuple[Sequence[str], int | None]] = []
    for words, process in tries:
        codes.append((words, process.exitcode))
        process.kill()
        process.join()
    return codes
