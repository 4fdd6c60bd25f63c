"""The requests of a workload: a table that is paged by the server, and one request with everything that is stored of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from batchkit import formatting
from batchkit.annotation.recipe import load_recipe
from batchkit.errors import BatchkitError, UnknownWorkload
from batchkit.files import jsonl
from batchkit.models import RequestState
from batchkit.reports.rows import answer_of, error_text, prompt_of, request_line
from batchkit.reports.text import Cut, cut
from batchkit.reports.views import OUTCOME_TEXTS
from batchkit.store import custom_id_index, names, report_rows, request_rows
from batchkit.view.finding import MATCHES, Asked, find
from batchkit.view.rendering import link, respond

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from batchkit.models import ShardId, Workload
    from batchkit.store.report_rows import ReportRow
    from batchkit.store.request_rows import Carrier, Listed
    from batchkit.view.app import View

_ON_A_PAGE: Final = 50
_SHORT_BYTES: Final = 300
_LONG_BYTES: Final = 60_000
_MOST_MESSAGES: Final = 40
_MOST_NAMES: Final = 100
_STATES: Final = {state.value: state.value.replace("_", " ") for state in RequestState}


@dataclass(frozen=True, slots=True)
class Line:
    """A request in the table."""

    url: str
    custom_id: Cut
    place: int
    state: str
    attempts: int
    error: str
    model: str
    tokens: str


def table(view: View, request: Request) -> Response:
    """Show the requests that fit the fields of the filter, fifty at a time."""
    reader, query = view.reader, request.query_params
    workload = reader.find(query.get("name", ""))
    asked = Asked.of(query)
    with reader.store.read() as connection:
        total = workload.request_count or 0
        found = find(
            connection,
            workload,
            asked,
            total=total,
            after=query.get("after", ""),
            before=query.get("before", ""),
            limit=_ON_A_PAGE,
        )
        name_of = names.every(connection)
        lines = [_line(workload, one, name_of) for one in request_rows.listed(connection, workload.id, found.seqs)]
        is_indexed = custom_id_index.exists(connection)
        index_bytes = 0 if is_indexed or not asked.custom_id else custom_id_index.estimated_bytes(connection)
    here: dict[str, Any] = {"name": workload.name, **asked.fields}
    return respond(
        "requests.html",
        token=view.change_token,
        title=f"Requests of {workload.name}",
        tabs=tabs(workload, "requests"),
        name=workload.name,
        asked=asked,
        lines=lines,
        found=found,
        total=total,
        states=_STATES,
        matches=MATCHES,
        models=sorted(name for name in name_of.values())[:_MOST_NAMES],
        labels=_labels(workload),
        following=link("/requests", **here, after=found.after) if found.after is not None else "",
        previous=link("/requests", **here, before=found.before) if found.before is not None else "",
        first=link("/requests", **here),
        downloads=[(kind, link("/download", **here, format=kind)) for kind in ("csv", "jsonl", "parquet")],
        is_indexed=is_indexed,
        index_size=formatting.size(index_bytes),
    )


def one(view: View, request: Request) -> Response:
    """Show one request: its question, its attempts, its answer, its batches."""
    reader, query = view.reader, request.query_params
    workload = reader.find(query.get("name", ""))
    place = query.get("place", "")
    seq = int(place) - 1 if place.isascii() and place.isdigit() and len(place) < 19 else -1  # noqa: PLR2004 - digits of 64 bits
    with reader.store.read() as connection:
        row = next(iter(report_rows.report_rows(connection, workload.id, [seq])), None)
        if row is None:
            raise UnknownWorkload(
                f"{workload.name} has no request {place[:30]!r}", hint="its requests are numbered from 1"
            )
        shown = next(iter(request_rows.listed(connection, workload.id, [seq])))
        tried = request_rows.tried(connection, workload.id, seq)
        shard_ids = list(dict.fromkeys([*(attempt.shard_id for attempt in tried), row.shard_id]))
        carriers = request_rows.carriers(connection, shard_ids)
        moments = request_rows.shard_moments(connection, workload.id, shard_ids)
        model = names.every(connection).get(shown.model, "")
        line = request_line(reader.as_runner, connection, row)
    return respond(
        "request.html",
        token=view.change_token,
        title=f"{cut(row.custom_id, _SHORT_BYTES).text} in {workload.name}",
        tabs=tabs(workload, ""),
        name=workload.name,
        back=link("/requests", name=workload.name),
        row=row,
        place=seq + 1,
        total=workload.request_count or 0,
        custom_id=cut(row.custom_id, _SHORT_BYTES),
        messages=list(_messages(line)),
        is_known=line is not None,
        parameters=cut(_parameters(line), _LONG_BYTES),
        answer=cut(answer_of(row.body), _LONG_BYTES),
        error=cut(error_text(row.status_code, row.error_code, row.error_message), _LONG_BYTES),
        columns=list(_columns(workload, row)),
        raw=cut(_pretty(row.body), _LONG_BYTES),
        raw_url=link("/answer", name=workload.name, place=seq + 1) if row.body is not None else "",
        model=model,
        tried=[_tried(attempt, carriers) for attempt in tried],
        carriers=[_carrier(carriers[found], moments.get(found, [])) for found in shard_ids if found in carriers],
        previous=link("/request", name=workload.name, place=seq) if seq > 0 else "",
        following=link("/request", name=workload.name, place=seq + 2)
        if seq + 1 < (workload.request_count or 0)
        else "",
    )


def tabs(workload: Workload, current: str) -> list[tuple[str, str, bool]]:
    """Return the pages of a workload: label, address, whether it is the current one."""
    found = [("Overview", "/workload", "overview"), ("Requests", "/requests", "requests")]
    if workload.recipe is not None and load_recipe(workload.recipe).kind == "annotate":
        found += [("Annotation", "/annotation", "annotation"), ("Review", "/review", "review")]
    return [(label, link(path, name=workload.name), key == current) for label, path, key in found]


def _line(workload: Workload, row: Listed, name_of: Mapping[int | None, str]) -> Line:
    tokens = ""
    if row.prompt_tokens is not None:
        tokens = f"{row.prompt_tokens:,} in, {row.completion_tokens or 0:,} out"
    return Line(
        url=link("/request", name=workload.name, place=row.seq + 1),
        custom_id=cut(row.custom_id, _SHORT_BYTES),
        place=row.seq + 1,
        state=row.state,
        attempts=row.attempts,
        error=cut(error_text(row.status_code, row.error_code, row.error_message), _SHORT_BYTES).text,
        model=cut(name_of.get(row.model, ""), _SHORT_BYTES).text,
        tokens=tokens,
    )


def _labels(workload: Workload) -> list[str]:
    """Return the labels that answers can have, as far as the recipe names them."""
    recipe = None if workload.recipe is None else load_recipe(workload.recipe)
    return [] if recipe is None else [cut(choice, _SHORT_BYTES).text for choice in recipe.rules.choices][:_MOST_NAMES]


def _messages(line: Any) -> Iterator[tuple[str, Cut]]:
    """Yield the messages of a request: who speaks, and the text."""
    body = line.get("body") if isinstance(line, dict) else None
    messages = body.get("messages") if isinstance(body, dict) else None
    if isinstance(messages, list):
        for message in messages[:_MOST_MESSAGES]:
            if isinstance(message, dict):
                role = message.get("role")
                text = prompt_of({"body": {"messages": [message]}}) or ""
                yield cut(role if isinstance(role, str) else "", _SHORT_BYTES).text, cut(text, _LONG_BYTES)
        return
    if said := prompt_of(line):
        yield "input", cut(said, _LONG_BYTES)


def _parameters(line: Any) -> str:
    """Return the rest of a request's body as JSON: model, limits, schema."""
    body = line.get("body") if isinstance(line, dict) else None
    if not isinstance(body, dict):
        return ""
    return jsonl.dumps_readably({name: value for name, value in body.items() if name != "messages"})


