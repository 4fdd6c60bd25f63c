"""How a workload is displayed."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from rich.spinner import Spinner

from batchkit import formatting
from batchkit.cli.render import display
from batchkit.cli.render.pace import Pace, time_left
from batchkit.engine import situation
from batchkit.engine.progress import WorkloadState
from batchkit.models import BatchProblem, FailureReason, RequestCountsByState, ShardState, Trouble
from batchkit.steps.split_plan import SplitPlan
from batchkit.store.events import Event
from batchkit.store.waits import Refusal
from tests.cli.snapshots import NOW, batch, finished, open_shards, snapshot, workload

WIDTHS = (40, 60, 80, 120, 200)


def drawn(renderable, width=100):
    """Render something as plain text at a width."""
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(renderable)
    return console.export_text()


def panel(progress, moment=None):
    """Render the live panel."""
    return display.live_panel(progress, moment or display.Moment(NOW), Spinner("dots"))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "make",
    [
        lambda: panel(snapshot()),
        lambda: display.status_view(snapshot()),
        lambda: display.status_view(finished(failed=3)),
        lambda: display.history_table([Event(1, 0.0, 12_345, "submitting -> submitted", "batch_" + "x" * 60)]),
        lambda: display.overview([snapshot(), finished(workload=workload("a-rather-long-name-" * 4))]),
    ],
)
def test_nothing_is_wider_than_the_terminal(make, width):
    """Every line fits from 40 columns on."""
    assert max(len(line) for line in drawn(make(), width).splitlines()) <= width


def test_the_panel_shows_all_figures():
    """Counts by state, shards, batches, failures, expiries, tokens, current activity and the estimate are all shown."""
    text = drawn(panel(snapshot(), display.Moment(NOW, waiting_until=NOW + 11, time_left="about 10 min")))
    for part in (
        "nightly",
        "running",
        "1 h 00 min",
        "3,900 succeeded",
        "90 failed",
        "10 cancelled",
        "1,200 answered, not downloaded",
        "3,800 in flight",
        "1,000 to send again",
        "5,190 of 10,000 answered (51.9 %), 3,990 downloaded",
        "5 submitted, 4 merged",
        "5 batches at the provider (4 in_progress, 1 validating)",
        "42 attempts expired without an answer; the requests wait to be sent again",
        "80  400 invalid_request: max_tokens is too large",
        "1.2M in, 7,654 out",
        "next check in 12 s",
        "about 10 min",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"shards": {ShardState.PLANNED: 100, ShardState.UPLOADED: 63, ShardState.SUBMITTED: 37}},
            "37 of 200 shards sent",
        ),
        ({"shards": {ShardState.ENDED: 10, ShardState.MERGED: 30}}, "30 of 40 shards merged"),
        ({"shards": {ShardState.SUBMITTED: 4}}, "checking the batches"),
        ({"state": WorkloadState.SPLITTING}, "cutting the input"),
        ({"state": WorkloadState.FINISHED}, "all done"),
    ],
)
def test_work_in_progress_is_named(fields, words):
    """A long wave shows its progress, read from the states of the shards."""
    assert words in display.activity(snapshot(**fields), display.Moment(NOW))


def test_only_the_most_frequent_failures_are_named():
    """Five reasons are named, and the rest is a number."""
    failures = [FailureReason(f"code_{number}", None, 10 - number, "") for number in range(8)]
    text = display.failures_text(failures).plain
    assert text.splitlines()[-1] == "12  with other codes"
    assert "code_4" in text
    assert "code_5" not in text


def test_a_long_message_takes_one_line_of_the_panel():
    """A sample of a thousand characters is cut to one line."""
    short = drawn(panel(snapshot()))
    long = drawn(panel(snapshot(failures=(FailureReason("a", 400, 1, "x" * 1_000), FailureReason("b", 400, 1, "y")))))
    assert len(long.splitlines()) == len(short.splitlines())


def test_the_status_shows_a_long_message_in_full():
    """It is not redrawn in place, so it may grow."""
    reason = FailureReason("a", 400, 1, " ".join(f"word{number}" for number in range(30)))
    text = drawn(display.status_view(snapshot(failures=(reason,))), 80)
    assert "word29" in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_a_hostile_message_stays_text():
    """Markup and escape sequences in a provider's text or in a name have no effect."""
    bad = "[red]\x1b[2Jboo"
    progress = snapshot(
        workload=workload(name=bad),
        failures=(FailureReason(bad, 400, 1, bad),),
        attention=(batch("failed", problems=(BatchProblem(bad),)),),
    )
    for view in (panel(progress), display.status_view(progress), display.overview([progress])):
        text = drawn(view, 120)
        assert "\x1b" not in text
        assert "[red]" in text


