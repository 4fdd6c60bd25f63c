"""Progress while a command runs, on a terminal and elsewhere."""

from __future__ import annotations

import io
import logging
import threading
from dataclasses import replace

import pytest
from rich.console import Console

from batchkit import formatting
from batchkit.cli.render import console as consoles
from batchkit.cli.render.live import Counts, LivePanel, PlainLines, Quiet, reporter
from batchkit.errors import StoreUnavailable
from batchkit.models import RequestCountsByState, Trouble
from batchkit.store.runners import RunnerRow
from tests.cli.snapshots import NOW, finished, snapshot, workload
from tests.clock import FakeClock


class Terminal(io.StringIO):
    """A file that pretends to be a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def plain(read, clock):
    """Return a reporter of plain lines and the file that it writes to."""
    console = Console(file=io.StringIO(), width=40)
    return PlainLines(console, read, clock), console.file


def moved(done):
    """Return a snapshot with this many requests done."""
    counts = RequestCountsByState(total=100, in_flight=100 - done, succeeded=done)
    return snapshot(counts=counts, remote_done=0, open_work={}, resubmit_at=None)


def lines_of(file):
    """Return the lines written so far, without their time of day."""
    return [line.split(" ", 1)[1] for line in file.getvalue().splitlines()]


def test_a_plain_line_appears_on_change_and_not_too_often(clock):
    """An unchanged line is not repeated, and fast changes are shown every ten seconds."""
    done = [0]
    lines, file = plain(lambda: [moved(done[0])], clock)
    lines.read_now()
    lines.read_now()
    assert len(lines_of(file)) == 1
    done[0] = 10
    clock.advance(5)
    lines.read_now()
    assert len(lines_of(file)) == 1
    clock.advance(5)
    lines.read_now()
    assert lines_of(file)[1].startswith("nightly: 10 of 100 answered (10.0 %), 10 downloaded")
    clock.advance(100)
    lines.read_now()
    assert len(lines_of(file)) == 2


def test_a_log_line_is_never_broken(clock):
    """However narrow the log seems to be, one event is one line."""
    lines, file = plain(lambda: [snapshot()], clock)
    lines.read_now()
    lines.note("x" * 200)
    assert len(lines_of(file)) == 2


def test_the_same_note_is_not_repeated_at_every_poll(clock):
    """A repeated note is printed only after a while."""
    lines, file = plain(list, clock)
    for _ in range(10):
        lines.note("the provider is away")
        clock.advance(60)
    assert lines_of(file) == ["the provider is away"] * 2


def test_errors_of_reading_are_left_to_the_command(clock):
    """The display never ends a run: it does not show what it cannot read."""

    def read():
        raise StoreUnavailable("locked")

    lines, file = plain(read, clock)
    lines.read_now()
    assert file.getvalue() == ""


def test_the_estimate_comes_from_observed_progress(clock):
    """After two steps forward the line has an estimate."""
    done = [0]
    lines, file = plain(lambda: [replace(moved(done[0]), read_at=clock())], clock)
    for step in range(6):
        done[0] = step * 10
        lines.read_now()
        clock.advance(30)
    assert "time left: unknown (too early to tell from the answers so far)" in lines_of(file)[1]
    assert "time left: about 3 min if the present rate lasts" in lines_of(file)[5]


def test_an_outdated_estimate_is_replaced_in_the_log(clock):
    """A new line comes although nothing else has changed: the last one would state an end that no longer holds."""
    done = [0]
    lines, file = plain(lambda: [replace(moved(done[0]), read_at=clock())], clock)
    for step in range(7):
        done[0] = step * 10
        lines.read_now()
        clock.advance(30)
    assert "time left: about" in lines_of(file)[-1]
    for _ in range(3):
        clock.advance(30)
        lines.read_now()
    assert "time left: unknown (no answer for" in lines_of(file)[-1]
    assert "60 of 100" in lines_of(file)[-1]


def test_a_silent_log_repeats_the_state_of_the_work(clock):
    """It does so every quarter of an hour, although nothing has changed."""
    lines, file = plain(lambda: [moved(10)], clock)
    for _ in range(61):
        lines.read_now()
        clock.advance(60)
    assert len(lines_of(file)) == 5


def test_an_outage_is_one_line_when_it_begins_and_one_when_it_ends(clock):
    """This holds for any number of tries, although each leaves a note with the same words."""
    found: list[Trouble | None] = [None]
    console = Console(file=io.StringIO(), width=40)
    lines = PlainLines(console, list, clock, trouble=lambda: found[0])
    lines.check_for_trouble()
    assert lines_of(console.file) == []
    began = clock()
    for tries in range(1, 6):
        found[0] = Trouble("the provider cannot be reached: connection refused", began, tries, began + 900)
        lines.check_for_trouble()
        lines.note(f"the provider cannot be asked: try {tries}: connection refused")
        clock.advance(100)
    found[0] = None
    lines.check_for_trouble()
    lines.check_for_trouble()
    lines.note("12 requests expired")
    assert lines_of(console.file) == [
        (
            "the provider cannot be reached: connection refused; tried 1 time,"
            f" since {formatting.when(began, began)}, gives up at {formatting.when(began + 900, began)}"
        ),
        "the provider answers again after 8 min 20 s (5 tries)",
        "12 requests expired",
    ]


def test_the_end_of_a_wait_for_the_database_does_not_mention_the_provider(clock):
    """The line says that the work continues."""
    found: list[Trouble | None] = [Trouble("the database is locked", clock(), 1)]
    console = Console(file=io.StringIO(), width=40)
    lines = PlainLines(console, list, clock, trouble=lambda: found[0])
    lines.check_for_trouble()
    clock.advance(3)
    found[0] = None
    lines.check_for_trouble()
    assert lines_of(console.file)[1] == "the work continues after 3 s (1 try)"


def test_the_tries_of_an_outage_are_no_lines_of_their_own(clock):
    """A log line of an unchanged workload is not repeated because of one more try."""
    tries = [0]

    def trouble():
        tries[0] += 1
        return Trouble("the provider cannot be reached: connection refused", NOW, tries[0])

    row = RunnerRow("me", "run", "host", None, NOW, "the provider cannot be reached: connection refused; tried 7 times")
    console = Console(file=io.StringIO(), width=40)
    lines = PlainLines(console, lambda: [replace(moved(10), runners=(row,))], clock, trouble=trouble)
    for _ in range(20):
        lines.check_for_trouble()
        lines.read_now()
        clock.advance(20)
    said = lines_of(console.file)
    assert len(said) == 2
    assert "tried 7 times" not in " ".join(said)


def test_figures_that_change_as_an_outage_ends_are_shown_after_its_end(clock):
    """No line says both that answers have come and that the provider does not answer."""
    found: list[Trouble | None] = [None]
    done = [10]
    console = Console(file=io.StringIO(), width=40)
    lines = PlainLines(console, lambda: [moved(done[0])], clock, trouble=lambda: found[0])
    lines.read_now()
    found[0] = Trouble("the provider cannot be reached: connection refused", clock(), 1)
    lines.check_for_trouble()
    done[0] = 50
    clock.advance(20)
    lines.read_now()
    found[0] = None
    lines.check_for_trouble()
    lines.read_now()
    said = lines_of(console.file)
    assert len(said) == 4
    assert "50 of 100 answered" in said[3]
    assert "cannot be reached" not in said[3]


def test_an_outage_is_shown_while_the_database_cannot_be_read(clock):
    """A blocked reading thread does not block the report, and the panel shows the outage without figures."""
    console = Console(file=Terminal(), width=100, force_terminal=True)
    trouble = Trouble("the database is away: connection refused", clock(), 1)
    panel = LivePanel(console, list, clock, trouble=lambda: trouble)
    panel.check_for_trouble()
    with console.capture() as capture:
        console.print(panel._render())
    assert "the database is away: connection refused; tried 1 time, since" in capture.get()


def test_a_terminal_is_not_blank_before_the_first_figures(clock):
    """Loading and reading are shown, and then replaced by the figures."""
    console = Console(file=Terminal(), width=80, force_terminal=True)
    with console.capture() as capture:
        console.print(LivePanel(console, list, clock)._render())
    assert "reading where the work stands" in capture.get()
    file = Terminal()
    with consoles.busy(Console(file=file, width=80, force_terminal=True), "loading"):
        pass
    # At the end the cursor moves up over it.
    assert "\x1b[1A\x1b[2K" in file.getvalue().partition("loading")[2]
    log = io.StringIO()
    with consoles.busy(Console(file=log), "loading"):
        pass
    assert log.getvalue() == ""


def test_the_panel_is_redrawn_and_then_removed():
    """The panel counts down, notes appear above it, and at the end the summary takes its place."""
    clock = FakeClock(NOW)
    shown = threading.Event()
    file = Terminal()
    console = Console(file=file, width=80, force_terminal=True)

    def read():
        shown.set()
        return [snapshot()]

    with LivePanel(console, read, clock) as panel:
        assert shown.wait(10)
        panel.read_now()
        panel.waiting(NOW + 11)
        panel._live.refresh()
        panel.note("a note")
    text = file.getvalue()
    assert "next check in 12 s" in text
    assert "a note" in text
    # It is erased line by line: the cursor moved up over the panel at the end.
    assert "\x1b[1A" in text[text.rindex("a note") :]


def test_several_workloads_share_the_panel():
    """Without a name, every open workload has a line."""
    console = Console(file=Terminal(), width=80, force_terminal=True)
    second = snapshot(workload=workload("second", id=2))
    panel = LivePanel(console, lambda: [finished(), second], FakeClock(NOW))
    panel.read_now()
    with console.capture() as capture:
        console.print(panel._render())
    assert "nightly" in capture.get()
    assert "second" in capture.get()
    assert "checking the batches" in capture.get()


@pytest.mark.parametrize(
    ("is_for_machines", "on_terminal", "kind"),
    [(True, True, Quiet), (True, False, Quiet), (False, True, LivePanel), (False, False, PlainLines)],
)
def test_the_reader_determines_the_reporter(is_for_machines, on_terminal, kind):
    """Machines get nothing, terminals get a panel, and logs get lines."""
    console = Console(file=io.StringIO())
    assert type(reporter(console, list, is_for_machines=is_for_machines, on_terminal=on_terminal)) is kind


def test_a_reporter_for_machines_prints_nothing(capfd):
    """With --json, even notes are dropped."""
    with Quiet() as quiet:
        quiet.note("a note")
        quiet.waiting(None)
    assert capfd.readouterr() == ("", "")


def test_colour_in_a_file_does_not_make_it_a_terminal(monkeypatch):
    """FORCE_COLOR asks for colour, not for a panel that moves the cursor in a log."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not consoles.is_live(Console(file=io.StringIO()))
    monkeypatch.setenv("TERM", "xterm")
    assert consoles.is_live(Console(file=Terminal()))
    monkeypatch.setenv("TERM", "dumb")
    assert not consoles.is_live(Console(file=Terminal()))