def _columns(workload: Workload, row: ReportRow) -> Iterator[tuple[str, Cut]]:
    """Yield the columns that the output has for the answer, if the workload was made from a table."""
    if workload.recipe is None or row.body is None or row.state != RequestState.SUCCEEDED:
        return
    recipe = load_recipe(workload.recipe)
    try:
        from batchkit.annotation.columns import value_columns  # noqa: PLC0415 - an extra
        from batchkit.answers.check import AnswerCheck  # noqa: PLC0415 - as above
        from batchkit.datasets.values import text_of  # noqa: PLC0415 - as above

        reading = AnswerCheck(recipe.answer_rules({})).read(row.body)
        if reading.value is None:
            yield "rejected", cut(reading.message, _SHORT_BYTES)
            return
        for name, value in value_columns(recipe).spread(reading.value).items():
            yield cut(name, _SHORT_BYTES).text, cut(text_of(value), _LONG_BYTES)
    except (BatchkitError, ImportError) as error:
        # A schema of a module that is not here: the answer itself is shown all the same.
        yield "not read", cut(str(error), _SHORT_BYTES)


def _pretty(body: bytes | None) -> str:
    if body is None:
        return ""
    try:
        return jsonl.dumps_readably(jsonl.loads_leniently(body))
    except jsonl.MalformedJson:
        return body.decode("utf-8", "replace")


def _tried(attempt: request_rows.Tried, carriers: Mapping[ShardId, Carrier]) -> dict[str, Any]:
    carrier = carriers.get(attempt.shard_id)
    return {
        "number": attempt.attempt + 1,
        "what": OUTCOME_TEXTS.get(attempt.kind, attempt.kind),
        "error": cut(error_text(attempt.status_code, attempt.error_code, attempt.error_message), _SHORT_BYTES * 4),
        "batch": "" if carrier is None else carrier.batch_id or f"shard {carrier.number}",
        "tokens": ""
        if attempt.prompt_tokens is None
        else f"{attempt.prompt_tokens:,} in, {attempt.completion_tokens or 0:,} out",
    }


def _carrier(carrier: Carrier, moments: list[tuple[str, float]]) -> dict[str, Any]:
    return {
        "number": carrier.number,
        "lane": carrier.lane,
        "window": carrier.window,
        "lines": carrier.lines,
        "batch": cut(carrier.batch_id, _SHORT_BYTES).text,
        "status": cut(carrier.batch_status or carrier.state, _SHORT_BYTES).text,
        "moments": [(kind, f"{formatting.moment(at, to_the_second=True)} UTC") for kind, at in moments][
            :_MOST_MESSAGES
        ],
    }
