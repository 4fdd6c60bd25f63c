"""The scenarios of the proof: commands, the provider's faults, and the outcome that must follow whatever is killed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from batchkit.emulator import Scenario
from batchkit.emulator.dialects.providers import DEFAULT_PROVIDER
from batchkit.emulator.faults import answers, batches, calls, lines
from tests.emulator.dialects import two_models
from tests.foreign import FAULTS_OF_ALL, ROWS_OF_ALL, ForeignClient, create_all
from tests.foreign import rows as foreign_rows
from tests.proof.harness import SPEED
from tests.workloads import audio_line, chat_line, write_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.emulator.faults import Fault
    from tests.proof.harness import ProofHarness

_INPUT = "input.jsonl"
OUTPUT = "out.jsonl"
_ROWS = "rows.jsonl"
_EARLIER_ROWS = "earlier.jsonl"
#: The output of a scenario whose input is a table.
LABELLED = "labelled.jsonl"
_MODEL = "openai/gpt-oss-20b"
_BATCHES = "BATCHES"


@dataclass(frozen=True)
class Command:
    """The arguments of a command, and the exit codes that it may have if nothing kills it. One that does not ``buy`` creates no batch.

    The argument ``BATCHES`` stands for the ids of the batches that are adopted. ``max_tokens`` is the budget that must hold when it has
    ended.
    """

    arguments: tuple[str, ...]
    codes: frozenset[int]
    buys: bool = True
    max_tokens: int | None = None


def _command(arguments: str, *codes: int, buys: bool = True, max_tokens: int | None = None) -> Command:
    return Command(tuple(arguments.split()), frozenset(codes), buys, max_tokens)


@dataclass(frozen=True)
class ProofScenario:
    """Commands that run one after the other; a command that is killed is repeated before the next one runs.

    ``requests`` are the input lines, or the requests that must be made from the ``rows`` of a table, one each. ``failing`` maps the
    custom_ids that fail permanently to their error codes. ``executions`` maps a custom_id to the number of times it must be executed,
    if that is not 1; None leaves it unchecked. ``successes`` maps a custom_id to the number of answers that are bought, if that is
    more than 1 because the first answers are invalid. ``earlier_rows`` are a table that the first command reads. With ``is_foreign``
    another client has created batches of the requests. ``provider`` is emulated, ``speed`` is the speed of its clock, ``waits`` are
    settings of the commands. With ``is_sync`` the requests are single calls, all or some of them.
    """

    name: str
    commands: tuple[Command, ...]
    requests: tuple[dict[str, Any], ...]
    faults: tuple[Fault, ...] = ()
    failing: dict[str, str] = field(default_factory=dict)
    executions: dict[str, int] | None = field(default_factory=dict)
    successes: dict[str, int] = field(default_factory=dict)
    rows: tuple[dict[str, Any], ...] = ()
    earlier_rows: tuple[dict[str, Any], ...] = ()
    is_foreign: bool = False
    provider: str = DEFAULT_PROVIDER
    speed: float = SPEED
    waits: dict[str, str] = field(default_factory=dict)
    is_sync: bool = False

    def provider_scenario(self) -> Scenario:
        """Return the emulator's scenario."""
        return Scenario(faults=self.faults)

    def prepare(self, harness: ProofHarness) -> tuple[Command, ...]:
        """Write the input, or create the batches; return the commands, with the ids of these batches."""
        folder = harness.folder
        if self.is_foreign:
            with ForeignClient(harness.emulator) as client:
                made = create_all(client, model=str(self.requests[0]["body"]["model"]))
            return tuple(_with_batches(command, [batch["id"] for batch in made]) for command in self.commands)
        if self.earlier_rows:
            write_lines(folder / _EARLIER_ROWS, self.earlier_rows)
        if self.rows:
            write_lines(folder / _ROWS, self.rows)
        else:
            write_lines(folder / _INPUT, self.requests)
        return self.commands


def _with_batches(command: Command, batch_ids: Sequence[str]) -> Command:
    arguments = [batch_ids if argument == _BATCHES else [argument] for argument in command.arguments]
    return replace(command, arguments=tuple(chain.from_iterable(arguments)))


