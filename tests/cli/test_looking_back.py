"""``runs``, ``compare``, ``export --scored`` and the verdict in ``status``, as a user types them."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from batchkit.cli.render import looked_back
from batchkit.emulator import Scenario
from batchkit.evaluation.past_runs import PastRun, RunScore
from batchkit.evaluation.results import Metric
from batchkit.evaluation.side_by_side import MetricOfRuns, PairedChange, RunCompared, RunsCompared
from tests.evaluation.support import SMALL, write_reviews, write_suite, wrong

STARTED = 1_770_000_000.0


@pytest.fixture
def suite():
    """Write a suite and its table into the working folder."""
    write_reviews(Path(), 40)
    return write_suite(Path())


def drawn(parts, width=80, **console):
    """Return what a terminal of this width shows."""
    file = StringIO()
    screen = Console(file=file, width=width, **console)
    for part in parts:
        screen.print(part)
    return file.getvalue()


def past_run(place, mean, difference=None, **values):
    """Return a run with one score."""
    p_value = None if difference is None else (0.001 if abs(difference) > 0.1 else 0.4)
    score = RunScore(
        "accuracy",
        "prompt",
        SMALL,
        300,
        mean,
        mean - 0.05,
        min(mean + 0.04, 1.0),
        difference,
        None,
        None,
        p_value,
        is_alarm=difference is not None and difference < -0.15,
    )
    given = {
        "run": f"reviews-{place}",
        "suite": "reviews",
        "number": place,
        "kind": "series",
        "derived_from": None,
        "started_at": STARTED + place * 86_400,
        "finished_at": STARTED + place * 86_400 + 60,
        "scheduled_for": None,
        "verdict": "passed",
        "failed_answers": 0,
        "scores": (score,),
        "cost_usd": 0.0123,
    }
    return PastRun(**{**given, **values})


NIGHTS = (
    past_run(1, 0.93, verdict="first"),
    past_run(2, 0.94, 0.01),
    past_run(3, 0.75, -0.19, verdict="regressed", failed_answers=12),
    past_run(4, 0.61, -0.14, cost_usd=None, previous="reviews-2"),
    past_run(5, 0.88, 0.27),
    past_run(6, 0.5, number=None, kind="partial"),
    past_run(
        7,
        0.2,
        run="reviews-1.rescored-1",
        number=None,
        kind="rescored",
        derived_from="reviews-1",
        verdict="rescored",
        cost_usd=None,
    ),
    past_run(8, 0.2, verdict="unfinished", failed_answers=None, scores=(), cost_usd=None, finished_at=None),
)


def test_the_runs_have_a_table_and_a_chart_of_80_columns():
    """Words beside the figures say what colours say; runs outside the series are not in the chart."""
    text = drawn(looked_back.runs_view(NIGHTS))
    table, chart = text.split("accuracy of gpt-oss-20b")
    assert max(map(len, text.splitlines())) <= 80
    assert "reviews-3" in table
    assert "12" in table
    assert "$0.0123" in table
    assert "reviews-8: nothing is sent yet\n" in table
    assert "passed, partial" in table
    assert "reviews-6: some rows only, outside the series\n" in table
    assert "reviews-1.rescored-1: answers of reviews-1 scored again, outside the series\n" in table
    assert "reviews-4: compared with reviews-2\n" in table
    lines = [line.split() for line in chart.splitlines()[1:]]
    assert lines[0] == ["0.50", "1.00"]
    assert [line[0] for line in lines[1:]] == [f"reviews-{number}" for number in range(1, 6)]
    assert [line[1:4] for line in lines[2:]] == [
        ["0.940", "+0.010", lines[2][3]],
        ["0.750", "-0.190", "ALARM"],
        ["0.610", "-0.140", "fell"],
        ["0.880", "+0.270", "rose"],
    ]
    rows = chart.splitlines()[2:]
    middles = [row.index("●") for row in rows]
    assert middles[3] < middles[2] < middles[4] < middles[0] <= middles[1]
    for row in rows:
        assert row.index("├") < row.index("●") < row.index("┤")


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_nothing_is_wider_than_the_terminal(width):
    """Also with long names and several metrics."""
    long = [past_run(number, 0.9, 0.01, run=f"a-rather-long-name-of-a-suite-{number}") for number in (1, 2)]
    assert max(map(len, drawn(looked_back.runs_view([*NIGHTS, *long]), width).splitlines())) <= width
    assert max(map(len, drawn(looked_back.compared_view(compared(6)), width).splitlines())) <= width


def test_an_interval_of_nothing_has_a_chart():
    """All runs may have the same mean without any spread."""
    same = past_run(1, 1.0)
    score = RunScore("accuracy", "prompt", SMALL, 3, 1.0, 1.0, 1.0)
    assert "●" in drawn(looked_back.runs_view([past_run(1, 1.0, scores=(score,)), same]))


def compared(count):
    """Return runs side by side."""
    names = tuple(f"reviews-{number}" for number in range(1, count + 1))
    metric = Metric("accuracy", "prompt", SMALL, None, 300, 0.912, 0.88, 0.94, "wilson", 0)
    change = PairedChange(
        "accuracy", "prompt", SMALL, None, 0.91, 0.75, -0.16, -0.2, -0.1, 300, 60, 12, "mcnemar", 0.0001, 0.0002
    )
    of_slice = PairedChange(
        "accuracy", "prompt", SMALL, "language=de", 0.9, 0.9, 0.0, -0.1, 0.1, 100, 5, 5, "mcnemar", 1.0, 1.0
    )
    return RunsCompared(
        names,
        (
            MetricOfRuns("accuracy", "prompt", SMALL, None, (metric,) * count),
            MetricOfRuns("accuracy", "prompt", SMALL, "language=de", (metric, *(None,) * (count - 1))),
        ),
        tuple(RunCompared(name, ("the prompt changed",), (change, of_slice), None, ()) for name in names[1:]),
    )


def test_the_differences_come_first():
    """Then the metrics side by side, then each comparison; slices only where they changed."""
    text = drawn(looked_back.compared_view(compared(2)))
    assert text.startswith("reviews-1 -> reviews-2: the prompt changed\n")
    side_by_side, comparison = text.split("reviews-2 compared with reviews-1")
    assert "language=de" in side_by_side
    assert "language=de" not in comparison
    for figure in ("300", "-0.160", "-0.200 -0.100", "60", "12", "<0.001"):
        assert figure in comparison


def test_many_runs_are_in_several_tables():
    """No column is too narrow for its figures."""
    text = drawn(looked_back.compared_view(compared(9)))
    assert text.count("0.912") == 9 + 1


def test_looking_back_as_a_user_types_it(batchkit, open_emulator, suite):
    """Two nights; then every verb tells them, for people and for machines."""
    emulator = open_emulator()
    assert batchkit("runs").out == "no runs yet\n"
    batchkit("eval", suite, "--no-prefect")
    emulator.set_scenario(Scenario(faults=(wrong(0.5),)))
    assert batchkit("eval", suite, "--no-prefect").code == 5
    batchkit("eval", suite, "--no-prefect", "--submit-only")

    for words in (("runs",), ("runs", suite), ("runs", "reviews")):
        ended = batchkit(*words)
        assert ended.code == 0, ended.err
        assert "accuracy of gpt-oss-20b" in ended.out
        assert "ALARM" in ended.out
    known = batchkit("runs", "--json").json
    assert [run["run"] for run in known["runs"]] == ["reviews-1", "reviews-2", "reviews-3"]
    assert [run["verdict"] for run in known["runs"]] == ["first", "regressed", "unfinished"]
    assert known["schema_version"] == 1
    assert known["runs"][2]["progress"]["total"] == 80
    assert known["runs"][1]["scores"][0]["difference"] < -0.3
    assert len(batchkit("runs", "--limit", "1", "--json").json["runs"]) == 1
    assert batchkit("runs", "reviws").code == 2

    ended = batchkit("compare", "reviews-1", "reviews-2")
    assert ended.code == 0, ended.err
    assert "reviews-2 compared with reviews-1" in ended.out
    value = batchkit("compare", "reviews-1", "reviews-2", "--json").json
    assert value["comparisons"][0]["changes"][0]["difference"] < -0.3
    assert batchkit("compare", "reviews-1", "reviews-3").code == 2
    assert "is not finished" in batchkit("compare", "reviews-1", "reviews-3").err
    assert batchkit("compare", "reviews-1").code == 2

    ended = batchkit("export", "reviews-2", "scored.csv", "--scored")
    assert (ended.code, ended.out) == (0, "80 rows written to scored.csv\n")
    assert batchkit("export", "reviews-3", "other.csv", "--scored").code == 2
    assert batchkit("export", "reviews-2", "reviews.csv", "--scored").code == 2
    assert batchkit("export", "reviews-2", "plain.csv").out == "80 lines written to plain.csv\n"

    assert batchkit("status", "reviews-2", "--json").json["evaluation"] == {
        "run": "reviews-2",
        "suite": "reviews",
        "verdict": "regressed",
    }
    found = batchkit("status", "--json").json["workloads"]
    assert [one["evaluation"]["verdict"] for one in found] == ["first", "regressed", "unfinished"]
    assert "regressed" in batchkit("status").out
    assert "reviews-2: regressed (suite reviews)" in batchkit("status", "reviews-2").out


def test_without_a_database_nothing_is_created(batchkit):
    """As ``status``."""
    for words in (("runs",), ("compare", "a", "b"), ("export", "a", "b.csv", "--scored")):
        ended = batchkit(*words)
        assert ended.code == 2, ended.err
        assert "does not exist" in ended.err
    assert list(Path().iterdir()) == []
