"""``batchkit eval`` as a user types it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from batchkit.emulator import Scenario
from batchkit.emulator.faults.answers import WrongAnswers
from batchkit.emulator.faults.lines import FailLines
from tests.cli.conftest import _own_folder, batchkit, open_emulator
from tests.evaluation.support import REVIEWS, SMALL, write_reviews, write_suite

__all__ = ["_own_folder", "batchkit", "open_emulator"]

CONTENTS = ('{"label":"positive"}', '{"label":"negative"}')


@pytest.fixture
def suite():
    """Write a suite and its table into the working folder."""
    write_reviews(Path(), 60)
    return write_suite(Path())


def test_a_fall_is_exit_code_5_with_the_rows_that_fell(batchkit, open_emulator, suite):
    """The first night passes; on the second the alarm goes off, with what changed, for people and for machines."""
    emulator = open_emulator()
    first = batchkit("eval", suite, "--no-prefect")
    assert first.code == 0, first.err
    assert "reviews-1: first" in first.out
    assert "0.940 - 1.000" in first.out
    wrong = WrongAnswers(contents=CONTENTS, fraction=0.4, models=frozenset({SMALL}))
    emulator.set_scenario(Scenario(faults=(wrong,)))
    second = batchkit("eval", suite, "--no-prefect")
    assert second.code == 5, second.err
    assert "compared with reviews-1" in second.out
    assert "rows that fell:" in second.out
    assert "reviews-2: regressed: accuracy of openai/gpt-oss-20b fell by" in second.out
    again = batchkit("eval", suite, "--no-prefect", "--run", "reviews-2", "--json")
    assert (again.code, again.json["exit_code"], again.json["verdict"]) == (5, 5, "regressed")
    assert {change["is_alarm"] for change in again.json["changes"]} == {True, False}
    third = batchkit("eval", suite, "--no-prefect", "--against", "passed", "--json")
    assert (third.code, third.json["previous"]) == (5, "reviews-1")


def test_a_baseline_that_is_not_there_is_refused_before_anything_is_sent(batchkit, open_emulator, suite):
    """A misspelt or unfinished run would compare nothing, and pass."""
    emulator = open_emulator()
    ended = batchkit("eval", suite, "--no-prefect", "--against", "review-1")
    assert ended.code == 2, ended.err
    assert "there is no evaluation 'review-1'" in ended.err
    batchkit("eval", suite, "--no-prefect", "--submit-only")
    sent = emulator.ledger().totals.batches
    ended = batchkit("eval", suite, "--no-prefect", "--run", "other", "--against", "reviews-1")
    assert ended.code == 2, ended.err
    assert "the run 'reviews-1' is not finished" in ended.err
    assert emulator.ledger().totals.batches == sent


def test_failed_requests_without_a_fall_are_exit_code_3(batchkit, open_emulator, suite):
    """The run is finished, and something is to be looked at."""
    open_emulator(FailLines(count=1, status=400))
    ended = batchkit("eval", suite, "--no-prefect")
    assert ended.code == 3, ended.err
    assert "first: nothing to compare with: this is the first run; " in ended.out
    assert "answers failed" in ended.out or "answer failed" in ended.out


def test_what_is_submitted_is_collected_by_the_same_command(batchkit, open_emulator, suite):
    """--submit-only lets go and says how to come back; then the run is finished under the same name."""
    open_emulator()
    ended = batchkit("eval", suite, "--no-prefect", "--submit-only")
    assert ended.code == 0, ended.err
    assert "reviews-1: 1 batch with 120 requests submitted" in ended.out
    assert "collect:   batchkit eval reviews.yaml --no-prefect" in ended.out
    assert "reviews-1: first" in batchkit("eval", suite, "--no-prefect").out


def test_a_report_is_written_where_it_is_asked_for(batchkit, open_emulator):
    """The suite may name it with the run's name in it, relative to itself."""
    open_emulator()
    write_reviews(Path(), 5)
    ended = batchkit("eval", write_suite(Path(), f"{REVIEWS}\nreport: '{{run}}.html'\n"), "--no-prefect")
    assert ended.code == 0, ended.err
    assert "reviews-1.html" in ended.out
    assert "reviews-1" in Path("reviews-1.html").read_text(encoding="utf-8")


def test_a_suite_that_is_wrong_is_exit_code_2_with_its_lines(batchkit, open_emulator):
    """Everything that is wrong is named, and nothing is sent."""
    emulator = open_emulator()
    ended = batchkit("eval", write_suite(Path(), REVIEWS.replace("models:", "modles:")))
    assert ended.code == 2
    assert "reviews.yaml:5:1: there is no key 'modles'; did you mean 'models'?" in ended.err
    assert "nothing was sent" in ended.err
    assert emulator.ledger().calls == {}
    assert batchkit("eval").code == 2
    assert batchkit("eval", "a.yaml", "--deploy", "suites").code == 2


def test_a_stored_suite_that_cannot_be_read_is_an_error_of_every_page(batchkit, open_emulator, suite):
    """Another version of batchkit wrote it: report and export say so; it is no bug."""
    open_emulator()
    assert batchkit("eval", suite, "--no-prefect").code == 0
    with sqlite3.connect(".batchkit/batchkit.db") as database:
        database.execute("UPDATE evaluations SET definition = '{}'")
    for words in (("report", "reviews-1"), ("export", "reviews-1", "scored.csv", "--scored")):
        ended = batchkit(*words)
        assert (ended.code, "the suite of 'reviews-1' cannot be read" in ended.err) == (2, True), ended.err
        assert "another version of batchkit" in ended.err