def _asked(row: dict[str, Any]) -> str:
    return f"{row['id']}:{_MODEL.rpartition('/')[2]}:1"


def _requests() -> tuple[dict[str, Any], ...]:
    chats = [chat_line(f"row-{number}", f"Question {number}: naïve \u2028 日本語") for number in range(8)]
    return (*chats[:3], audio_line("sound-0"), *chats[3:], audio_line("sound-1"))


#: One request fails permanently; one fails once, one expires once, and one goes missing once.
_COMMON_FAULTS = (
    lines.FailLines(custom_ids=frozenset({"row-1"}), code="bad_thing"),
    lines.FailLines(custom_ids=frozenset({"row-2"}), status=503, attempts=1),
    lines.ExpireLines(custom_ids=frozenset({"row-4"}), attempts=1),
    lines.DropLines(custom_ids=frozenset({"row-6"}), attempts=1),
    batches.ShuffleOutput(),
)
_RUN = _command(f"run {_INPUT} --name w --no-prefect --shard-lines 4 --output {OUTPUT}", 3)

RUN = ProofScenario(
    "run", (_RUN,), _requests(), _COMMON_FAULTS, failing={"row-1": "bad_thing"}, executions={"row-2": 2}
)


def on(provider: str) -> ProofScenario:
    """Return the first scenario on a provider other than the default: chats with two models, and a batch that finds a full queue."""
    models = two_models(provider)
    chats = (
        chat_line(f"row-{number}", f"Question {number}: naïve \u2028 日本語", model=models[number % 5 == 3])
        for number in range(10)
    )
    faults = (*_COMMON_FAULTS, batches.FailBatches(batches=frozenset({2})))
    return replace(RUN, name=f"run on {provider}", requests=tuple(chats), faults=faults, provider=provider)


#: Each request is a call of its own: what is bought twice is at most what was reported in doubt.
SYNC = replace(
    RUN,
    name="run on the sync lane",
    commands=(
        _command(
            f"run {_INPUT} --name w --lane sync --no-prefect --shard-lines 4 --max-expiries 50 --output {OUTPUT}", 0
        ),
    ),
    requests=tuple(chat_line(f"row-{number}", f"Question {number}: naïve \u2028 日本語") for number in range(10)),
    faults=(
        calls.RefuseCalls(on=("synchronous",), skip=3, times=1, status=500),
        calls.LoseReply(on=("synchronous",), times=1, how="reset"),
    ),
    failing={},
    executions=None,
    is_sync=True,
)

_BUDGET = 220  # of 10 requests that may use about 37 tokens each


def _under_a_budget(scenario: ProofScenario, lane: str) -> ProofScenario:
    run = f"run {_INPUT} --name w --lane {lane} --no-prefect --shard-lines 4 --max-expiries 50 --output {OUTPUT}"
    return replace(
        scenario,
        name=f"run with a budget, then with a larger one, {lane}",
        commands=(
            _command(f"{run} --max-total-tokens {_BUDGET}", 6, max_tokens=_BUDGET),
            _command(f"{run} --max-total-tokens 100000", *((0,) if scenario.is_sync else (3,))),
        ),
        requests=tuple(
            chat_line(f"row-{number}", f"Question {number}: naïve \u2028 日本語", max_completion_tokens=20)
            for number in range(10)
        ),
    )


#: Stopped by the budget, whatever dies, and resumed with a larger one.
BUDGETS = (_under_a_budget(RUN, "batch"), _under_a_budget(SYNC, "sync"))

#: Some requests would wait for the end of a day of ten seconds: they leave their batches before the deadline.
DEADLINE = replace(
    SYNC,
    name="run in both lanes with a deadline",
    commands=(
        _command(
            f"run {_INPUT} --name w --within 2s --small 0 --no-prefect --shard-lines 4 --max-expiries 50 --output {OUTPUT}",
            0,
        ),
    ),
    faults=(
        lines.ExpireLines(custom_ids=frozenset({"row-1", "row-4", "row-5", "row-8"})),
        batches.SlowCancel(seconds=1_000),
    ),
    speed=8_640.0,
    waits={"BATCHKIT_CANCEL_SECONDS": "0.2"},
)

