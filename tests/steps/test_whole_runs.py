"""Whole runs under one fault each: every request ends once, in its place, and nothing is bought that need not be."""

from __future__ import annotations

import pytest

from batchkit.drive import WaveKind
from batchkit.emulator.faults import batches, calls, lines
from tests.workloads import chat_line, mixed_line, write_lines, write_mixed

EVERY_FAULT = {
    "no fault": [],
    "output in another order": [batches.ShuffleOutput()],
    "expired lines in the error file": [lines.ExpireLines(fraction=0.3, attempts=1)],
    "expired lines in neither file": [lines.ExpireLines(fraction=0.3, attempts=1), batches.UnlistedLines()],
    "everything expires once": [lines.ExpireLines(attempts=1)],
    "lines in neither file": [lines.DropLines(count=3, attempts=1)],
    "lines in neither file and counts that deny it": [
        lines.DropLines(count=3, attempts=1),
        batches.LyingCounts(say="all-completed"),
    ],
    "counts that are null": [batches.LyingCounts(say="null")],
    "replies of the first calls lost": [calls.LoseReply(on=("files.create", "batches.create"))],
    "create answers 500 after accepting": [calls.LoseReply(on=("batches.create",), how="500")],
    "the list lags behind create": [calls.LoseReply(on=("batches.create",)), batches.ListLag(calls=2)],
    "refused by a gateway now and then": [calls.GatewayErrors(on=("files", "batches.retrieve"), every=3)],
    "rate limited": [calls.RateLimit(on=("files.create", "batches.create"), retry_after=0.05, wait="50ms")],
    "downloads cut, noticed by length": [calls.CutDownloads(times=1, per_object=True)],
    "downloads cut, ending cleanly": [calls.CutDownloads(times=1, per_object=True, how="close-delimited")],
    "files not visible at first": [calls.FileLag()],
    "no file written as an empty object": [batches.NoFileAs(value="object")],
    "files of zero bytes": [batches.EmptyFiles()],
    "statuses that are skipped": [batches.SkipStatuses(), batches.SparseTimestamps()],
    "a status nobody knows": [batches.RenameStatus()],
    "extra and missing fields": [batches.ExtraFields(), batches.OmitFields()],
    "repeated answers": [lines.DuplicateLines(count=3, second="error")],
    "answers to nobody": [lines.UnknownLines(count=3)],
    "lines that are not JSON": [lines.BreakLines(count=2, attempts=1)],
    "status code zero": [lines.ZeroStatusLines(fraction=0.1, attempts=1)],
    "successes without a body": [lines.HollowSuccesses(fraction=0.1, attempts=1, how="null-body")],
    "server errors": [lines.FailLines(fraction=0.1, attempts=1, status=503)],
    "raw line separators inside strings": [lines.RawSeparators()],
    "a full queue": [batches.FailBatches(batches=frozenset({1}))],
    "a batch that fails without naming a line": [
        batches.FailBatches(batches=frozenset({1}), code="mystery", message="No.")
    ],
    "an upload that is too large": [calls.UploadTooLarge(above_bytes=4_000)],
    "list pages that overlap": [calls.LoseReply(on=("batches.create",)), calls.ListPages(how="overlap")],
}


@pytest.mark.parametrize("faults", EVERY_FAULT.values(), ids=EVERY_FAULT.keys())
def test_every_request_succeeds_once_in_its_place(open_bench, faults):
    """Whatever passes is survived: all succeed, in input order, on their own rows, and no success is paid twice."""
    bench = open_bench(*faults)

    progress = bench.run(60)

    exported = bench.export()
    assert progress.all_succeeded
    assert [line["custom_id"] for line in exported] == [mixed_line(number)["custom_id"] for number in range(60)]
    assert {line["status"] for line in exported} == {"succeeded"}
    ledger = bench.emulator.ledger()
    keys = [batch.metadata["batchkit_key"] for batch in ledger.batches]
    assert len(set(keys)) == len(keys)
    assert ledger.totals.bought_twice <= _unavoidable(faults)


def _unavoidable(faults) -> int:
    """Count the answers that the provider made and then withheld: only these may be bought again."""
    return 6 if any(isinstance(fault, lines.BreakLines) for fault in faults) else 0


def test_refused_requests_fail_with_the_providers_words(open_bench):
    """A 4xx inside a line is final: the request fails with code and message, is not sent again, and the rest succeed."""
    bench = open_bench(lines.FailLines(fraction=0.2, code="bad_thing", message="This cannot be."))

    progress = bench.run(60)

    failed = [line for line in bench.export() if line["status"] == "failed"]
    assert progress.is_finished
    assert not progress.all_succeeded
    assert progress.counts.failed == len(failed) > 0
    assert {(line["error"]["code"], line["attempts"]) for line in failed} == {("bad_thing", 1)}
    assert {line["response"]["status_code"] for line in failed} == {400}
    assert progress.failures[0].sample == "This cannot be."
    assert bench.emulator.ledger().totals.requests_executed == 60


