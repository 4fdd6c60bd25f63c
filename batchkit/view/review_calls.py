"""The page of a review, and the calls of its script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from batchkit.datasets import require_extra
from batchkit.errors import UsageError
from batchkit.files import jsonl
from batchkit.reports.text import shown
from batchkit.view.rendering import link, respond
from batchkit.view.requests import tabs

if TYPE_CHECKING:
    from starlette.requests import Request

    from batchkit.view.app import View
    from batchkit.view.reviewing import Reviewer, Task

_NAME_CHARS: Final = 60
_NOTE_CHARS: Final = 2_000
_VALUE_CHARS: Final = 20_000
_MOST_SKIPPED: Final = 10_000
_GONE: Final = 409
#: How the names of the questions stand in a call, before them nothing else.
_VALUE: Final = "value."


def page(view: View, request: Request) -> Response:
    """Show the page on which rows are settled; its script does the rest."""
    require_extra()
    name = request.query_params.get("name", "")
    task = view.reviewing.task(name)
    return respond(
        "review.html",
        token=view.change_token,
        scripts=("review.js",),
        title=f"Review {name}",
        tabs=tabs(task.workload, "review"),
        name=task.workload.name,
        questions=task.questions,
        is_all=request.query_params.get("all") == "1",
        some=link("/review", name=name),
        every=link("/review", name=name, all=1),
    )


def take(view: View, request: Request) -> Response:
    """Answer with the next row, claimed for the reviewer."""
    task, who, given = _given(view, request)
    is_all = given.get("all") == "1"
    skipped = frozenset(int(text) for text in given.get("skipped", "").split(",")[:_MOST_SKIPPED] if _is_number(text))
    queue = task.queue(is_all=is_all)
    place = view.reviewing.take(task, who, is_all=is_all, skipped=skipped)
    row = None if place is None else task.row(queue, place)._asdict()
    return _json({"row": row, "done": view.reviewing.done(task), "open": len(queue.numbers)})


def hold(view: View, request: Request) -> Response:
    """Renew a claim."""
    task, who, given = _given(view, request)
    is_held = view.reviewing.hold(task, who, _number(given))
    return _json({"held": is_held}, 200 if is_held else _GONE)


def decide(view: View, request: Request) -> Response:
    """Store a decision."""
    task, who, given = _given(view, request)
    values = {
        name.removeprefix(_VALUE): value[:_VALUE_CHARS] for name, value in given.items() if name.startswith(_VALUE)
    }
    decision = task.decision(values)
    is_stored = view.reviewing.decide(task, who, _number(given), decision, given.get("note", "")[:_NOTE_CHARS])
    return _json({"stored": is_stored}, 200 if is_stored else _GONE)


def undo(view: View, request: Request) -> Response:
    """Take a decision back, and answer with its row."""
    task, who, given = _given(view, request)
    number = _number(given)
    before = view.reviewing.undo(task, who, number)
    queue = task.queue(is_all=given.get("all") == "1")
    if before is None or before.decision is None or number not in queue.numbers:
        return _json({"row": None}, _GONE)
    row = task.row(queue, queue.numbers.index(number), decided=jsonl.loads(before.decision), note=before.note or "")
    return _json({"row": row._asdict(), "done": view.reviewing.done(task), "open": len(queue.numbers)})


def skip(view: View, request: Request) -> Response:
    """Give a row back."""
    task, who, given = _given(view, request)
    view.reviewing.release(task, who, _number(given))
    return _json({})


def _given(view: View, request: Request) -> tuple[Task, Reviewer, dict[str, str]]:
    require_extra()
    from batchkit.view.reviewing import Reviewer  # noqa: PLC0415 - an extra

    given: dict[str, str] = request.state.given
    name = " ".join(shown(given.get("reviewer", "")).split())[:_NAME_CHARS]
    tab = given.get("tab", "")
    if not name:
        raise UsageError("a review needs the name of who reviews")
    if not (tab.isascii() and tab.isalnum() and len(tab) <= _NAME_CHARS):
        raise UsageError("the page is of another version: reload it")
    return view.reviewing.task(given.get("name", "")), Reviewer(name, tab), given


def _number(given: dict[str, str]) -> int:
    text = given.get("number", "")
    if not _is_number(text):
        raise UsageError(f"{text[:_NAME_CHARS]!r} is no row")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19  # noqa: PLR2004 - digits of 64 bits


def _json(value: dict[str, Any], status: int = 200) -> Response:
    return Response(jsonl.dumps(value), status, media_type="application/json")
