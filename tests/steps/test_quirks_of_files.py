"""Quirks of files: truncated downloads, limits, files not yet visible or already gone. See ``test_quirks`` for the table."""

from __future__ import annotations

import pytest

from batchkit.emulator.faults import batches, calls
from batchkit.errors import ProviderUnreachable
from tests.steps.seen import COUNT, run, taking_turns
from tests.workloads import chat_line

#: So short that a missing file is requested five times within a moment.
SETTLE_SECONDS = 0.12
#: The share of a download that arrives: less than one of the two lines of the smaller file.
KEEP = 0.3
#: One shard, because two would share the count of calls.
ONE_SHARD = [chat_line(f"row-{number}", f"Line {number}") for number in range(10)]


def _check_nothing_was_sent_again(seen, *, downloads):
    """Check that all succeeded from the two batches of the first try, each of whose files was fetched this often."""
    seen.check_all_succeeded()
    assert len(seen.ledger.batches) == 2
    assert len(seen.ledger.uploads) == 2
    assert seen.ledger.totals.requests_carried == COUNT
    assert seen.ledger.calls["files.content"] == 2 * downloads
    assert {line["attempts"] for line in seen.lines} == {1}


@taking_turns(
    "how,torn",
    {
        "less than its length": ("content-length", 1),
        "less, twice in a row": ("content-length", 2),
        "a chunk short": ("chunked", 1),
        "a chunk short, twice in a row": ("chunked", 2),
    },
)
def test_quirk_06_a_download_that_breaks_off_is_fetched_again(open_harness, how, torn):
    """HTTP reports the truncation: the file is fetched again, and no request that seemed to be missing is sent again."""
    harness = open_harness(calls.CutDownloads(how=how, times=torn, per_object=True))
    harness.runner = harness.open_runner(http_attempts=1, settle_seconds=SETTLE_SECONDS)

    seen = run(harness)

    _check_nothing_was_sent_again(seen, downloads=torn + 1)
    assert seen.noted("it broke off after")


@taking_turns(
    "how,at_line_end,torn",
    {
        "closed in mid-line": ("close-delimited", False, 1),
        "closed at a line end, twice in a row": ("close-delimited", True, 2),
        "a length too short, in mid-line, twice in a row": ("clean", False, 2),
        "a length too short, at a line end": ("clean", True, 1),
    },
)
def test_quirk_07_a_silent_cut_is_detected_by_the_files_size(open_harness, how, at_line_end, torn):
    """The file object states the size, so even a cut between two lines is detected."""
    harness = open_harness(calls.CutDownloads(how=how, keep=KEEP, at_line_end=at_line_end, times=torn, per_object=True))
    harness.runner = harness.open_runner(http_attempts=1, settle_seconds=SETTLE_SECONDS)

    seen = run(harness)

    _check_nothing_was_sent_again(seen, downloads=torn + 1)
    assert seen.noted("bytes came, the file has")


@taking_turns(
    "say,at_line_end,counts,torn",
    {
        "by its last line": ("absent", False, "null", 1),
        "by its last line, twice in a row": ("absent", False, "null", 2),
        "by the counts": ("null", True, None, 1),
        "by the counts, twice in a row": ("null", True, None, 2),
        "by requests without a line": ("zero", True, "zeros", 1),
        "by requests without a line, twice in a row": ("zero", True, "zeros", 2),
    },
)
def test_quirk_07_a_silent_cut_is_detected_by_missing_lines(open_harness, say, at_line_end, counts, torn):
    """Without a size, a torn last line, or fewer lines than counted or requested, shows the cut; the file is fetched again."""
    cut = calls.CutDownloads(how="clean", keep=KEEP, at_line_end=at_line_end, times=torn, per_object=True)
    lies = [] if counts is None else [batches.LyingCounts(say=counts)]

    seen = run(open_harness(cut, calls.FileSizes(say=say), *lies))

    _check_nothing_was_sent_again(seen, downloads=torn + 1)


