"""The providers, and the check of one, as tables, sentences and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from batchkit import formatting
from batchkit.cli.render.machine import SCHEMA_VERSION
from batchkit.provider.check_report import Verdict
from batchkit.provider.dialects import dialect_named, names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchkit.provider.check_report import CheckReport
    from batchkit.provider.dialect import Dialect
    from batchkit.settings import Settings

#: Columns to copy from, which are never broken.
_WHOLE = ("address, key", "windows, a file")
_DATED = "documentation of "
_STYLES = {Verdict.SAME: "green", Verdict.DIFFERS: "red", Verdict.OPEN: "yellow", Verdict.NOTED: "cyan"}


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in _WHOLE)
    return table


def list_table() -> Table:
    """Return the table of ``provider list``."""
    table = _table("name", *_WHOLE, "known by documentation of")
    for name in names():
        dialect = dialect_named(name)
        limits = f"{dialect.limits.max_lines:,} lines\n{dialect.limits.max_bytes / 1e6:,.0f} MB"
        address = f"{dialect.base_url or 'your own: --base-url'}\n{dialect.key.variables[0]}"
        table.add_row(
            f"{name}\n{dialect.title}",
            address,
            f"{dialect.windows.described}\n{limits}\n{_kept(dialect)}",
            dialect.verified.removeprefix(_DATED),
        )
    return table


def _kept(dialect: Dialect) -> str:
    days = dialect.retention.output_days
    return "kept: not known" if days is None else f"kept {formatting.counted(days, 'day')}"


def listed() -> dict[str, Any]:
    """Return the JSON of ``provider list``; sizes are bytes, an absent address is null, and so is what is not known."""
    return {"schema_version": SCHEMA_VERSION, "providers": [_listed(dialect_named(name)) for name in names()]}


def _listed(dialect: Dialect) -> dict[str, Any]:
    return {
        "name": dialect.name,
        "title": dialect.title,
        "base_url": dialect.base_url,
        "key_variable": dialect.key.variables[0],
        "windows": [dialect.windows.shortest, dialect.windows.longest],
        "max_lines": dialect.limits.max_lines,
        "max_bytes": dialect.limits.max_bytes,
        "results_kept_days": dialect.retention.output_days,
        "verified": dialect.verified,
    }


def check_table(report: CheckReport) -> Table:
    """Return the table of ``provider check``."""
    table = _table("what", "the profile", "the server", "verdict")
    for fact in report.facts:
        verdict = Text(fact.verdict.value, _STYLES[fact.verdict])
        table.add_row(Text(fact.subject), Text(fact.expected), Text(fact.found), verdict)
    return table


def unanswered_table(report: CheckReport) -> Table:
    """Return the table of what a check cannot answer."""
    table = _table("not answered by this check", "why")
    for entry in report.unanswered:
        table.add_row(Text(entry.question), Text(entry.reason))
    return table


def conclusion(settings: Settings, report: CheckReport, save: Path | None, *, show_all: bool) -> Iterator[str]:
    """Yield what follows from a check, in sentences."""
    where = f"{settings.dialect.title} at {settings.address}"
    if report.problem is not None:
        yield f"{where} cannot be used: {report.problem}"
        if report.hint:
            yield f"hint: {report.hint}"
    elif report.differs:
        differing = sum(fact.verdict is Verdict.DIFFERS for fact in report.facts)
        yield f"{where} differs from its profile in {differing} of {_compared(report)} points"
        if save is None:
            yield "hint: --save FILE writes what was found; please report the table, so that the profile can be corrected"
    else:
        yield f"{where} does what its profile says, as far as it was tried"
    if save is not None and report.problem is None:
        yield f"written to {save}: as batchkit.toml in your project it is used instead of the profile"
    if report.unanswered and not show_all:
        yield f"{formatting.counted(len(report.unanswered), 'question')} of the documentation not answered: --all shows them"
    if report.left:
        yield f"could not be deleted: {', '.join(report.left)}"


def _compared(report: CheckReport) -> int:
    return sum(fact.verdict in {Verdict.SAME, Verdict.DIFFERS} for fact in report.facts)


def checked(settings: Settings, report: CheckReport) -> dict[str, Any]:
    """Return the JSON of ``provider check``; ``problem`` is null unless the server cannot be used."""
    return {
        "schema_version": SCHEMA_VERSION,
        "provider": settings.provider,
        "base_url": settings.address,
        "problem": report.problem,
        "differs": report.differs,
        "facts": [
            {"what": fact.subject, "profile": fact.expected, "server": fact.found, "verdict": fact.verdict.name.lower()}
            for fact in report.facts
        ],
        "corrections": report.corrections,
        "unanswered": [{"what": entry.question, "why": entry.reason} for entry in report.unanswered],
        "left": report.left,
    }
