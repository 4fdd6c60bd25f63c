"""A peer that is stopped (SIGSTOP) at a commit, with the locks that it holds there: another runner does the rest, then the peer continues."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit.store.engine import Limits
from tests.proof.child import is_stopped, wait_until
from tests.proof.promises import Verdict, judge
from tests.proof.sweep import ideal_of, stage_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.proof.points import Point
    from tests.proof.stage import Stage
    from tests.proof.stories import Story
    from tests.proof.sweep import Backend, Measured

_LONGEST_COMMAND_SECONDS = 60.0
_NOT_FINISHED = 4
#: How long the server lets a session do nothing in a transaction: less than the other runner waits for a lock in all, or more.
_IDLE_SECONDS = {True: 2.0, False: 8.0}
_WAITS = {
    True: {"BATCHKIT_LEASE_SECONDS": "1", "BATCHKIT_OUTAGE_SECONDS": "30"},
    False: {"BATCHKIT_LEASE_SECONDS": "1", "BATCHKIT_OUTAGE_SECONDS": "3"},
}
_NAMES_THE_HOLDER = ("held by session", "is being split by")


@dataclass(frozen=True)
class Stopped:
    """How one play went: where the peer was to be stopped and whether it was, whether the server ended its session, and what was found."""

    story: str
    point: Point
    is_ended: bool
    was_stopped: bool
    verdict: Verdict


def commits(usual: Measured) -> list[Point]:
    """Return the points before and after each commit of a story's first command."""
    return [point for index, point in usual.points if index == 0 and point.kind == "commit"]


def stop_peer(story: Story, backend: Backend, point: Point, *, is_ended: bool) -> Stopped:
    """Stop a story's first command at a point, give it again beside that, let the first continue, and judge.

    With ``is_ended`` the server ends the session of the stopped peer, and the other runner has to finish; without, it may also end
    with exit code 4 and name who holds what it needs.
    """
    found = Verdict()
    (command,) = story.commands
    limits = Limits(lock_seconds=1.0, idle_seconds=_IDLE_SECONDS[is_ended], statement_seconds=30.0)
    with backend.database() as url, stage_of(story, url, limits=limits, waits=_WAITS[is_ended]) as stage:
        story.prepare(stage.folder)
        peer = stage.start_to_stop(command.words, point)
        if not wait_until(
            lambda: peer.exitcode is not None or is_stopped(peer), within_seconds=_LONGEST_COMMAND_SECONDS
        ):
            found.breach(5, "the peer came neither to its point nor to its end")
        said = len(stage.output())
        was_stopped = peer.exitcode is None
        other = _play_beside(stage, command.words)
        if other == _NOT_FINISHED and not is_ended:
            if not any(words in stage.output()[said:] for words in _NAMES_THE_HOLDER):
                found.breach(8, f"nobody is named as the holder: {stage.output()[said:][-2000:]}")
            _check_rest(found, stage, point)
        elif other not in command.codes:
            found.breach(5, f"the other runner ended with {other}: {stage.output()[said:][-2000:]}")
        if peer.exitcode is None:
            os.kill(peer.pid, signal.SIGCONT)
        peer.join(_LONGEST_COMMAND_SECONDS)
        if peer.exitcode is None:
            peer.kill()
        if peer.exitcode not in {*command.codes, _NOT_FINISHED}:
            found.breach(5, f"the peer ended with {peer.exitcode}: {stage.output()[-2000:]}")
        if other == peer.exitcode == _NOT_FINISHED and (code := stage.play(command.words)) not in command.codes:
            found.breach(5, f"the same command again ended with {code}: {stage.output()[-2000:]}")
        verdict = judge(stage, ideal_of(story), [])
    verdict.broken += found.broken
    return Stopped(story.name, point, is_ended, was_stopped, verdict)


def _play_beside(stage: Stage, words: Sequence[str]) -> int | None:
    process = stage.start(words)
    process.join(_LONGEST_COMMAND_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return int(process.exitcode)


def _check_rest(found: Verdict, stage: Stage, point: Point) -> None:
    """See that beside a shard whose merge is held all others are merged."""
    if "steps/merge" not in point.label:
        return
    with stage.database() as store:
        if store is None:
            return
        with store.read() as connection:
            query = "SELECT count(*) FROM shards WHERE state NOT IN ('merged', 'withdrawn')"
            count = connection.exec_driver_sql(query).scalar_one()
    if count > 1:
        found.breach(5, f"{count} shards are left although one is held")
