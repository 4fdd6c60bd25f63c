"""The pages' frame: templates of this room and of the reports, one style sheet, one script, and the policy that allows nothing else."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.responses import HTMLResponse

import batchkit
from batchkit.reports import page

if TYPE_CHECKING:
    from jinja2 import Environment

#: The files of this room; all others are the reports'.
_OWN: Final = frozenset(
    {
        "annotation.html",
        "base.html",
        "compare.html",
        "error.html",
        "home.html",
        "request.html",
        "requests.html",
        "review.html",
    }
    | {"run.html", "suite.html", "tables.html", "workload.html", "review.js", "view.css", "view.js"}
)


def respond(
    template: str, *, token: str, status: int = 200, scripts: tuple[str, ...] = (), **values: Any
) -> HTMLResponse:
    """Return a page; ``token`` is that of changes, ``scripts`` are further scripts of this room."""
    style = page.asset("page.css") + _read("view.css")
    script = "\n".join(_read(name) for name in ("view.js", *scripts))
    text = (
        _environment()
        .get_template(template)
        .render(
            **values,
            token=token,
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - as above
            version=batchkit.__version__,
        )
    )
    policy = page.policy(style, script, is_served=True)
    # Half a character, as a server may have sent it, must not keep the rest of a page from being shown.
    return HTMLResponse(text.encode("utf-8", "replace"), status, headers={"content-security-policy": policy})


def link(path: str, **values: object) -> str:
    """Return an address of ours with a query of the values that are not None or empty."""
    given = {name: str(value) for name, value in values.items() if value not in {None, ""}}
    return f"{path}?{urlencode(given)}" if given else path


@cache
def _read(name: str) -> str:
    if name not in _OWN:
        return page.asset(name)
    return files("batchkit.view").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = page.environment_of(_read)
    environment.globals["link"] = link
    return environment
