"""What is played: commands in a row, the provider's misbehaviour, and what must come of it whatever dies on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batchkit.emulator import Scenario
from batchkit.emulator.faults import batches, calls, lines
from tests.proof.stage import SPEED
from tests.workloads import audio_line, chat_line, write_lines

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.emulator.faults import Fault

_INPUT = "input.jsonl"
OUTPUT = "out.jsonl"
_ROWS = "rows.jsonl"
#: Where a story that begins with a table has its answers.
LABELLED = "labelled.jsonl"
_MODEL = "openai/gpt-oss-20b"


@dataclass(frozen=True)
class Command:
    """The words of a command, and the exit codes it may end with when nothing kills it."""

    words: tuple[str, ...]
    codes: frozenset[int]


def _command(words: str, *codes: int) -> Command:
    return Command(tuple(words.split()), frozenset(codes))


@dataclass(frozen=True)
class Story:
    """Commands that are played in a row; one that dies is given again, then the next one follows.

    ``requests`` are the input, or what must become of the ``rows`` of a table, one each; ``failing`` maps the custom_ids that
    fail for good to the code of their error. ``rides`` maps a custom_id to how often it must have been executed, where that is
    not once; None leaves it to the promises alone. ``answers`` maps one to how many answers of it are to be bought, where that
    is more than one because the first are bad. ``speed`` is that of the provider's clock, ``waits`` are settings of the commands.
    """

    name: str
    commands: tuple[Command, ...]
    requests: tuple[dict[str, Any], ...]
    faults: tuple[Fault, ...] = ()
    failing: dict[str, str] = field(default_factory=dict)
    rides: dict[str, int] | None = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    rows: tuple[dict[str, Any], ...] = ()
    speed: float = SPEED
    waits: dict[str, str] = field(default_factory=dict)

    def scenario(self) -> Scenario:
        """Say how the provider misbehaves."""
        return Scenario(faults=self.faults)

    def prepare(self, folder: Path) -> None:
        """Write the input."""
        if self.rows:
            write_lines(folder / _ROWS, self.rows)
        else:
            write_lines(folder / _INPUT, self.requests)


def _asked(row: dict[str, Any]) -> str:
    return f"{row['id']}:{_MODEL.rpartition('/')[2]}:1"


def _requests() -> tuple[dict[str, Any], ...]:
    chats = [chat_line(f"row-{number}", f"Question {number}: naïve \u2028 日本語") for number in range(8)]
    return (*chats[:3], audio_line("sound-0"), *chats[3:], audio_line("sound-1"))


#: What most lives hold: a request that fails for good, one that errs once, one that expires once, one that goes missing once.
_LIFE = (
    lines.FailLines(custom_ids=frozenset({"row-1"}), code="bad_thing"),
    lines.FailLines(custom_ids=frozenset({"row-2"}), status=503, attempts=1),
    lines.ExpireLines(custom_ids=frozenset({"row-4"}), attempts=1),
    lines.DropLines(custom_ids=frozenset({"row-6"}), attempts=1),
    batches.ShuffleOutput(),
)
_RUN = _command(f"run {_INPUT} --name w --no-prefect --shard-lines 4 --output {OUTPUT}", 3)

RUN = Story("run", (_RUN,), _requests(), _LIFE, failing={"row-1": "bad_thing"}, rides={"row-2": 2})

#: The same through Prefect, with a temporary server that has to be found and ended by the next start.
PREFECT = Story(
    "run through Prefect",
    (_command(f"run {_INPUT} --name w --shard-lines 4 --output {OUTPUT}", 3),),
    _requests(),
    _LIFE,
    failing=RUN.failing,
    rides=RUN.rides,
)

VERBS = Story(
    "submit, cancel, resubmit, export, clean",
    (
        _command(f"submit {_INPUT} --name w --no-prefect --shard-lines 4", 0),
        _command("cancel w --wait --no-prefect", 0, 3),
        _command("resubmit w --failed --no-prefect", 0, 3),
        _command(f"export w {OUTPUT}", 0),
        _command("clean w --keep-results --yes", 0),
    ),
    _requests(),
    (
        lines.FailLines(custom_ids=frozenset({"row-1"}), code="bad_thing"),
        lines.ExpireLines(custom_ids=frozenset({"row-4"}), attempts=1),
    ),
    failing={"row-1": "bad_thing"},
    rides=None,
)

_TABLE = tuple({"id": f"r{number}", "text": f"Is {number} naïve \u2028 or 日本語?"} for number in range(8))
_ANSWERS = {_asked(_TABLE[2]): 2, _asked(_TABLE[4]): 2, _asked(_TABLE[6]): 3}
#: A table and its answers, of which some are not what they must be: they are asked again, differently, and one has to give up.
ANNOTATE = Story(
    "annotate, export",
    (
        _command(
            f"annotate {_ROWS} --name w --key id --prompt {{{{text}}}} --model {_MODEL} --pattern (?s).*\\? "
            f"--no-prefect --shard-lines 4 --output {LABELLED}",
            3,
        ),
        _command(f"export w {OUTPUT}", 0),
    ),
    tuple(chat_line(_asked(row), row["text"]) for row in _TABLE),
    (
        lines.FailLines(custom_ids=frozenset({_asked(_TABLE[1])}), code="bad_thing"),
        lines.GarbleAnswers(custom_ids=frozenset({_asked(_TABLE[2])}), attempts=1),
        lines.CutAnswers(custom_ids=frozenset({_asked(_TABLE[4])}), attempts=1),
        lines.ExpireLines(custom_ids=frozenset({_asked(_TABLE[5])}), attempts=1),
        lines.EmptyAnswers(custom_ids=frozenset({_asked(_TABLE[6])})),
        batches.ShuffleOutput(),
    ),
    failing={_asked(_TABLE[1]): "bad_thing", _asked(_TABLE[6]): "answer_empty"},
    rides=_ANSWERS,
    answers=_ANSWERS,
    rows=_TABLE,
)

#: Batches run long enough to be cancelled.
CANCELLED = Story(
    "submit, cancel, resubmit, export, clean, slowly",
    VERBS.commands,
    VERBS.requests,
    (*VERBS.faults, batches.SlowBatches(validating_seconds=80_000)),
    VERBS.failing,
    rides=None,
    speed=20_000.0,
)

#: The provider's day takes two seconds here, so that batches live for some dozens of probes, and ``stuck_seconds`` are few of them.
_SLOWLY = 43_200.0
_PROBES = {"BATCHKIT_STUCK_SECONDS": "0.4"}
_FLAPPING = frozenset(range(4, 40, 3))
#: Batches that are unknown to the provider at one probe, at two that lie further apart than ``stuck_seconds``, and again and again.
ABSENT = Story(
    "run, batches unknown for moments",
    (_command(f"run {_INPUT} --name w --no-prefect --shard-lines 2 --output {OUTPUT}", 0),),
    tuple(chat_line(f"row-{number}", f"Question {number}") for number in range(6)),
    (
        batches.SlowBatches(finalizing_seconds=50_000),
        batches.AbsentBatches(batches=frozenset({1}), listings=frozenset({2})),
        batches.AbsentBatches(batches=frozenset({2}), listings=frozenset({2, 9})),
        batches.AbsentBatches(batches=frozenset({3}), listings=_FLAPPING),
    ),
    speed=_SLOWLY,
    waits=_PROBES,
)


def losing_inputs(lines_per_shard: int) -> Story:
    """Play a run whose first two batches do not find their input files, each of so many lines."""
    return Story(
        f"run, inputs of {lines_per_shard} {'line' if lines_per_shard == 1 else 'lines'} lost",
        (_command(f"run {_INPUT} --name w --no-prefect --shard-lines {lines_per_shard} --output {OUTPUT}", 0),),
        tuple(chat_line(f"row-{number}", f"Question {number}") for number in range(lines_per_shard * 2 + 1)),
        (batches.LostInput(batches=frozenset({1, 2})),),
    )


#: One line, two, and many.
LOST_INPUTS = tuple(losing_inputs(count) for count in (1, 2, 20))

#: Stories that are played on their own, by name.
STORIES = {story.name: story for story in (RUN, VERBS, ANNOTATE, CANCELLED, ABSENT, *LOST_INPUTS)}

#: Troubles under which the first story is played again, dying at points that are drawn from their own lists.
TROUBLES: dict[str, tuple[Fault, ...]] = {
    "create answers 500 after accepting": (calls.LoseReply(on=("batches.create",), how="500"),),
    "replies lost, and the list lags": (
        calls.LoseReply(on=("files.create", "batches.create"), times=2),
        batches.ListLag(calls=2),
    ),
    "list pages that overlap": (calls.LoseReply(on=("batches.create",)), calls.ListPages(how="overlap")),
    "gateway errors": (calls.GatewayErrors(on=("files", "batches.retrieve"), every=3),),
    "rate limits": (calls.RateLimit(on=("files.create", "batches.create"), retry_after=0.05, wait="50ms"),),
    "downloads cut, ending cleanly": (calls.CutDownloads(times=1, per_object=True, how="close-delimited"),),
    "files not visible at first": (calls.FileLag(),),
    "repeated and unknown lines": (
        lines.DuplicateLines(custom_ids=frozenset({"row-0", "row-3"}), second="error"),
        lines.UnknownLines(count=2),
        lines.RawSeparators(),
    ),
    "a full queue": (batches.FailBatches(batches=frozenset({1, 3})),),
    "a batch refused without naming a line": (
        batches.FailBatches(batches=frozenset({1}), code="mystery", message="No."),
    ),
    "odd objects": (
        batches.NoFileAs(value="object"),
        batches.SparseTimestamps(),
        batches.SkipStatuses(),
        batches.ExtraFields(),
    ),
}


def under(trouble: str) -> Story:
    """Play the first story under one of the troubles."""
    return Story(f"run, {trouble}", RUN.commands, RUN.requests, (*_LIFE, *TROUBLES[trouble]), RUN.failing, RUN.rides)
