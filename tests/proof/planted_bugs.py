"""Bugs that a test plants in a command: the proof must find each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import structs

from batchkit.models import RefusalKind, ShardState
from batchkit.provider import wire
from batchkit.provider.client import BatchApi
from batchkit.provider.dialect import ListStyle
from batchkit.steps import answers, attach, merge, submit, unfinished
from batchkit.steps.request_digests import RequestDigests
from batchkit.store import batches, placements, shards, workloads

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId
    from batchkit.steps.context import StepReport


@dataclass(frozen=True)
class PlantedBug:
    """A bug, the count of violations that reveals it, the scenario or trouble it needs, and the point where the command is killed.

    With ``meets_error``, an error is injected there instead of the kill.
    """

    apply: Callable[[], None]
    shows_as: str
    scenario: str | None = None
    trouble: str | None = None
    dies_at: str | None = None
    meets_error: bool = False


def _see_nothing_in_the_list() -> None:
    BatchApi.list_batches = lambda _provider, **_filter: iter(())  # type: ignore[method-assign] # a planted bug


def _create_first_and_write_it_down_later() -> None:
    def eager(context: Any, workload: Any, shard: Any) -> StepReport:
        batch = context.provider.create_batch(
            input_file_id=shard.input_file_id,
            endpoint=shard.endpoint,
            window=shard.window,
            metadata=submit.metadata_of(workload, shard),
        )
        now = context.clock()
        with context.store.write() as connection:
            shards.transition(
                connection,
                shard,
                ShardState.SUBMITTING,
                at=now,
                owner=context.owner,
                detail="late",
                keep_lease=True,
                submitting_since=now,
            )
            shard = shards.get(connection, shard.id)
        return attach.attach(context, shard, batch, detail=batch.id, count="submitted")

    submit._create = eager


def _match_by_position() -> None:
    take, take_plain = answers.AnswerReader._take, answers.AnswerReader._take_answers

    def misplaced_block(reader: Any, block: Any) -> bool:
        ids = reader._shard_requests.custom_ids
        places = range(reader.shard_answers.lines, reader.shard_answers.lines + len(block.custom_ids))
        return take_plain(reader, structs.replace(block, custom_ids=[ids[place % len(ids)] for place in places]))

    def misplaced(reader: Any, record: Any, line: bytes) -> None:
        ids = reader._shard_requests.custom_ids
        take(reader, {**record, "custom_id": ids[(reader.shard_answers.lines - 1) % len(ids)]}, line)

    answers.AnswerReader._take = misplaced  # type: ignore[assignment,method-assign] # a planted bug
    answers.AnswerReader._take_answers = misplaced_block  # type: ignore[assignment,method-assign] # a planted bug


def _let_later_errors_win() -> None:
    answers.outranks = lambda _new, _old: True  # type: ignore[assignment,attr-defined] # a planted bug


def _believe_torn_files() -> None:
    merge._FETCHES = 1
    BatchApi._announced_size = lambda _provider, _segment: (None, True)  # type: ignore[assignment,method-assign] # a planted bug


def _believe_one_absence() -> None:
    def mark_missing(_connection: Connection, _batch_id: str, *, at: float, longest_gap: float) -> float:
        return at - 100 * longest_gap

    batches.mark_missing = mark_missing  # type: ignore[assignment] # a planted bug


def _blame_the_lines_for_a_lost_file() -> None:
    BatchApi.refusal_kind = lambda _provider, **_said: RefusalKind.CONTENT  # type: ignore[method-assign] # a planted bug


def _create_again_after_any_error() -> None:
    create = BatchApi.create_batch

    def create_batch(provider: BatchApi, **call: Any) -> Any:
        try:
            return create(provider, **call)
        except RuntimeError:
            return create(provider, **call)

    BatchApi.create_batch = create_batch  # type: ignore[assignment,method-assign] # a planted bug


def _believe_that_all_ask_the_same() -> None:
    def of_lines(_digests: RequestDigests, lines: list[bytes], *, block: bytes = b"") -> list[bytes | None]:
        return [b"the same" for _ in lines or block]

    RequestDigests.of_lines = of_lines  # type: ignore[assignment,method-assign] # a planted bug


def _read_no_page_after_an_id() -> None:
    page = wire.page

    def empty(payload: object, style: ListStyle = ListStyle.CURSOR, **given: Any) -> wire.Page | None:
        return wire.Page((), None, False) if style is ListStyle.AFTER else page(payload, style, **given)

    wire.page = empty


def _overlook_that_batches_share_requests() -> None:
    placements.add = lambda _connection, _placed: None  # type: ignore[assignment] # a planted bug


def _call_an_adoption_whole_at_its_beginning() -> None:
    begin = unfinished.begin

    def whole(context: Any, name: str, add: Any) -> Any:
        workload = begin(context, name, add)
        if workload is not None:
            with context.store.write() as connection:
                workloads.finish_split(connection, workload.id, sha256="early", request_count=0, at=context.clock())
        return workload

    unfinished.begin = whole


def _send_what_an_adoption_misses() -> None:
    finish_split = workloads.finish_split

    def let_go(connection: Connection, workload_id: WorkloadId, **given: Any) -> None:
        finish_split(connection, workload_id, **given)
        workloads.set_values(connection, workload_id, holds=False)

    workloads.finish_split = let_go


PLANTED_BUGS = {
    "a creation is repeated after an unexpected error": PlantedBug(
        _create_again_after_any_error, "bought_twice", dies_at="call POST /batches, answer read", meets_error=True
    ),
    "a batch that is unknown once counts as gone": PlantedBug(
        _believe_one_absence, "bought_twice", scenario="run, batches unknown for moments"
    ),
    "a lost input file counts against its lines": PlantedBug(
        _blame_the_lines_for_a_lost_file, "lost", scenario="run, inputs of 1 line lost"
    ),
    "a lost reply is answered by sending again": PlantedBug(
        _see_nothing_in_the_list, "bought_twice", trouble="create answers 500 after accepting"
    ),
    "a batch is created before the intent is written": PlantedBug(
        _create_first_and_write_it_down_later, "bought_twice", dies_at="call POST /batches, answer read"
    ),
    "answers are matched by position": PlantedBug(_match_by_position, "wrong_rows"),
    "an answer to another question is reused": PlantedBug(
        _believe_that_all_ask_the_same, "wrong_rows", scenario="annotate with reuse, clean, export"
    ),
    "a later error overwrites a success": PlantedBug(
        _let_later_errors_win, "lost", trouble="repeated and unknown lines"
    ),
    "a list in pages after an id is not read": PlantedBug(
        _read_no_page_after_an_id,
        "bought_twice",
        scenario="run on openai",
        dies_at="call POST /batches, answer read",
    ),
    "an answer in another adopted batch is overlooked": PlantedBug(
        _overlook_that_batches_share_requests, "bought_twice", scenario="adopt, watch, resubmit, export on groq"
    ),
    "an adoption counts as whole before it is": PlantedBug(
        _call_an_adoption_whole_at_its_beginning,
        "lost",
        scenario="adopt, watch, resubmit, export on groq",
        dies_at="commit in steps/adopt.write, after",
    ),
    "what an adoption misses is sent before resubmit": PlantedBug(
        _send_what_an_adoption_misses, "broken", scenario="adopt, watch, resubmit, export on groq"
    ),
    "what is missing from a torn file is sent again": PlantedBug(
        _believe_torn_files, "bought_twice", trouble="downloads cut, ending cleanly"
    ),
}