def test_the_log_goes_to_the_terminal_at_the_requested_level(capfd):
    """Warnings are always shown, and calls on request; other log handlers get the same in both cases."""
    logger = logging.getLogger("batchkit.provider")
    for verbose, seen in ((False, ["warning batchkit.provider: careful"]), (True, ["debug batchkit.provider: a call"])):
        consoles.log_to(consoles.stderr(), verbose=verbose)
        logger.debug("a call")
        logger.info("a fact")
        logger.warning("careful")
        lines = [line.split(" ", 1)[1] for line in capfd.readouterr().err.splitlines()]
        assert set(seen) <= set(lines)
        assert len(lines) == (3 if verbose else 1)
        assert logger.isEnabledFor(logging.INFO)


def test_counting_shows_its_progress():
    """A known total gives a bar, an unknown one a count; without a display nothing is written."""
    file = Terminal()
    console = Console(file=file, width=80, force_terminal=True)
    for label, total, more in (("writing", 10, 4), ("checking", None, 1_234)):
        counts = Counts(console, is_shown=True)
        counts.begin(label, total)
        counts.advance(label, more)
        counts.end(label)
    assert "4/10" in file.getvalue()
    assert "1,234" in file.getvalue()
    silent = io.StringIO()
    counts = Counts(Console(file=silent, force_terminal=True), is_shown=False)
    counts.begin("writing", 10)
    counts.advance("writing", 4)
    counts.end("writing")
    assert silent.getvalue() == ""