#: A list in pages after an id, an object of errors, and one model for each file.
ON_OPENAI = on("openai")

#: The same through Prefect, with a temporary server that the next start must find and end.
PREFECT = ProofScenario(
    "run through Prefect",
    (_command(f"run {_INPUT} --name w --shard-lines 4 --output {OUTPUT}", 3),),
    _requests(),
    _COMMON_FAULTS,
    failing=RUN.failing,
    executions=RUN.executions,
)

VERBS = ProofScenario(
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
    executions=None,
)

_TABLE = tuple({"id": f"r{number}", "text": f"Is {number} naïve \u2028 or 日本語?"} for number in range(8))
_ANSWERS = {_asked(_TABLE[2]): 2, _asked(_TABLE[4]): 2, _asked(_TABLE[6]): 3}
#: A table with some invalid answers: they are requested again with another prompt, and one request fails in the end.
ANNOTATE = ProofScenario(
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
        answers.GarbleAnswers(custom_ids=frozenset({_asked(_TABLE[2])}), attempts=1),
        answers.CutAnswers(custom_ids=frozenset({_asked(_TABLE[4])}), attempts=1),
        lines.ExpireLines(custom_ids=frozenset({_asked(_TABLE[5])}), attempts=1),
        answers.EmptyAnswers(custom_ids=frozenset({_asked(_TABLE[6])})),
        batches.ShuffleOutput(),
    ),
    failing={_asked(_TABLE[1]): "bad_thing", _asked(_TABLE[6]): "answer_empty"},
    executions=_ANSWERS,
    successes=_ANSWERS,
    rows=_TABLE,
)


def _row(name: str, number: int) -> dict[str, Any]:
    return {"id": name, "text": f"Is {number} naïve \u2028 or 日本語?"}


#: Of the earlier table one request fails, and one is answered only when it is asked again.
_EARLIER = (_row("e0", 0), _row("e1", 1), _row("e2", 2))
#: Rows of the earlier table, its failed one among them, and rows that repeat each other: of these one fails, one expires once, and
#: one is answered only when it is asked again.
_GROWN = tuple(_row(f"r{place}", number) for place, number in enumerate((0, 1, 2, 3, 3, 4, 5, 4, 5, 0, 5, 1)))
_BOUGHT = {"r1": 1, "r3": 2, "r5": 1, "r6": 1}
_ANNOTATE_WITH = (
    f"--key id --prompt {{{{text}}}} --model {_MODEL} --pattern (?s).*\\? --no-prefect --shard-lines 8 --output"
)
#: The same question is bought once, by whichever workload asked it first, also after that workload was cleaned.
REUSE = ProofScenario(
    "annotate with reuse, clean, export",
    (
        _command(f"annotate {_EARLIER_ROWS} --name e {_ANNOTATE_WITH} earlier-{LABELLED}", 3),
        _command(f"annotate {_ROWS} --name w {_ANNOTATE_WITH} {LABELLED}", 3),
        # Killed after its commit, it is repeated and finds nothing to clean: 2.
        _command("clean e --yes", 0, 2),
        _command(f"export w {OUTPUT}", 0),
    ),
    tuple(chat_line(_asked(row), row["text"]) for row in _GROWN),
    (
        lines.FailLines(custom_ids=frozenset({_asked(_EARLIER[1]), _asked(_GROWN[5])}), code="bad_thing"),
        answers.GarbleAnswers(custom_ids=frozenset({_asked(_EARLIER[2]), _asked(_GROWN[3])}), attempts=1),
        lines.ExpireLines(custom_ids=frozenset({_asked(_GROWN[6])}), attempts=1),
        batches.ShuffleOutput(),
    ),
    failing={_asked(_GROWN[place]): "bad_thing" for place in (5, 7)},
    executions={_asked(row): _BOUGHT.get(row["id"], 0) for row in _GROWN},
    successes={_asked(_EARLIER[2]): 2, _asked(_GROWN[3]): 2},
    rows=_GROWN,
    earlier_rows=_EARLIER,
)