def test_batches_with_problems_are_shown_with_the_providers_message():
    """A failed batch shows the provider's message, and an expired one our own text."""
    failed = batch("failed", problems=(BatchProblem("line 3 is bad"), BatchProblem("line 4 is bad")))
    text = drawn(display.status_view(snapshot(attention=(failed, batch()))), 120)
    assert "the provider says: line 3 is bad (and 1 more)" in text
    assert "its window ran out" in text
    assert text.count("the provider says") == 1
    assert "700/1,000" in text


def test_a_long_list_of_batches_is_cut():
    """Ten are shown, and the others are counted."""
    assert "and 5 more" in drawn(display.status_view(snapshot(attention=(batch(),) * 15)))


def test_no_line_says_the_same_moment_twice():
    """The end of the windows stands with the batches, and not beside the time left again."""
    progress = snapshot()
    waits = situation.waits(progress)
    left = time_left(waits, Pace(), NOW, left=5)
    end = formatting.when(next(wait.until or 0.0 for wait in waits if wait.kind is situation.WaitKind.BATCHES), NOW)
    assert display.plain_line(progress, display.Moment(NOW, time_left=left)).count(end) == 1


def test_the_plain_line_has_the_numbers():
    """A log line has answered, downloaded, failed, in-flight and pending requests, and what it waits for until when."""
    line = display.plain_line(snapshot(), display.Moment(NOW, time_left="about 2 min if the present rate lasts"))
    since, until, due = (formatting.when(at, NOW) for at in (NOW - 3_600, NOW + 82_800, NOW + 120))
    assert line == (
        "nightly: 5,190 of 10,000 answered (51.9 %), 3,990 downloaded; 90 failed; 10 cancelled; 3,800 in flight;"
        f" 1,000 to send again; waiting for 5 batches at the provider (4 in_progress, 1 validating), since {since},"
        f" at the latest until {until}; waiting for 1,000 requests to be sent again, not before {due};"
        " time left: about 2 min if the present rate lasts"
    )


@pytest.mark.parametrize("progress", [snapshot(), finished(), snapshot(state=WorkloadState.SPLITTING)])
def test_all_displays_show_the_same_figures(progress):
    """Panel, status, list and log line show the same figures in the same words."""
    said = situation.answered_line(progress)
    for view in (panel(progress), display.status_view(progress)):
        assert said in " ".join(drawn(view, 120).split())
    assert said in display.plain_line(progress, display.Moment(NOW))


def test_an_outage_is_shown_in_the_panel_immediately():
    """It shows what is unreachable, since when, the number of tries, and when the command gives up."""
    trouble = Trouble("the provider cannot be reached: connection refused", NOW - 60, 5, NOW + 840)
    text = " ".join(drawn(panel(snapshot(), display.Moment(NOW, trouble=trouble)), 120).split())
    assert (
        f"the provider cannot be reached: connection refused; tried 5 times, since {formatting.when(NOW - 60, NOW)},"
        f" gives up at {formatting.when(NOW + 840, NOW)}" in text
    )


@pytest.mark.parametrize("width", [80, 100])
def test_a_terminal_of_80_columns_hides_no_figure(width):
    """Long lines are wrapped and not cut: every figure of every wait is readable."""
    work = {
        ShardState.PLANNED: open_shards(
            20,
            20_000,
            done=0,
            since=None,
            expires_at=None,
            refused=20,
            refused_requests=20_000,
            refused_until=NOW + 900,
        ),
        ShardState.SUBMITTED: open_shards(shards=4),
        ShardState.SUBMITTING: open_shards(1, 1_000, done=0, expires_at=None),
        ShardState.ENDED: open_shards(3, 3_000, done=2_990, expires_at=NOW),
    }
    refusal = Refusal("429 queue_full: too many batches are enqueued for this organisation, try later", NOW - 500, 4)
    counts = RequestCountsByState(total=1_234_567, in_flight=29_000, pending=1_000, succeeded=1_204_567)
    progress = snapshot(open_work=work, refusal=refusal, counts=counts)
    waits = situation.waits(progress)
    assert len(waits) == 5
    for view in (
        panel(progress, display.Moment(NOW, time_left="unknown: " + "x " * 50)),
        display.status_view(progress),
    ):
        lines = drawn(view, width).splitlines()
        assert max(map(len, lines)) <= width
        told = " ".join(" ".join(lines).replace("│", " ").split())
        for wait in waits:
            assert wait.line(NOW) in told


