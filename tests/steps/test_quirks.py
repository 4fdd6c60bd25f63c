"""The quirks of the API and of compatible servers: each has faults that show it and a test of what batchkit does.

The tests are in the files named here, each named after its quirk (``test_quirk_07_...``); quirks that a run simply
survives are rows of ``SURVIVED``. The numbers are those of the table in the provider's README.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.emulator import fault_catalogue
from batchkit.emulator.faults import answers, batches, calls, lines
from tests.steps import test_quirks_of_batches, test_quirks_of_calls, test_quirks_of_files, test_quirks_of_lines
from tests.steps.seen import COUNT, run, taking_turns

if TYPE_CHECKING:
    from batchkit.emulator.faults import Fault

_MODULES = (test_quirks_of_batches, test_quirks_of_calls, test_quirks_of_files, test_quirks_of_lines)


@dataclass(frozen=True, slots=True)
class Quirk:
    """One quirk and the faults that show it."""

    name: str
    faults: tuple[type[Fault], ...]


def _quirk(name: str, *faults: type[Fault]) -> Quirk:
    return Quirk(name, faults)


QUIRKS: dict[int, Quirk] = {
    1: _quirk("output in another order", batches.ShuffleOutput),
    2: _quirk("lines in neither file", lines.DropLines, batches.LyingCounts),
    3: _quirk("repeated lines and ids", lines.DuplicateLines, batches.AllowDuplicateIds),
    4: _quirk("answers to nobody", lines.UnknownLines),
    5: _quirk("lines that are not JSON", lines.BreakLines),
    6: _quirk("download cut, HTTP tells", calls.CutDownloads),
    7: _quirk("download cut silently", calls.CutDownloads, calls.FileSizes, batches.LyingCounts),
    8: _quirk("status code zero", lines.ZeroStatusLines),
    9: _quirk("failures that the counts deny", batches.LyingCounts, lines.FailLines),
    10: _quirk("completed, all failed", lines.FailLines),
    11: _quirk("odd words for no file", batches.NoFileAs, batches.EmptyFiles),
    12: _quirk("expired with partial output", lines.ExpireLines, batches.LyingCounts),
    13: _quirk("expired lines listed or not", lines.ExpireLines, batches.UnlistedLines),
    14: _quirk("slow cancellation", batches.SlowCancel, batches.LateFiles, batches.UnlistedLines),
    15: _quirk("cancelling what has ended", batches.CancelEnded),
    16: _quirk("shapes of errors", batches.ErrorsShape, batches.ErrorsOnCompleted),
    17: _quirk("bad lines: skipped or fatal", batches.SkipBadLines, batches.RefuseModels),
    18: _quirk("input file unknown", batches.LostInput, calls.UnknownFileRefused),
    19: _quirk("new file not visible", calls.FileLag),
    20: _quirk("batch or file gone", batches.GoneBatches, calls.GoneFiles),
    21: _quirk("create accepted, reply lost", calls.LoseReply, batches.ListLag),
    22: _quirk(
        "status jumps",
        batches.SkipStatuses,
        batches.SparseTimestamps,
        batches.SlowBatches,
        batches.RenameStatus,
        batches.LateFiles,
    ),
    23: _quirk("stuck past expiry", batches.StuckBatches, batches.SkewedClock),
    24: _quirk("paging", calls.ListPages),
    25: _quirk("filter by id", calls.IdFilter),
    26: _quirk("free plan", calls.PlanGate),
    27: _quirk("rate limits", calls.RateLimit, calls.RequestTooLarge),
    28: _quirk("flex capacity", calls.FlexFull, lines.FailLines, calls.RefuseCalls),
    29: _quirk("pages from the CDN", calls.GatewayErrors),
    30: _quirk("failed generations", lines.FailGeneration),
    31: _quirk("unknown fields", batches.ExtraFields, batches.OmitFields, lines.ExtraLineFields),
    32: _quirk("raw line separators", answers.RawSeparators),
    33: _quirk("model retired", batches.RefuseModels, lines.RetireModels),
    34: _quirk("upload limit", calls.UploadTooLarge),
    35: _quirk(
        "cut, empty and refused answers",
        answers.CutAnswers,
        answers.EmptyAnswers,
        answers.RefuseAnswers,
        answers.FilterAnswers,
        answers.BreakToolCalls,
    ),
    36: _quirk("queue full", batches.FailBatches),
    37: _quirk("clock skew", batches.SkewedClock),
    38: _quirk("answer in several items", answers.SplitAnswers),
}

SURVIVED: dict[str, list[Fault]] = {
    "1 output in another order": [batches.ShuffleOutput()],
    "8 status code zero": [lines.ZeroStatusLines(count=2, attempts=1)],
    "11 no file as an empty string": [batches.NoFileAs(value="empty")],
    "11 no file as an empty object": [batches.NoFileAs(value="object")],
    "11 no file as an absent key": [batches.NoFileAs(value="absent")],
    "11 files of zero bytes": [batches.EmptyFiles()],
    "13 expired lines in neither file": [lines.ExpireLines(count=5, attempts=1), batches.UnlistedLines()],
    "16 errors as an empty object": [batches.ErrorsShape(shape="empty-object")],
    "22 statuses that are skipped": [batches.SkipStatuses(), batches.SparseTimestamps()],
    "22 a long time in finalizing": [batches.SlowBatches(finalizing_seconds=80_000)],
    "22 a status nobody knows": [batches.RenameStatus()],
    "24 no paging on the last page": [calls.LoseReply(on=("batches.create",)), calls.ListPages(how="no-paging")],
    "24 a null cursor on the last page": [calls.LoseReply(on=("batches.create",)), calls.ListPages(how="null-cursor")],
    "24 pages that overlap": [calls.LoseReply(on=("batches.create",)), calls.ListPages(how="overlap")],
    "24 an empty page with a cursor": [calls.LoseReply(on=("batches.create",)), calls.ListPages(how="empty-page")],
    "25 the filter is ignored": [calls.IdFilter(how="ignored")],
    "25 only the last id counts": [calls.IdFilter(how="last-only")],
    "25 ids are taken for one": [calls.IdFilter(how="joined")],
    "28 flex is full, for those who ask for it": [calls.FlexFull(on=("*",))],
    "29 pages now and then": [calls.GatewayErrors(on=("files", "batches.retrieve", "batches.list"), times=1)],
    "31 extra and missing fields": [batches.ExtraFields(), batches.OmitFields(), lines.ExtraLineFields()],
    "37 a provider an hour behind": [batches.SkewedClock(seconds=-3_600)],
    "37 a provider a day ahead": [batches.SkewedClock(seconds=86_400)],
}


@taking_turns("faults", SURVIVED)
def test_a_quirk_that_makes_no_difference(open_harness, faults):
    """Every request succeeds once on its own row, is executed as often as necessary, and no batch is cancelled."""
    seen = run(open_harness(*faults, limits={"page_size": 1}))

    seen.check_all_succeeded()
    hollow = sum(fault.count or 0 for fault in faults if isinstance(fault, lines.ZeroStatusLines))
    # The audio shard has two lines, so at most two of its lines are hit.
    assert seen.ledger.totals.requests_executed == COUNT + 2 * hollow
    assert "batches.cancel" not in seen.ledger.calls


def _tests_of(number: int) -> str:
    """Return the source of everything that tests one quirk."""
    found = []
    for module in _MODULES:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            numbers = re.match(r"test_quirk((?:_\d\d)+)_", name)
            if numbers and f"_{number:02}" in numbers[1]:
                found.append(inspect.getsource(function))
    found += [repr(faults) for row, faults in SURVIVED.items() if row.split()[0] == str(number)]
    return "\n".join(found)


def test_each_quirk_is_shown_by_its_faults():
    """Every quirk has a test that uses each of its faults."""
    for number, quirk in QUIRKS.items():
        source = _tests_of(number)
        for fault in quirk.faults:
            assert fault.__name__ in source, f"no test of quirk {number} uses {fault.name}"


_HEADING = "## Quirks of the API, and what batchkit does"


def test_the_readme_has_every_quirk():
    """Each number from 1 to 38 has a row, which names faults of the catalogue and among them those that show the quirk."""
    readme = (Path(__file__).parents[2] / "batchkit" / "provider" / "README.md").read_text()
    section = readme.partition(f"{_HEADING}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if "| " in line]
    named = {int(cells[0]): set(re.findall(r"`([^`]+)`", cells[2])) for cells in rows if cells[0].isdecimal()}
    catalogue = {fault.name for fault in fault_catalogue()}

    assert sorted(named) == sorted(QUIRKS) == list(range(1, 39))
    for number, names in named.items():
        assert names <= catalogue, (number, names - catalogue)
        assert names == {fault.name for fault in QUIRKS[number].faults}, number