#: Batches run long enough to be cancelled.
CANCELLED = ProofScenario(
    "submit, cancel, resubmit, export, clean, slowly",
    VERBS.commands,
    VERBS.requests,
    (*VERBS.faults, batches.SlowBatches(validating_seconds=80_000)),
    VERBS.failing,
    executions=None,
    speed=20_000.0,
)

#: The emulator's day takes two seconds, so that a batch lives for dozens of probes and ``stuck_seconds`` covers few of them.
_SLOW_SPEED = 43_200.0
_PROBES = {"BATCHKIT_STUCK_SECONDS": "0.4"}
_FLAPPING = frozenset(range(4, 40, 3))
#: Batches that the provider does not know at one probe, at two probes further apart than ``stuck_seconds``, and repeatedly.
ABSENT = ProofScenario(
    "run, batches unknown for moments",
    (_command(f"run {_INPUT} --name w --no-prefect --shard-lines 2 --output {OUTPUT}", 0),),
    tuple(chat_line(f"row-{number}", f"Question {number}") for number in range(6)),
    (
        batches.SlowBatches(finalizing_seconds=50_000),
        batches.AbsentBatches(batches=frozenset({1}), listings=frozenset({2})),
        batches.AbsentBatches(batches=frozenset({2}), listings=frozenset({2, 9})),
        batches.AbsentBatches(batches=frozenset({3}), listings=_FLAPPING),
    ),
    speed=_SLOW_SPEED,
    waits=_PROBES,
)


def losing_inputs(lines_per_shard: int) -> ProofScenario:
    """Return a run whose first two batches, each of ``lines_per_shard`` lines, do not find their input files."""
    return ProofScenario(
        f"run, inputs of {lines_per_shard} {'line' if lines_per_shard == 1 else 'lines'} lost",
        (_command(f"run {_INPUT} --name w --no-prefect --shard-lines {lines_per_shard} --output {OUTPUT}", 0),),
        tuple(chat_line(f"row-{number}", f"Question {number}") for number in range(lines_per_shard * 2 + 1)),
        (batches.LostInput(batches=frozenset({1, 2})),),
    )


#: One line, two, and many.
LOST_INPUTS = tuple(losing_inputs(count) for count in (1, 2, 20))


def adopting(provider: str, model: str) -> ProofScenario:
    """Return the adoption of batches that another client created on a provider, and the sending of what they left unanswered."""
    return ProofScenario(
        f"adopt, watch, resubmit, export on {provider}",
        (
            _command(f"adopt {_BATCHES} --name w", 3, buys=False),
            _command("watch w --no-prefect", 3, buys=False),
            _command("resubmit w --no-prefect", 3),
            _command(f"export w {OUTPUT}", 0, buys=False),
        ),
        tuple(foreign_rows(ROWS_OF_ALL, model=model)),
        FAULTS_OF_ALL,
        failing={"row-5": "invalid_request_error", "row-31": "model_not_found"},
        executions={"row-31": 0},
        is_foreign=True,
        provider=provider,
    )


ADOPTIONS = (adopting(DEFAULT_PROVIDER, _MODEL), adopting("openai", two_models("openai")[0]))

#: Scenarios that planted bugs refer to, by name.
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        RUN,
        SYNC,
        DEADLINE,
        ON_OPENAI,
        VERBS,
        ANNOTATE,
        REUSE,
        CANCELLED,
        ABSENT,
        *LOST_INPUTS,
        *ADOPTIONS,
    )
}

#: Additional faults of the provider for the first scenario; each has its own list of fault points.
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
        answers.RawSeparators(),
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


def under(trouble: str) -> ProofScenario:
    """Return the first scenario with the faults of one of ``TROUBLES``."""
    return ProofScenario(
        f"run, {trouble}",
        RUN.commands,
        RUN.requests,
        (*_COMMON_FAULTS, *TROUBLES[trouble]),
        RUN.failing,
        RUN.executions,
    )