def test_a_finished_workload_shows_its_duration():
    """The clock of a finished workload stops at its last merge."""
    assert "59 min 00 s" in drawn(display.status_view(finished(read_at=NOW + 86_400)))


def test_the_overview_has_a_line_per_workload():
    """Each line has name, state, share and failures; small numbers are exact."""
    text = drawn(display.overview([snapshot(), finished(workload=workload("other"))]))
    assert "nightly    running" in text
    assert "51.9 %" in text
    assert "39.9 %" in text
    assert "other      finished" in text
    assert "100 %" in text


def test_the_overview_shows_names_whole_at_80_columns_and_cancelled_requests_as_such():
    """A name is copied from it; what was cancelled has not failed."""
    text = drawn(display.overview([snapshot(), finished(workload=workload("reviews-7a094d87"))]), width=80)
    assert "reviews-7a094d87   finished" in text
    assert "cancelled" in text
    counts = RequestCountsByState(total=3, succeeded=2, failed=1)
    assert "cancelled" not in drawn(display.overview([finished(counts=counts)]))


def test_requests_of_a_cancelled_workload_are_not_shown_as_pending():
    """The display does not say that requests of a cancelled workload are sent again."""
    progress = snapshot(workload=workload(cancel_requested_at=NOW))
    assert situation.expired_text(progress) == "42 attempts expired without an answer"
    assert (
        situation.expired_text(finished(expired_attempts=1))
        == "1 attempt expired without an answer; the requests were sent again"
    )


def test_requests_of_ended_batches_are_not_drawn_as_in_flight():
    """A batch that expired has no request in flight, though it is not merged yet; the list agrees."""
    ended = open_shards(5, 5_000, done=4_499)
    counts = RequestCountsByState(total=5_000, in_flight=5_000)
    text = drawn(panel(snapshot(counts=counts, batches={}, remote_done=0, open_work={ShardState.ENDED: ended})))
    assert "4,499 answered, not downloaded" in text
    assert "501 unanswered in ended batches" in text
    assert "in flight" not in text


def test_a_log_line_names_pending_requests_once():
    """They are among the figures, and are not repeated as a wait."""
    unsent = open_shards(20, 10_000, done=0, since=None, expires_at=None)
    counts = RequestCountsByState(total=10_000, in_flight=10_000)
    progress = snapshot(counts=counts, batches={}, remote_done=0, open_work={ShardState.PLANNED: unsent})
    line = display.plain_line(progress, display.Moment(NOW))
    assert line == "nightly: 0 of 10,000 answered (0 %), 0 downloaded; 10,000 not sent"


def test_a_plan_shows_shards_bytes_endpoints_models_and_tokens():
    """The dry run shows the shards and the estimated tokens."""
    plan = SplitPlan(
        requests=1_500,
        bytes=2_500_000,
        shards=(("/v1/chat/completions", 1_000, 1_700_000), ("/v1/chat/completions", 500, 800_000)),
        endpoints={"/v1/chat/completions": 1_500},
        models={"openai/gpt-oss-20b": 1_500},
        prompt_tokens=120_000,
        completion_tokens=0,
        shard_lines=1_000,
        window="24h",
        warnings={"body.[odd] is odd": 3},
    )
    text = drawn(display.plan_view("nightly", plan), 120)
    for part in (
        "nightly: nothing was sent",
        "1,500 (2.5 MB)",
        "2 shards of up to 1,000 requests, window 24h",
        "/v1/chat/completions: 1,500 requests in 2 shards, the largest 1.7 MB",
        "openai/gpt-oss-20b: 1,500 requests",
        "about 120.0k in, no limit on the tokens out",
        "3 requests: body.[odd] is odd",
    ):
        assert part in text
    limited = drawn(display.plan_view("nightly", replace(plan, completion_tokens=64_000)), 120)
    assert "at most 64.0k out" in limited


def test_an_empty_workload_causes_no_division_by_zero():
    """A workload without requests is displayed, too."""
    progress = snapshot(
        counts=RequestCountsByState(), shards={}, batches={}, failures=(), attention=(), open_work={}, remote_done=0
    )
    assert "0 of 0 answered (0 %), 0 downloaded" in drawn(panel(progress))
