"""Prompt templates: Jinja2 in a sandbox; a column that a row does not have is an error."""

from __future__ import annotations

import difflib
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, TemplateError, meta, nodes
from jinja2.filters import make_attrgetter
from jinja2.sandbox import ImmutableSandboxedEnvironment

from batchkit.datasets.values import json_text, text_of
from batchkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

#: The name of the whole row in a template, for columns whose names are not identifiers: ``{{ row["unit price"] }}``.
ROW = "row"
_SHOWN_COLUMNS = 12


class Unrendered(ValueError):
    """A template that could not be rendered for one row; the message says why."""


class Template:
    """One template, checked against the columns of a table.

    ``title`` names it in messages. ``columns`` are the columns that it reads. Values are shown by ``values.text_of``. Raises ``UsageError`` for a mistake in the template, an unknown column, and an attempt to leave the sandbox.
    """

    def __init__(self, text: str, columns: Sequence[str], *, title: str) -> None:
        self.title = title
        environment = _environment()
        try:
            tree = environment.parse(text)
            self._template = environment.from_string(_with_texts(environment.parse(text)))
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            where = f" in line {line}" if line else ""
            raise UsageError(
                f"the {title} is not a template{where}: {error.message or error}",
                hint="columns are written as {{ column }}; for a literal {{ write {{ '{{' }}",
            ) from None
        _keep_inside(tree, title)
        self.columns = frozenset(_columns_read(tree, columns, title))

    def render(self, row: Mapping[str, Any]) -> str:
        """Return the text for a row, which has at least ``columns``. Raises ``Unrendered``."""
        try:
            return self._template.render({ROW: row, **row})
        except Exception as error:  # noqa: BLE001 - a template is a program: it may fail in any way
            raise Unrendered(f"the {self.title} cannot be rendered: {error}") from None


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    # A prompt is not a page: < and & are not escaped.
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, finalize=text_of)
    environment.filters |= {"tojson": json_text, "string": text_of, "join": _joined}
    # The same row must always make the same request.
    del environment.filters["random"], environment.globals["lipsum"]
    return environment


def _joined(items: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    read = None if attribute is None else make_attrgetter(_environment(), attribute)
    return d.join(text_of(item if read is None else read(item)) for item in items)


def _with_texts(tree: nodes.Template) -> nodes.Template:
    """Return a template in which ``~`` joins values as they are shown alone."""
    for joined in tree.find_all(nodes.Concat):
        joined.nodes = [nodes.Filter(node, "string", [], [], None, None) for node in joined.nodes]
    return tree


def _keep_inside(tree: nodes.Template, title: str) -> None:
    """Refuse constructs that the sandbox would stop only when the first row is rendered."""
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        raise UsageError(f"the {title} loads another template in line {node.lineno}", hint="write it in one file")
    for name, line in _attributes(tree):
        if name.startswith("_"):
            raise UsageError(
                f"the {title} reads {name!r} in line {line}, which is not the name of a column: a template reads data only",
                hint='a column of such a name is read as {{ row["_name"] }}',
            )


def _attributes(tree: nodes.Template) -> Iterator[tuple[str, int]]:
    for read in tree.find_all(nodes.Getattr):
        yield read.attr, read.lineno
    for applied in tree.find_all(nodes.Filter):
        if applied.name in {"attr", "map"}:
            for word in (*applied.args, *(named.value for named in applied.kwargs)):
                if isinstance(text := _constant(word), str):
                    yield text, applied.lineno


def _columns_read(tree: nodes.Template, columns: Sequence[str], title: str) -> Iterator[str]:
    """Yield the columns that a template reads, all of them if it reads the row as a whole. Raises ``UsageError``."""
    for name in sorted(meta.find_undeclared_variables(tree)):
        if name == ROW and ROW not in columns:
            yield from _columns_of_row(tree, columns, title)
        elif name in columns:
            yield name
        elif name not in _environment().globals:
            raise unknown_column(name, columns, reader=_reader(title))


def _reader(title: str) -> str:
    return title if title.startswith("--") else f"the {title}"


def _columns_of_row(tree: nodes.Template, columns: Sequence[str], title: str) -> Iterator[str]:
    named = 0
    reads: list[tuple[nodes.Expr, Any]] = [(read.node, read.attr) for read in tree.find_all(nodes.Getattr)]
    reads += [(read.node, _constant(read.arg)) for read in tree.find_all(nodes.Getitem)]
    for of_what, name in reads:
        if not (isinstance(of_what, nodes.Name) and of_what.name == ROW and isinstance(name, str)):
            continue
        if name not in columns:
            raise unknown_column(name, columns, reader=_reader(title))
        named += 1
        yield name
    if named < sum(name.name == ROW for name in tree.find_all(nodes.Name)):
        yield from columns


def _constant(node: nodes.Node) -> Any:
    return node.value if isinstance(node, nodes.Const) else None


def unknown_column(name: str, columns: Sequence[str], *, reader: str) -> UsageError:
    """Return an error for a column that the table does not have, with the closest name as a hint."""
    close = difflib.get_close_matches(name, columns, n=1)
    shown = ", ".join(columns[:_SHOWN_COLUMNS]) + (", ..." if len(columns) > _SHOWN_COLUMNS else "")
    hint = f"did you mean {close[0]!r}? The" if close else "the"
    return UsageError(
        f"{reader} asks for the column {name!r}, which the table does not have", hint=f"{hint} columns are: {shown}"
    )