def test_quirk_07_a_size_that_stays_wrong_is_never_accepted_and_never_paid_for(open_harness):
    """A file that is always shorter than its object says ends the run (exit code 4), with nothing sent again.

    Once the provider has corrected it, the same run takes its answers.
    """
    harness = open_harness(calls.FileSizes(say="wrong"))
    harness.runner = harness.open_runner(http_attempts=1, settle_seconds=SETTLE_SECONDS, outage_seconds=0.2)

    with pytest.raises(ProviderUnreachable, match=r"bytes came, the file has") as caught:
        run(harness)

    assert caught.value.exit_code == 4
    assert len(harness.emulator.ledger().batches) == 2
    harness.emulator.set_scenario("clean")
    seen = run(harness)
    seen.check_all_succeeded()
    assert len(seen.ledger.batches) == 2


@taking_turns("at_line_end", {"in mid-line": False, "at a line end": True})
def test_quirk_07_what_stays_torn_is_kept_and_the_rest_is_paid_for_twice(open_harness, at_line_end):
    """Without a size, files torn in three downloads are accepted: a note says that sending again costs twice.

    Exactly the answers after the tear are bought again; those before it are kept.
    """
    fault = calls.CutDownloads(how="clean", keep=KEEP, at_line_end=at_line_end, times=3)
    harness = open_harness(fault, calls.FileSizes(say="absent"))

    seen = run(harness, ONE_SHARD)

    again = [line for line in seen.lines if line["attempts"] == 2]
    assert 0 < len(again) < len(ONE_SHARD)
    seen.check_all_succeeded(bought_twice=len(again))
    assert seen.ledger.calls["files.content"] == 3 + 1
    assert seen.noted("did so in each of 3 downloads; what they hold is kept")
    assert seen.noted("is paid for twice")


def test_quirk_19_a_new_file_that_is_not_visible_yet_is_waited_for(open_harness):
    """A create that is refused because its file is not visible yet is no failure: one upload and one batch per shard."""
    seen = run(open_harness(calls.FileLag()))

    seen.check_all_succeeded()
    assert len(seen.ledger.uploads) == len(seen.ledger.batches) == 2
    assert seen.ledger.calls["batches.create"] == 4


def test_quirk_19_a_file_that_stays_invisible_is_uploaded_again(open_harness):
    """After five refusals the file counts as lost and is uploaded once more; a note says so, and no batch is created twice."""
    harness = open_harness(calls.FileLag(on=("batches.create",), times=10, per_object=False))
    harness.runner = harness.open_runner(settle_seconds=SETTLE_SECONDS * 2)

    seen = run(harness)

    seen.check_all_succeeded()
    assert seen.noted("its file is gone at the provider, it is uploaded again")
    assert len(seen.ledger.uploads) > len(seen.ledger.batches) == 2


def test_quirk_20_a_result_file_that_is_gone_is_searched_for_then_paid_for_again(open_harness):
    """A file that stays 404 is requested six times, with growing pauses; then its requests are sent again.

    Its answers were produced and are lost, so each of them is bought once more.
    """
    harness = open_harness(calls.GoneFiles(on=("files.content",), times=6))
    harness.runner = harness.open_runner(settle_seconds=SETTLE_SECONDS)

    seen = run(harness, ONE_SHARD)

    seen.check_all_succeeded(bought_twice=len(ONE_SHARD))
    assert seen.noted("is not there (yet)")
    assert seen.ledger.calls["files.content"] == 6 + 1
    assert {line["attempts"] for line in seen.lines} == {2}


@taking_turns("status", {"413": 413, "400": 400})
def test_quirk_34_a_file_above_the_providers_limit_is_cut_smaller(open_harness, status):
    """The limit may be lower than documented: the shard is halved until its files are accepted, and nothing is lost."""
    limit = 4_000
    harness = open_harness(calls.UploadTooLarge(above_bytes=limit, status=status))
    harness.runner = harness.open_runner(capacity_wait_seconds=0.01)

    seen = run(harness)

    seen.check_all_succeeded()
    assert max(upload.bytes for upload in seen.ledger.uploads) <= limit
    assert len(seen.ledger.batches) > 2
    assert seen.noted("takes no file that large" if status == 413 else "refused permanently")


def test_quirk_34_a_file_above_the_emulators_own_limit_is_cut_smaller(open_harness):
    """The same with a limit among the server's rules, scaled down: it counts the bytes of the file, not of the call."""
    harness = open_harness(limits={"max_bytes": 4_000})
    harness.runner = harness.open_runner(capacity_wait_seconds=0.01)

    seen = run(harness)

    seen.check_all_succeeded()
    assert max(upload.bytes for upload in seen.ledger.uploads) <= 4_000
