"""Requests of a table, and their results, on a terminal and for machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from batchkit import formatting
from batchkit.annotation.rendering import listed
from batchkit.annotation.voting import Review
from batchkit.cli.render import conclusion, console, exits, machine, outcome, priced
from batchkit.cli.render.outcome import next_step
from batchkit.engine import situation
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.annotation.preview import Preview
    from batchkit.annotation.totals import Totals
    from batchkit.api.outcomes import RunReport
    from batchkit.cli.render.terminal import Terminal
    from batchkit.engine.progress import Progress
    from batchkit.engine.waves import DriveUntil
    from batchkit.stats.agreement import Coefficient

_SHOWN_CHARS = 2_000
_SHOWN_URL_CHARS = 100
_TOLD_ELSEWHERE = frozenset({"messages", "model"})


def conclude(report: RunReport, terminal: Terminal, *, until: DriveUntil, review: str | None) -> int:
    """Print the progress or the result of a workload of a table; return the exit code. ``review`` has its disputed rows."""
    if not report.progress.is_finished:
        return conclusion.conclude(report, terminal, until=until)
    if report.output is None or report.rows is None or report.totals is None:
        raise TypeError("the table of a finished workload is written and added up")
    code = outcome.exit_code(report.progress)
    if terminal.is_for_machines:
        console.write_json(
            for_machines(report.progress, report.totals, exit_code=code, output=report.output, rows=report.rows)
        )
        return code
    out = console.stdout()
    console.tell(out, outcome.summary(report.progress, terminal.where, output=Path(report.output)))
    console.tell(out, totals_lines(report.totals, review=review))
    if report.totals.agreement:
        console.show(out, agreement_table(report.totals))
    if report.totals.gold:
        from batchkit.cli.render import gold  # noqa: PLC0415 - loads the statistics

        for label, figures in report.totals.gold.items():
            console.show(out, gold.gold_table(label, figures))
    return code


def show_preview(preview: Preview, terminal: Terminal) -> int:
    """Print the first requests and the cost of all; return the exit code."""
    if terminal.is_for_machines:
        console.write_json(preview_for_machines(preview))
    else:
        console.tell(console.stdout(), preview_lines(preview))
    return exits.SUCCEEDED


def preview_lines(preview: Preview) -> Iterator[Text]:
    """Return requests in readable form, and the totals of all of them."""
    for record in preview.shown:
        body = record["body"]
        yield Text.assemble((record["custom_id"], "bold"), (f"  {body['model']}  {record['url']}", "dim"))
        for message in body.get("messages", ()):
            yield from _message(message)
        for name, value in body.items():
            if name not in _TOLD_ELSEWHERE:
                yield Text.assemble((f"  {name}: ", "cyan"), _shown(value))
        yield Text()
    if preview.requests > len(preview.shown):
        yield Text(f"... and {preview.requests - len(preview.shown):,} more", style="dim")
    yield Text(
        f"{preview.name}: {formatting.counted(preview.rows, 'row')}, {formatting.counted(preview.requests, 'request')};"
        " nothing was sent"
    )
    if preview.skipped:
        total = formatting.counted(preview.skipped.total(), "row")
        yield Text(f"{total} would be skipped: {listed(preview.skipped)}")
    if preview.reused or preview.repeated:
        yield Text(situation.reuse_text(preview.requests, preview.reused, preview.repeated))
    for warning, count in preview.warnings.items():
        yield Text(f"warning: {warning} ({formatting.counted(count, 'request')})", style="yellow")
    yield from map(Text, priced.estimate_lines(preview.estimate))


def preview_for_machines(preview: Preview) -> dict[str, Any]:
    """Return the JSON of ``--dry-run``; tokens and cost are estimates."""
    return {
        "schema_version": machine.SCHEMA_VERSION,
        "name": preview.name,
        "rows": preview.rows,
        "requests": preview.requests,
        "shown": preview.shown,
        "skipped_rows": preview.skipped.total(),
        "skipped": preview.skipped,
        "reused": preview.reused,
        "repeated": preview.repeated,
        "warnings": preview.warnings,
        "estimate": priced.estimate_for_machines(preview.estimate),
        "models": {
            model: {
                "requests": share.requests,
                "prompt_tokens": share.prompt_tokens,
                "max_completion_tokens": None if share.unlimited else share.completion_tokens,
                "cost_usd_at_least": preview.pricing.price(model, share.prompt_tokens, 0),
            }
            for model, share in preview.models.items()
        },
    }


def totals_lines(totals: Totals, *, review: str | None) -> Iterator[Text]:
    """Return the cost of a finished workload, and the place of the disputed rows."""
    if totals.bad_answers:
        reasons = ", ".join(f"{count:,} {code}" for code, count in totals.bad_answers.items())
        yield Text(f"answers that did not count: {reasons}")
    cost = totals.cost_usd
    yield next_step("cost", "unknown" if cost is None else f"{priced.dollars(cost)} at the {totals.prices}")
    if totals.agreement:
        yield Text(_review_line(totals))
    if review is not None:
        yield next_step("review", review)


def _review_line(totals: Totals) -> str:
    disputed, thin, unanswered = (totals.review.get(reason, 0) for reason in Review)
    parts = [f"{formatting.counted(disputed, 'row')} {'has' if disputed == 1 else 'have'} annotators who disagree"]
    if thin:
        parts.append(f"{thin:,} {'has' if thin == 1 else 'have'} votes of at most half of the annotators")
    if unanswered:
        parts.append(f"{unanswered:,} {'has' if unanswered == 1 else 'have'} no valid answer")
    return ", ".join(parts)


def agreement_table(totals: Totals) -> Table:
    """Return a table of the agreement of annotators, one line per label or number; alpha is Krippendorff's.

    For numbers, which are marked ``interval``, alpha is that of the interval level and kappa has quadratic weights.
    """
    table = Table(title=f"agreement of {len(totals.annotators)} annotators", title_justify="left")
    table.add_column("label")
    for title in ("rows", "unanimous", "Cohen's kappa", "Fleiss' kappa", "alpha"):
        table.add_column(title, justify="right")
    for label, report in totals.agreement.items():
        unanimous = "-" if report.unanimous is None else f"{report.unanimous:.1%}"
        table.add_row(
            label if report.level == "nominal" else f"{label} ({report.level})",
            f"{report.rated_by_two:,}",
            unanimous,
            coefficient(report.mean_cohen),
            coefficient(report.fleiss),
            coefficient(report.alpha),
        )
    return table


def for_machines(progress: Progress, totals: Totals, *, exit_code: int, output: str, rows: int) -> dict[str, Any]:
    """Return the JSON result: that of ``run``, and the totals."""
    return {
        **machine.outcome(progress, exit_code=exit_code, output=Path(output)),
        "rows": rows,
        "cost_usd": totals.cost_usd,
        "bad_answers": totals.bad_answers,
        "annotators": list(totals.annotators),
        **{f"{reason}_rows": totals.review.get(reason, 0) for reason in Review},
        "agreement": {
            label: {
                "level": report.level,
                "rows": report.rated_by_two,
                "unanimous": report.unanimous,
                "cohen_kappa": report.mean_cohen.value,
                "fleiss_kappa": report.fleiss.value,
                "krippendorff_alpha": report.alpha.value,
            }
            for label, report in totals.agreement.items()
        },
        "gold": _gold_for_machines(totals),
    }


def _gold_for_machines(totals: Totals) -> dict[str, Any]:
    if not totals.gold:
        return {}
    from batchkit.cli.render import gold  # noqa: PLC0415 - loads the statistics

    return {
        label: {annotator: gold.for_machines(report) for annotator, report in figures.items()}
        for label, figures in totals.gold.items()
    }


def coefficient(coefficient: Coefficient) -> str:
    """Write a coefficient with three digits, or a dash where it is undefined."""
    return "-" if coefficient.value is None else f"{coefficient.value:.3f}"


def _message(message: dict[str, Any]) -> Iterator[Text]:
    content = message["content"]
    parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for part in parts:
        if part["type"] == "text":
            yield Text.assemble((f"  {message['role']}: ", "cyan"), _cut(part["text"], _SHOWN_CHARS))
        else:
            yield Text.assemble((f"  {message['role']}: ", "cyan"), f"[image: {_address(part['image_url']['url'])}]")


def _address(url: str) -> str:
    if url.startswith("data:"):
        return f"{url[5:].partition(';')[0]}, {len(url):,} bytes in base64"
    return _cut(url, _SHOWN_URL_CHARS)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else jsonl.dumps(value).decode()
    return _address(text) if text.startswith("data:") else _cut(text, _SHOWN_CHARS)


def _cut(text: str, most_chars: int) -> str:
    return text if len(text) <= most_chars else f"{text[:most_chars]}... ({len(text):,} characters)"
