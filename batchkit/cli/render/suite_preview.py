"""A dry run of a suite, on a terminal and for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from batchkit import formatting
from batchkit.cli.render import annotated, console, exits, priced
from batchkit.evaluation.suite_examples import left_out_note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.api.suite_previews import SuitePreview
    from batchkit.cli.render.terminal import Terminal
    from batchkit.evaluation.power import FindableFall


def show(preview: SuitePreview, terminal: Terminal) -> int:
    """Print the first requests, the cost of all, and what the rows can find; return the exit code."""
    if terminal.is_for_machines:
        console.write_json(_for_machines(preview))
    else:
        console.tell(console.stdout(), _lines(preview))
    return exits.SUCCEEDED


def _for_machines(preview: SuitePreview) -> dict[str, Any]:
    return {
        **annotated.preview_for_machines(preview.requests),
        "judgements": {judge.scorer: judge.requests for judge in preview.judges},
        "judges": {judge.scorer: priced.estimate_for_machines(judge.estimate) for judge in preview.judges},
        "left_out_as_examples": preview.left_out,
        "findable_falls": [fall._asdict() for fall in preview.findable],
    }


def _lines(preview: SuitePreview) -> Iterator[Text]:
    yield from annotated.preview_lines(preview.requests)
    for judge in preview.judges:
        yield Text()
        yield Text(
            f"the judge {judge.scorer!r}: up to {formatting.counted(judge.requests, 'request')} more", style="bold"
        )
        yield from map(Text, priced.estimate_lines(judge.estimate))
    if preview.left_out:
        yield Text(left_out_note(preview.left_out))
    rows = formatting.counted(preview.requests.rows, "row")
    yield Text()
    yield Text(f"the smallest fall that {rows} can find, with a chance of 80 % and of 95 %:", style="bold")
    several = len({fall.prompt for fall in preview.findable}) > 1
    for fall in preview.findable:
        prompt = f" with {fall.prompt}" if several else ""
        yield Text(f"  {fall.scorer} of {fall.model}{prompt}: {_fall(fall.found_80)} and {_fall(fall.found_95)}")
    yield from map(Text, dict.fromkeys(_grounds(fall) for fall in preview.findable))


def _fall(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0.0):.3g} %"


def _grounds(fall: FindableFall) -> str:
    if fall.source is None:
        ground = (
            f"assumed: {_percent(fall.changing)} of the rows change by chance from run to run (no two runs show it yet)"
        )
    elif fall.changing is None:
        ground = f"from {fall.source}: how far the scores of the rows changed by chance"
    else:
        ground = f"from {fall.source}: about {_percent(fall.changing)} of the rows change by chance"
    tests = f", corrected for {fall.tests:,} tests" if fall.tests > 1 else ""
    clusters = (
        f"; clusters make the variance {fall.design_effect:.2g} times as large" if fall.design_effect != 1 else ""
    )
    beyond = f"; a fall beyond {fall.beyond:g}" if fall.beyond else ""
    return f"{ground}; level {fall.level:.2g}{tests}{beyond}{clusters}"
