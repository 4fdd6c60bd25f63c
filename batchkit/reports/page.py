"""The page: one self-contained file.

Texts from a model or a provider pass through Jinja2's autoescape only: the page has no JSON, no address that is made from such a
text, and only our script, which reads the page and writes no HTML. The policy in the page's head
(Content-Security-Policy, w3.org/TR/CSP3) names our style sheet and our script by their digests, and forbids every request and
all other code.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

import batchkit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchkit.reports.annotation_report import AnnotationView
    from batchkit.reports.evaluation_report import EvaluationView
    from batchkit.reports.rows import ShownRow
    from batchkit.reports.views import WorkloadView


def render(
    *,
    title: str,
    workloads: Sequence[WorkloadView],
    evaluation: EvaluationView | None,
    annotation: AnnotationView | None = None,
    rows: Sequence[ShownRow],
    rows_title: str,
    rows_note: str,
    kinds: Sequence[tuple[str, str, int]],
    opened: str = "",
) -> str:
    """Return the page of a workload, or of an evaluation with its workloads; ``opened`` is the kind of rows that it opens with."""
    style, script = asset("page.css"), asset("page.js")
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            workloads=workloads,
            evaluation=evaluation,
            annotation=annotation,
            rows=rows,
            rows_title=rows_title,
            rows_note=rows_note,
            kinds=kinds,
            opened=opened,
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - as above
            policy=policy(style, script),
            version=batchkit.__version__,
        )
    )


def policy(style: str, script: str, *, is_served: bool = False) -> str:
    """Return the Content-Security-Policy that allows one style sheet and one script, and nothing else.

    The forms and the script of a page that ``is_served`` may ask its own server; nobody may put it into a frame.
    """
    rest = "form-action 'self'; connect-src 'self'; frame-ancestors 'none'" if is_served else "form-action 'none'"
    return f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; base-uri 'none'; {rest}"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def asset(name: str) -> str:
    """Return a file of this room: a template, the style sheet or the script."""
    return files("batchkit.reports").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return environment_of(asset)


def environment_of(read: Callable[[str], str]) -> Environment:
    """Return an environment that escapes every value; ``read`` returns the template of a name."""
    environment = Environment(
        loader=FunctionLoader(read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["thousands"] = _thousands
    return environment


def _thousands(value: Any) -> str:
    return f"{value:,}"