def test_a_request_that_always_errs_ends(open_bench):
    """A request whose every ride ends in a server error fails after its budget, counted exactly."""
    bench = open_bench(lines.FailLines(custom_ids=frozenset({"row-0000000"}), status=500))

    progress = bench.run(20, max_attempts=3)

    line = bench.export()[0]
    assert (line["status"], line["attempts"]) == ("failed", 3)
    assert progress.counts.succeeded == 19
    assert bench.emulator.ledger().executions("row-0000000") == 3


def test_a_request_that_always_expires_ends(open_bench):
    """A request that expires every time fails after its own budget, and says that it expired."""
    bench = open_bench(lines.ExpireLines(custom_ids=frozenset({"row-0000000"})))

    bench.run(20, max_expiries=2)

    line = bench.export()[0]
    assert (line["status"], line["attempts"], line["error"]["code"]) == ("failed", 2, "batch_expired")
    assert bench.emulator.ledger().executions("row-0000000") == 0


def test_after_expiry_shards_are_smaller_and_windows_longer(open_bench):
    """What expired rides again with half the lines and twice the time, within what the user allowed."""
    bench = open_bench(lines.ExpireLines(attempts=1))

    bench.run(300, shard_lines=300, max_window="36h")

    windows = [(batch.window, batch.total) for batch in _by_time(bench)]
    assert [window for window, _ in windows[:2]] == ["24h", "24h"]
    assert {window for window, _ in windows[2:]} == {"36h"}
    assert max(count for _, count in windows[2:]) == 135


def _by_time(bench):
    return sorted(bench.emulator.ledger().batches, key=lambda batch: batch.created_at)


def test_a_named_bad_line_does_not_take_its_shard_down(open_bench):
    """A batch refused because of one named line: that request fails with the provider's words, the others succeed."""
    bench = open_bench(batches.FailBatches(batches=frozenset({1}), code="invalid_thing", message="Line 1.", line=1))

    progress = bench.run(20, shard_lines=50)

    failed = [line for line in bench.export() if line["status"] == "failed"]
    assert progress.counts.failed == 1
    assert [line["error"] for line in failed] == [{"code": "invalid_thing", "message": "Line 1."}]


def test_a_batch_that_vanished_is_noticed_and_its_requests_ride_again(open_bench):
    """A batch that the provider no longer knows is recorded as gone, after looking more than once, and sent again."""
    bench = open_bench(batches.GoneBatches(batches=frozenset({1})))

    progress = bench.run(20, shard_lines=50)

    assert progress.all_succeeded
    assert {batch.status for batch in progress.attention} == {"gone"}


def test_a_file_that_is_gone_for_good_is_recorded_and_its_requests_ride_again(open_bench):
    """An output file that stays away for several looks is given up, and only then are its requests sent again."""
    bench = open_bench(calls.GoneFiles(on=("files.content",)))
    source = write_lines(bench.home.parent / "input.jsonl", [chat_line(f"row-{number}") for number in range(20)])
    workload = bench.split(source)
    looks: list[int] = []

    def files_come_back(wave, report):
        if wave.kind is WaveKind.MERGE:
            looks.append(report.counts.get("to be sent again", 0))
        if looks and looks[-1]:
            bench.emulator.set_scenario("clean")

    progress = bench.runner.process(workload.id, on_wave=files_come_back)

    assert progress.all_succeeded
    assert looks == [0, 0, 0, 0, 0, 20, 0]
    assert bench.emulator.ledger().totals.requests_executed == 40


def test_a_stuck_batch_is_cancelled_and_given_up_past_its_expiry(open_bench):
    """A batch that never ends is asked to cancel after a grace period, and its requests ride again."""
    bench = open_bench(batches.StuckBatches(batches=frozenset({1})), batches.SkewedClock(seconds=-1e9))
    bench.runner = bench.open_runner(stuck_seconds=0.2)

    progress = bench.run(20, shard_lines=50)

    assert progress.all_succeeded
    assert bench.emulator.ledger().calls["batches.cancel"] >= 1


def test_answers_whose_file_is_named_late_are_waited_for(open_bench):
    """A batch that ends with answers but without a file id is asked again: what was paid for is not sent again."""
    bench = open_bench(batches.HideFiles())
    source = write_mixed(bench.home.parent / "input.jsonl", 20)
    workload = bench.split(source, shard_lines=50)
    notes: list[str] = []

    def file_ids_appear(_wave, report):
        notes.extend(report.notes)
        if any("names no file" in note for note in report.notes):
            bench.emulator.set_scenario("clean")

    progress = bench.runner.process(workload.id, on_wave=file_ids_appear)

    assert any("names no file" in note for note in notes)
    assert progress.all_succeeded
    assert bench.emulator.ledger().totals.requests_executed == 20
